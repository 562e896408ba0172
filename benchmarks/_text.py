"""What the text benchmarks share: the rows both sides read, the rival's Trainer, ours, the clock, and the picture.

T tokens a row
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments, set_seed

from benchmarks._machine import RESULTS, machine, write_result
from hf_replearn import architectures
from hf_replearn.data.rows import pack_rows
from hf_replearn.data.text import load_corpus
from hf_replearn.data.tokenization import find_tokenizer, special_tokens, vocabulary_size
from hf_replearn.pretraining.recipe import TextSettings
from hf_replearn.pretraining.texts import Objective, make_trainer
from hf_replearn.training.trainer import PretrainingTrainer

Point = dict[str, float]  # step, seconds, loss
REFERENCE, OURS = "Trainer", "hf_replearn"
LENGTH = 128
# Ours for two layers and hundreds of steps. The recipe's defaults are lower: these diverge in deeper or longer runs.
RATES = {"learning_rate": 1e-2, "muon_learning_rate": 1e-2, "weight_decay": 0.01, "warmup": 0.05}


class Text(NamedTuple):
    """train, test: columns input_ids (T) and length, every row full. special: (V,) bool, V a multiple of 64."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    train: Dataset
    test: Dataset
    special: Tensor


class Sides(Protocol):
    """The trainers of both sides over the same rows, and the loss of a native model on held-out rows."""

    def reference(self, *, seed: int, steps: int, batch: int, **settings) -> Trainer: ...

    def ours(self, **settings) -> PretrainingTrainer: ...

    def evaluate(self, model: PreTrainedModel) -> float: ...


def load_text(dataset: str, architecture: str, *, vocab_size: int, length: int, test_rows: int) -> Text:
    """The corpus in rows of `length` tokens of a tokenizer trained on it: the same file for both sides."""
    corpus = load_corpus(dataset)
    kind = architectures.TOKENIZERS[architecture]
    tokenizer = find_tokenizer(corpus, named=None, init=None, kind=kind, vocab_size=vocab_size, lowercase=False)
    train, test = (pack_rows(part, tokenizer, length=length) for part in (corpus.train, corpus.test))
    train, test = (rows.select(np.flatnonzero(np.array(rows["length"][:]) == length)) for rows in (train, test))
    test = test.shuffle(seed=0).select(range(min(test_rows, len(test))))
    return Text(
        corpus.name, tokenizer, train, test, special_tokens(tokenizer, architectures.padded(vocabulary_size(tokenizer)))
    )


def reference_trainer(
    model: Callable[[], PreTrainedModel],
    rows: Dataset,
    collator: Callable,
    *,
    seed: int,
    steps: int,
    batch: int,
    **settings,
) -> Trainer:
    """transformers.Trainer as its examples use it: AdamW, 10 % linear warm-up, linear decay to 0; `settings`: further
    TrainingArguments."""
    set_seed(seed)
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=batch,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    return Trainer(model=model(), args=args, train_dataset=rows, data_collator=collator)


def our_trainer(
    model: Callable[[str], PreTrainedModel],
    rows: Dataset,
    collator: Callable,
    *,
    settings: TextSettings,
    attention: str | None = None,
) -> PretrainingTrainer:
    """What the recipe makes of `settings`; model: attention implementation -> <Method>ForPreTraining. attention: None:
    that of the recipe."""
    set_seed(settings.seed)
    args = settings.text_arguments()
    args.disable_tqdm, args.save_strategy = True, "no"
    wrapped = model(attention or architectures.attention_implementation(args.device, bf16=args.bf16))
    if settings.zero_init:
        architectures.zero_output_projections(wrapped)
    settings = replace(settings, torch_compile=settings.torch_compile is True)  # auto: a benchmark is short
    special = torch.zeros(0, dtype=torch.bool)
    objective = Objective(collator, judge=collator, special=special, around={})
    return make_trainer(settings, args, wrapped, objective, rows, given={})


def our_settings(**changed) -> TextSettings:
    """The recipe's defaults but for what is `changed`, without checkpoints or logs."""
    quiet = {"save_steps": 10**9, "logging_steps": 10**9, "report_to": "none"}
    return TextSettings(output_dir=tempfile.mkdtemp(), dataset="tokens", **quiet, **changed)


class Curve(TrainerCallback):
    """The loss of a native model in float32 after given steps, and the seconds trained until then, evaluation apart."""

    def __init__(self, evaluate: Callable[[], float], marks: Iterable[int], *, clock: Callable[[], float]):
        self.evaluate, self.marks, self.clock = evaluate, set(marks), clock
        self.points: list[Point] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds, self.since = 0.0, self.clock()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.marks or state.global_step == state.max_steps:
            self.seconds += self.clock() - self.since
            self.points.append({"step": state.global_step, "seconds": self.seconds, "loss": self.evaluate()})
            print("step {step:5d}  {seconds:7.1f} s  held-out loss {loss:.4f}".format(**self.points[-1]), flush=True)
            self.since = self.clock()


class Pace(TrainerCallback):
    """The seconds of a step, from the end of the second to the end of the last, with the data's loading."""

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.ends = clock, []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (2, state.max_steps):
            self.ends.append(self.clock())
            self.seconds = (self.ends[-1] - self.ends[0]) / max(state.global_step - 2, 1)


@torch.no_grad()
def mean_loss(model: nn.Module, batches: list[dict[str, Tensor]], total: Callable[..., Tensor]) -> float:
    """Mean over all predictions; total: (model, batch) -> sum of the losses, number of predictions."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    batches = ({name: column.to(device) for name, column in batch.items()} for batch in batches)
    sums = sum(torch.stack(total(model, batch)).double() for batch in batches)
    model.train(was_training)
    return (sums[0] / sums[1]).item()


def train(
    trainer: Trainer,
    evaluate: Callable[[nn.Module], float],
    *,
    evaluations: int,
    clock: Callable[[], float] = time.process_time,
) -> list[Point]:
    """Trains; the curve of the native model's loss over seconds."""
    native = trainer.model.model if isinstance(trainer, PretrainingTrainer) else trainer.model
    steps = trainer.args.max_steps
    marks = {round(steps * (n + 1) / evaluations) for n in range(evaluations)}
    print(type(trainer).__name__, f"seed {trainer.args.seed}, learning rate {trainer.args.learning_rate:g}", flush=True)
    curve = Curve(partial(evaluate, native), marks, clock=clock)
    trainer.add_callback(curve)
    trainer.train()
    return curve.points


def seconds_to(loss: float, points: list[Point]) -> float | None:
    """When a curve was first seen at or below `loss`; None: never."""
    return next((point["seconds"] for point in points if point["loss"] <= loss), None)


def time_to_loss(
    reference: Callable[..., list[Point]],
    ours: Callable[..., list[Point]],
    *,
    learning_rates: list[float],
    seeds: int,
) -> dict:
    """The reference's learning rate is tuned with the first seed: tried are `learning_rates`, and neighbours by factors
    of two for as long as the best one has only one. Then both run with every seed."""
    tuning: dict[float, list[Point]] = {}
    todo = list(learning_rates)
    while todo:
        tuning |= {rate: reference(seed=0, learning_rate=rate) for rate in todo}
        best = min(tuning, key=lambda rate: tuning[rate][-1]["loss"])
        todo = [rate for rate, edge in ((best / 2, min), (best * 2, max)) if best == edge(tuning)]
    runs = {REFERENCE: [tuning[best]], OURS: []}
    for seed in range(seeds):
        runs[OURS].append(ours(seed=seed))
        if seed:
            runs[REFERENCE].append(reference(seed=seed, learning_rate=best))
    took = {REFERENCE: [], OURS: []}
    for seed in range(seeds):
        target = runs[REFERENCE][seed][-1]["loss"]
        for name in took:
            took[name].append(seconds_to(target, runs[name][seed]))
    reached = None not in took[OURS]
    return {
        "ratio": statistics.mean(took[REFERENCE]) / statistics.mean(took[OURS]) if reached else 0.0,
        "ratio_of_each_seed": [a / b if b else 0.0 for a, b in zip(*took.values(), strict=True)],
        "cpu_seconds_to_the_reference_s_final_loss": took,
        "final_loss": {name: [points[-1]["loss"] for points in curves] for name, curves in runs.items()},
        "reference_learning_rate": best,
        "tuning": {str(rate): points[-1]["loss"] for rate, points in sorted(tuning.items())},
        "curves": runs,
    }


def throughput(
    trainers: dict[str, Callable[[], Trainer]],
    *,
    tokens: int,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict:
    """Tokens a second of whole Trainer steps with `tokens` tokens, a few steps of each in turn; medians."""
    seconds = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, make in trainers.items():
            trainer, pace = make(), Pace(clock)
            trainer.add_callback(pace)
            trainer.train()
            seconds[name].append(pace.seconds)
            print(f"{name:24s} {pace.seconds:.3f} s a step", flush=True)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "ratio": medians[REFERENCE] / medians[OURS],
        "times_as_fast_as_the_reference": {name: medians[REFERENCE] / median for name, median in medians.items()},
        "tokens_per_second": {name: tokens / median for name, median in medians.items()},
        "seconds_per_step": medians,
    }


def plot(result: dict, name: str, *, title: str) -> None:
    """Both losses over CPU seconds, a line for each seed, to results/<name>.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for side, colour in ((REFERENCE, "tab:gray"), (OURS, "tab:blue")):
        for seed, points in enumerate(result["curves"][side]):
            seconds, losses = zip(*((point["seconds"], point["loss"]) for point in points), strict=True)
            axes.plot(seconds, losses, color=colour, marker=".", lw=1.3, alpha=0.8, label=None if seed else side)
    target = statistics.mean(result["final_loss"][REFERENCE])
    axes.axhline(target, color="tab:gray", lw=0.8, ls=":")
    took = [statistics.mean(times) for times in result["cpu_seconds_to_the_reference_s_final_loss"].values()]
    axes.annotate(
        f"{took[0]:.0f} s against {took[1]:.0f} s: {result['ratio']:.1f} times",
        (took[1], target),
        (0.35, 0.6),
        textcoords="axes fraction",
        arrowprops={"arrowstyle": "->", "color": "black", "lw": 0.8},
    )
    axes.set(xlabel="CPU seconds on one thread", ylabel="loss on held-out text", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(RESULTS / f"{name}.png", dpi=120)


def compare(
    sides_of: Callable[[Text, str], Sides],
    *,
    architecture: str,
    name: str,
    required: tuple[float, float],
    our_steps: int,
    description: str,
) -> None:
    """The command of both benchmarks. required: the ratios of the time to the loss, and of the throughput."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="text: a folder, a file, a Hub id or toy")
    parser.add_argument("--throughput", action="store_true", help="only the tokens a second")
    parser.add_argument("--steps", type=int, default=600, help="of the reference")
    parser.add_argument("--our_steps", type=int, default=our_steps)
    parser.add_argument("--batch", type=int, default=16, help="rows")
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3], help="of the reference")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test_rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4, help="of --throughput")
    args = parser.parse_args()
    torch.set_num_threads(1)
    size, vocab_size, args.batch = ("mini", 16384, 32) if args.throughput else ("tiny", 8192, args.batch)
    text = load_text(args.dataset, architecture, vocab_size=vocab_size, length=LENGTH, test_rows=args.test_rows)
    sides = sides_of(text, size)
    if args.throughput:
        name, required = f"{name}_throughput", required[1]
        stock = partial(sides.reference, seed=0, steps=8, batch=args.batch, use_cpu=True)
        ours = partial(sides.ours, seed=0, max_steps=8, per_device_train_batch_size=args.batch, use_cpu=True)
        # What the implementation gives: the rival's optimizer and share of masks. The whole recipe stands beside it.
        same = partial(ours, optimizer="adamw", **sides.as_the_rival)
        trainers = {REFERENCE: stock, f"{REFERENCE}, bf16": partial(stock, bf16=True), OURS: same}
        trainers |= {f"{OURS}, Muon{sides.recipe}": ours}
        result = throughput(trainers, tokens=args.batch * LENGTH, rounds=args.rounds)
    else:
        required = required[0]

        def reference(**chosen) -> list[Point]:
            trainer = sides.reference(steps=args.steps, batch=args.batch, use_cpu=True, **chosen)
            return train(trainer, sides.evaluate, evaluations=12)

        def ours(**chosen) -> list[Point]:
            trainer = sides.ours(
                max_steps=args.our_steps, per_device_train_batch_size=args.batch, use_cpu=True, **RATES, **chosen
            )
            return train(trainer, sides.evaluate, evaluations=25)

        result = time_to_loss(reference, ours, learning_rates=args.learning_rates, seeds=args.seeds)
        plot(result, name, title=f"{architecture}, 2 layers, 128 wide, from scratch on {text.name}")
    setting = {**vars(args), "dataset": text.name, "size": size, "vocabulary": len(text.special), "length": LENGTH}
    setting |= {} if args.throughput else {"our_rates": RATES}
    result = {"ratio": result["ratio"], "required": required, **result, "setting": setting, "machine": machine()}
    write_result(name, result)
