"""What a language model can do when it is only shown examples: few-shot prompting as GPT-3 was (arXiv:2005.14165).

    hf-replearn prompt --model out/gpt --tasks copa,sst2 --data_root path/to/data --output_dir out/gpt_prompting
    accelerate launch recipes/prompt.py --model gpt2 --tasks agnews,copa --shots 0,1,4,16 --seeds 5 --output_dir out/g
    hf-replearn prompt --model out/gpt --tasks path/to/task.yaml --limit 200 --output_dir out/mine

Tasks are files in lm-evaluation-harness's format, or names of those in recipes/tasks. For every task and K: the mean
over draws of the examples, its interval, and how much of it comes from the test set, the draw and the order. Beside it,
where choices are labels, a linear probe of the frozen features that learns from the very same examples.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings, as_dict, run, setting

SHIPPED = Path(__file__).parent / "tasks"
SHOTS, SEEDS = (0, 1, 4, 16), 5
RESULTS, CURVES = "results.json", "shots.png"


@dataclass(kw_only=True)
class PromptSettings(RunSettings):
    model: str = setting(..., "folder or Hub id of a causal language model with its tokenizer", section="model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "of the weights; auto: bfloat16 on a GPU, float32 on a CPU", section="model"
    )
    tasks: str = setting(..., "task files, or names of shipped tasks, with commas between", section="data")
    data_root: str | None = setting(None, "folder with local copies of the tasks' Hub data", section="data")
    limit: int | None = setting(None, "documents of a task, drawn at random; none: all", section="data", at_least=1)
    shots: tuple[int, ...] | None = setting(
        None,
        "numbers of examples K; none: as the task says, or 0,1,4,16",
        section="evaluation",
        at_least=0,
        at_most=100_000,
    )
    seeds: int | None = setting(
        None, "draws of the examples; none: as the task says, or 5", section="evaluation", at_least=1, at_most=1000
    )
    orders: int | None = setting(
        None, "orders of each draw; none: as the task says, or 1", section="evaluation", at_least=1, at_most=1000
    )
    probe: bool = setting(True, "a linear probe on the same examples beside it", section="evaluation")
    strict: bool = setting(
        False, "stop at a document that cannot be asked or has a token across its prompt's end", section="evaluation"
    )
    add_to_card: bool = setting(False, "add the scores to the report and card of --model, a folder", section="run")


@dataclass
class Asked:
    """A task with its data. bad: {"document", "reason"} of those that cannot be asked."""

    task: Any
    rows: Any
    examples: Any
    documents: list
    bad: list[dict]


def main(settings: PromptSettings) -> None:
    """What a language model can do when it is only shown examples, in its prompt, and not trained on them."""
    import transformers
    from accelerate import PartialState

    from hf_replearn.evaluation.prompting.few_shot import Decoder, Examples, read_documents
    from hf_replearn.evaluation.prompting.probe import Probe, can_be_probed
    from hf_replearn.evaluation.prompting.summary import PROBE, draw_curves, summarise, table
    from hf_replearn.evaluation.prompting.tasks import find_task, load_splits, load_task
    from hf_replearn.sharing.card import extendable

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Tasks and their data. What can be wrong with them is found out here, before the model is read.
    state = PartialState(cpu=settings.use_cpu)
    names = [name.strip() for name in settings.tasks.split(",") if name.strip()]
    tasks = [with_settings(load_task(find_task(name, SHIPPED)), settings) for name in names]
    report = extendable(settings.model) if settings.add_to_card else None
    with state.main_process_first():
        data = [(task, *load_splits(task, settings.data_root)) for task in tasks]
    asked = {}
    for task, rows, pool in data:
        documents, bad = read_documents(task, rows, limit=settings.limit)
        examples = Examples(task, pool, same_split=task.evaluation_split == task.shots_split)
        asked[task.task] = Asked(task, rows, examples, documents, bad)
        check(asked[task.task], {}, strict=settings.strict)
        examples.draw(documents[0], plan(task, settings)[-1])  # raises where there are too few

    # 2. The model
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "float32" if state.device.type == "cpu" else "bfloat16"
    decoder = Decoder.load(settings.model, dtype=dtype, device=state.device)

    # 3. Ask: every K, draw and order, each process its part of the documents; and what a linear probe makes of them
    results: dict[str, Any] = {"settings": as_dict(settings), "model": fingerprint(decoder), "tasks": {}}
    summaries: dict = {}
    for name, task in asked.items():
        runs = {condition: ask(state, decoder, task, condition) for condition in plan(task.task, settings)}
        check(task, runs, strict=settings.strict)
        if not state.is_main_process:
            continue
        lines = {name: summarise(task.task, runs)}
        if settings.probe and can_be_probed(task.task):
            probe = Probe(decoder, task.task, task.examples, task.documents)
            probed = {c: probe.records(records) for c, records in runs.items() if all(r["shots"] for r in records)}
            if probed:
                lines[name + PROBE] = {"acc": summarise(task.task, probed)["acc"]}
        print(f"\n{table(lines)}", flush=True)
        summaries |= lines
        results["tasks"][name] = {
            "task": task.task.settings(),
            "documents": hashlib.blake2b(repr(task.documents).encode(), digest_size=8).hexdigest(),
            "bad": task.bad,
            "summary": lines,
            "runs": [{**condition._asdict(), "documents": records} for condition, records in runs.items()],
        }
    if not state.is_main_process:
        return

    # 4. Share
    out = Path(settings.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    write_results(out, results)
    draw_curves(summaries).savefig(out / CURVES, dpi=120)
    write_eval_results(out, [task.task for task in asked.values()], summaries)
    print(f"\n{table(summaries)}\n\nevery answer: {out / RESULTS}\ncurves over K: {out / CURVES}")
    if report is not None:
        add_to_card(settings, next(iter(report.rows), report.method.name), asked, summaries)
    for name, task in asked.items():
        if task.bad:
            raise InputError(
                f"results are written, but {len(task.bad)} documents of {name} could not be asked; the first: "
                f"{task.bad[0]['reason']}"
            )


def with_settings(task, settings: PromptSettings):
    """The task with K, draws and orders as the command line, the file or the defaults have them."""
    ours = task.replearn
    from_file = ours.shots or ([task.num_fewshot] if task.num_fewshot is not None else SHOTS)
    shots = sorted(set(settings.shots if settings.shots is not None else from_file))
    extension = replace(
        ours, shots=shots, seeds=settings.seeds or ours.seeds or SEEDS, orders=settings.orders or ours.orders
    )
    return replace(task, replearn=extension)


def plan(task, settings: PromptSettings) -> list:
    """Every condition of a task, smaller K first."""
    from hf_replearn.evaluation.prompting.few_shot import conditions

    seeds = range(settings.seed, settings.seed + task.replearn.seeds)
    return conditions(task, task.replearn.shots, list(seeds), task.replearn.orders)


def ask(state, decoder, asked: Asked, condition) -> list[dict]:
    """The records of all documents, on every process. Those that are too long are added to the bad ones."""
    from hf_replearn.evaluation.prompting.few_shot import few_shot

    mine = asked.documents[state.process_index :: state.num_processes]
    records, unfit = few_shot(decoder, asked.task, asked.rows, asked.examples, mine, condition)
    if state.num_processes > 1:
        records, unfit = gather(records, state.device), gather(unfit, state.device)
    known = {entry["document"] for entry in asked.bad}
    asked.bad.extend(sorted((entry for entry in unfit if entry["document"] not in known), key=lambda r: r["document"]))
    return sorted(records, key=lambda record: record["document"])


def gather(records: list[dict], device) -> list[dict]:
    """The records of all processes, on each of them; they travel as JSON, not as pickles."""
    import torch
    from accelerate import utils

    text = torch.tensor(list(json.dumps(records).encode()), dtype=torch.uint8, device=device)
    sizes = utils.gather(torch.tensor([len(text)], device=device)).tolist()
    padded = torch.nn.functional.pad(text, (0, max(sizes) - len(text)))
    parts = utils.gather(padded).view(len(sizes), -1).cpu()
    return [
        record for part, size in zip(parts, sizes, strict=True) for record in json.loads(bytes(part[:size].tolist()))
    ]


def check(asked: Asked, runs: dict, *, strict: bool) -> None:
    """Raises InputError where nothing is left to ask, or, if `strict`, anything is odd."""
    left = len(asked.documents) if not runs else min(map(len, runs.values()))
    if asked.bad and (strict or not left):
        raise InputError(asked.bad[0]["reason"])
    odd = [record["document"] for records in runs.values() for record in records if "encoded_apart" in record]
    if strict and odd:
        raise InputError(
            f"task {asked.task.task}, document {odd[0]}: a token lies across the end of its prompt (--strict)"
        )


def fingerprint(decoder) -> dict[str, Any]:
    """What tells two models apart: name, number and type of weights, and a hash of their sums."""
    weights = {name: p.double().sum().item() for name, p in decoder.model.named_parameters()}
    return {
        "name": decoder.model.config.name_or_path,
        "architecture": type(decoder.model).__name__,
        "parameters": sum(p.numel() for p in decoder.model.parameters()),
        "dtype": str(decoder.model.dtype).removeprefix("torch."),
        "packed": decoder.packed,
        "weights": hashlib.blake2b(repr(sorted(weights.items())).encode(), digest_size=8).hexdigest(),
    }


def write_results(out: Path, results: dict) -> None:
    """A file that is whole at any time."""
    from hf_replearn.sharing.report import finite, software_versions

    new = out / f"{RESULTS}.new"
    new.write_text(json.dumps(finite(results | {"versions": software_versions()}), ensure_ascii=False) + "\n")
    new.replace(out / RESULTS)


def write_eval_results(out: Path, tasks: list, summaries: dict) -> None:
    """`.eval_results/<task>.yaml` for each task whose data has a Hub id."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    for task in tasks:
        if "/" not in task.dataset_path:
            continue
        entries = [
            EvalResultEntry(
                dataset_id=task.dataset_path,
                task_id=task.dataset_name or task.task,
                value=round(found["mean"], 4),
                date=datetime.date.today().isoformat(),
                notes=f"{metric}, {shots}-shot, mean of {task.replearn.seeds if shots else 1} draws of the examples",
            )
            for metric, by_shots in summaries[task.task].items()
            for shots, found in by_shots.items()
        ]
        (out / ".eval_results").mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
        (out / ".eval_results" / f"{task.task}.yaml").write_text(content)


def add_to_card(settings: PromptSettings, model: str, asked: dict, summaries: dict) -> None:
    """Adds the scores and their curves to the card of --model."""
    from hf_replearn.evaluation.prompting.summary import rows_of
    from hf_replearn.sharing.card import extend_card

    rows: dict[str, dict] = {}
    protocols: dict[str, str] = {}
    for found in asked.values():
        task = found.task
        protocol = (
            f"{', '.join(summaries[task.task])} on {len(found.documents):,} of {len(found.rows):,} documents "
            f"({task.evaluation_split} of {task.task}) when K examples, @K, stand in the prompt; mean over "
            f"{task.replearn.seeds} draws of these with the 95 % interval over documents and draws. Linear probe: "
            "logistic regression on the mean of the frozen last layer, fitted to the same K examples."
        )
        for row, scores in rows_of(task, summaries).items():
            rows.setdefault(row or model, {}).update(scores)
            protocols |= {metric.split("@")[0]: protocol for metric in scores}
    shutil.copyfile(Path(settings.output_dir, CURVES), Path(settings.model, CURVES))
    caption = (
        "Score over the number K of examples in the prompt, and of a linear probe of the frozen features that learns "
        "from the same examples; bands are 95 % intervals."
    )
    extend_card(settings.model, rows, protocols=protocols, figures={CURVES: caption})


if __name__ == "__main__":
    run(main, PromptSettings, prog="prompt")
