"""Few-shot log-likelihoods beside lm-evaluation-harness: the same task files, the same numbers, and the time they take.

    python -m benchmarks.few_shot [--documents 200] [--rounds 3] [--threads 1]

Needs lm-eval (the `bench` extra) and no network. A byte-level BPE tokenizer (8,192 words) is trained on Python's own
sources; a GPT-2 (6 layers, 256 wide, 1,024 positions) and a Llama of the same size have random weights, of a size that
makes log-likelihoods differ.

Parity: four tasks (four choices, two labels, choices by template, a target's log-likelihood) with 0 and 16 first_n
shots, and four with shots redrawn by lm-eval, on both models: lm-eval's contexts byte for byte, its log-likelihoods,
its answers.

Speed: 16 shots, prompts of about 480 tokens, GPT-2. lm-eval is timed around its `loglikelihood` (tokens and forwards),
at the fastest of several batch sizes; ours around all of `few_shot` (draws, templates, tokens and forwards). Both run
in turns on the same threads. Ratios are of processor seconds, which other work on the machine disturbs least; wall
times stand beside them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import statistics
import sysconfig
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}

import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks._machine import machine, write_result
from hf_replearn.evaluation.prompting import (
    Condition,
    Decoder,
    Examples,
    few_shot,
    load_splits,
    load_task,
    read_documents,
)
from hf_replearn.evaluation.prompting.few_shot import _Asked
from hf_replearn.evaluation.prompting.prompts import Prompt, encode
from hf_replearn.evaluation.prompting.tasks import Extension

SHOTS, VOCABULARY, BATCH_SIZES = 16, 8192, (4, 8, 16, 32)
GOALS = {"choices": 8, "labels": 3, "choices_redrawn": 4, "labels_redrawn": 0.95}
QUESTION = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "label",
}
TASKS = {
    "choices": QUESTION | {"doc_to_choice": "{{choices}}"},
    "labels": QUESTION | {"doc_to_text": "Review: {{question}}\nSentiment:", "doc_to_choice": ["negative", "positive"]},
    "template": QUESTION
    | {
        "description": "Choose.\n\n",
        "doc_to_text": "{{question}} because",
        "doc_to_choice": "{{[choices[0], choices[1]|upper]}}",
        "doc_to_target": "{{label % 2}}",
        "fewshot_delimiter": "\n",
    },
    "target": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question.rsplit(' ', 1)[0]}}",
        "doc_to_target": "{{' ' + question.rsplit(' ', 1)[1]}}",
        "target_delimiter": "",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="for both sides")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        words = make_data(folder, options.documents)
        tokenizer = make_tokenizer(folder, words)
        decoders = {name: Decoder.of(model, tokenizer) for name, model in make_models(tokenizer).items()}
        parity = {
            f"{name}, {task}": compare(folder, decoder, task)
            for name, decoder in decoders.items()
            for task in parity_tasks()
        }
        for name, found in parity.items():
            print(f"{name:28} {found}", flush=True)
        speed = {
            task: race(folder, decoders["gpt2"], task, documents=options.documents, rounds=options.rounds)
            for task in GOALS
        }
    print(f"{'':16} {'ratio':>6} {'goal':>5} {'wall':>6} {'lm-eval s':>10} {'ours s':>7}")
    for task, found in speed.items():
        print(
            f"{task:16} {found['ratio']:6.2f} {GOALS[task]:5} {found['wall_ratio']:6.2f} "
            f"{found['lm_eval_seconds']:10.1f} {found['ours_seconds']:7.2f}"
        )
    result = {
        "benchmark": "few_shot",
        "parity": parity,
        "speed": speed,
        "goals": GOALS,
        "how": "processor seconds, medians over rounds in turns; lm-eval's loglikelihood alone, all of ours",
        "machine": machine(),
    }
    write_result("few_shot", result)


# ---- data and models


def make_data(folder: Path, documents: int) -> list[str]:
    """Questions of words of Python's own sources with four choices; task files that both tools read."""
    rng = random.Random(0)
    counts: Counter = Counter()
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:200]:
        counts.update(re.findall(r"[a-z]{4,9}", file.read_text(encoding="utf-8", errors="ignore")))
    words = [word for word, _ in counts.most_common(3000)]

    def some(count: int) -> str:
        return " ".join(rng.choice(words) for _ in range(count))

    for split, count in (("train", 64), ("test", documents)):
        rows = [
            {
                "question": f"the {some(16)}",
                "choices": [some(rng.randint(2, 5)) for _ in range(4)],
                "label": rng.randrange(4),
            }
            for _ in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{split}_labels.jsonl").write_text(
            "".join(json.dumps(row | {"label": row["label"] % 2}) + "\n" for row in rows)
        )
    for name, fields in TASKS.items():
        suffix = "_labels" if name == "labels" else ""
        files = {split: str(folder / f"{split}{suffix}.jsonl") for split in ("train", "test")}
        for sampler in ("first_n", "default"):
            task = {"task": f"{name}_{sampler}", "dataset_path": "json", "dataset_kwargs": {"data_files": files}}
            task |= {"training_split": "train", "test_split": "test", "fewshot_split": "train"}
            task |= {
                "fewshot_config": {"sampler": sampler},
                "num_fewshot": SHOTS,
                "metric_list": [{"metric": "acc"}],
            } | fields
            (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    return words


def make_tokenizer(folder: Path, words: list[str]) -> PreTrainedTokenizerFast:
    rng = random.Random(1)
    text = [Path(file).read_text(encoding="utf-8", errors="ignore") for file in sorted(folder.glob("*.jsonl"))]
    text += [" ".join(rng.choice(words) for _ in range(12)) for _ in range(4000)]
    text += ["Question: \nAnswer: \n\nReview: \nSentiment: negative", "\nSentiment: positive"] * 50
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(text, vocab_size=VOCABULARY, min_frequency=2, special_tokens=["<|endoftext|>"])
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe.to_str()), bos_token=end, eos_token=end, pad_token=end
    )


def make_models(tokenizer) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.08}
    gpt2 = GPT2Config(vocab_size=VOCABULARY, n_positions=1024, n_embd=256, n_layer=6, n_head=8, **ends)
    llama = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, intermediate_size=688, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024, **ends,
    )  # fmt: skip
    return {"gpt2": GPT2LMHeadModel(gpt2).eval(), "llama": LlamaForCausalLM(llama).eval()}


# ---- lm-eval


class Theirs:
    """lm-eval on one task: what it asked, what it found, and the seconds inside its loglikelihood."""

    def __init__(self, folder: Path, decoder: Decoder, task: str, *, documents: int, shots: int, batch_size: int):
        lm = HFLM(pretrained=decoder.model, tokenizer=decoder.tokenizer, batch_size=batch_size, dtype="float32")
        inner = lm.loglikelihood

        def timed(requests, **options):
            wall, processor = time.perf_counter(), time.process_time()
            found = inner(requests, **options)
            self.wall, self.processor = time.perf_counter() - wall, time.process_time() - processor
            return found

        lm.loglikelihood = timed
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found = simple_evaluate(
            model=lm, tasks=[task], task_manager=manager, num_fewshot=shots, limit=documents, log_samples=True,
            bootstrap_iters=0, verbosity="ERROR",
        )  # fmt: skip
        samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
        self.logprobs = [[float(response[0][0]) for response in sample["resps"]] for sample in samples]
        self.asked = [
            [(pair["arg_0"], pair["arg_1"]) for pair in sample["arguments"].values()]
            if isinstance(sample["arguments"], dict)
            else [tuple(pair) for pair in sample["arguments"]]
            for sample in samples
        ]


# ---- ours


def ours(folder: Path, task: str, *, documents: int, draw: str = "seed"):
    task = replace(load_task(folder / f"{task}.yaml"), replearn=Extension(draw=draw))
    rows, pool = load_splits(task)
    return task, rows, Examples(task, pool, same_split=False), read_documents(task, rows)[0][:documents]


def parity_tasks() -> list[tuple[str, int]]:
    return [(f"{name}_first_n", shots) for name in TASKS for shots in (0, SHOTS)] + [
        (f"{name}_default", 8) for name in TASKS
    ]


def compare(folder: Path, decoder: Decoder, which: tuple[str, int], documents: int = 24) -> dict:
    """Contexts, log-likelihoods and answers beside lm-eval's; where its draw is random, its contexts are scored."""
    name, shots = which
    theirs = Theirs(folder, decoder, name, documents=documents, shots=shots, batch_size=8)
    task, rows, examples, asked = ours(folder, name, documents=documents)
    found = {"shots": shots, "documents": len(asked)}
    if name.endswith("first_n"):
        condition = Condition(shots, 0, 0)
        build = _Asked(decoder, task, rows, examples, condition)
        prompts = [build.prompt(document, examples.draw(document, condition)) for document in asked]
        texts = [[(prompt.context, text) for text in prompt.continuations] for prompt in prompts]
        found["same_contexts"] = texts == theirs.asked
        records, bad = few_shot(decoder, task, rows, examples, asked, condition)
        assert not bad and not any("encoded_apart" in record for record in records)
        logprobs = [record["logprobs"] for record in records]
    else:
        prompts = [Prompt(pairs[0][0], tuple(text for _, text in pairs)) for pairs in theirs.asked]
        logprobs = [
            [score.logprob for score in scores] for scores in decoder.score(encode(decoder.tokenizer, prompts)[0])
        ]
    pairs = list(zip(logprobs, theirs.logprobs, strict=True))
    found["largest_difference"] = max(abs(a - b) for xs, ys in pairs for a, b in zip(xs, ys, strict=True))
    found["mean_size"] = round(statistics.mean(abs(a) for xs, _ in pairs for a in xs), 1)
    found["same_answers"] = sum(xs.index(max(xs)) == ys.index(max(ys)) for xs, ys in pairs)
    return found


def race(folder: Path, decoder: Decoder, name: str, *, documents: int, rounds: int) -> dict:
    """In turns: lm-eval at its best batch size, and ours."""
    kind, redrawn = name.split("_")[0], name.endswith("redrawn")
    task_file = f"{kind}_{'default' if redrawn else 'first_n'}"
    few = min(16, documents)
    trials = {
        size: Theirs(folder, decoder, task_file, documents=few, shots=SHOTS, batch_size=size).processor
        for size in BATCH_SIZES
    }
    best = min(trials, key=trials.get)
    task, rows, _, asked = ours(folder, task_file, documents=documents, draw="document" if redrawn else "seed")
    times: dict[str, list[float]] = {"their_wall": [], "theirs": [], "our_wall": [], "ours": []}
    for _ in range(rounds):
        theirs = Theirs(folder, decoder, task_file, documents=documents, shots=SHOTS, batch_size=best)
        examples = Examples(task, load_splits(task)[1], same_split=False)
        wall, processor = time.perf_counter(), time.process_time()
        few_shot(decoder, task, rows, examples, asked, Condition(SHOTS, 0, 0))
        times["our_wall"].append(time.perf_counter() - wall)
        times["ours"].append(time.process_time() - processor)
        times["theirs"].append(theirs.processor)
        times["their_wall"].append(theirs.wall)
        print(name, best, {key: round(values[-1], 2) for key, values in times.items()}, flush=True)
    median = {key: statistics.median(values) for key, values in times.items()}
    length = statistics.mean(len(decoder.tokenizer(pairs[0][0])["input_ids"]) for pairs in theirs.asked)
    return {
        "ratio": round(median["theirs"] / median["ours"], 2),
        "wall_ratio": round(median["their_wall"] / median["our_wall"], 2),
        "lm_eval_seconds": round(median["theirs"], 2),
        "ours_seconds": round(median["ours"], 2),
        "runs": {key: [round(value, 2) for value in values] for key, values in times.items()},
        "documents": documents,
        "prompt_tokens": round(length),
        "lm_eval_batch_size": best,
    }


if __name__ == "__main__":
    main()
