"""What several tasks learnt at once are worth: their scores beside each task alone and models without a network, and a
picture of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset
from torch import nn

from hf_replearn.data.labelled import LabelledData
from hf_replearn.errors import InputError
from hf_replearn.evaluation.layers import bag_of_words, probe_layers
from hf_replearn.evaluation.tasks import RESAMPLES, relative_difference, resampled, value_and_half
from hf_replearn.pretraining.recipe import TaskSettings
from hf_replearn.representation import ImagePreprocessor, extract
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.page import read_log, series
from hf_replearn.sharing.show import try_to_show

OURS, SINGLE = "multi-task", "single tasks"  # rows of the report
DIFFERENCE = "multitask_difference"
PICTURE = "tasks.png"


@dataclass(frozen=True)
class Labelled:
    """One task. train: its rows; test: the same, short texts first. metrics: what it is scored by; positive: the class
    that f1 is of."""

    data: LabelledData
    train: Dataset
    test: Dataset
    metrics: tuple[str, ...]
    positive: int

    @property
    def names(self) -> list[str] | None:
        return self.data.label_names


def judge(
    report: facts.Report,
    settings: TaskSettings,
    tasks: dict[str, Labelled],
    told: dict[str, dict[str, np.ndarray]],
    plan: list[str],
) -> None:
    """Scores of all tasks, beside each alone, the most frequent answer, and a model of words or pixels."""
    samples: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, task in tasks.items():
        labels = np.array(task.test["label"][:])
        if task.names is not None:
            usual = np.bincount(task.train["label"][:]).argmax()
            told[name]["most frequent answer"] = np.full(len(labels), usual)
        about = {"metrics": task.metrics, "positive": task.positive, "seed": settings.seed}
        samples[name] = resampled(told[name], labels, **about)
        keys = {metric: f"multitask_{name}" + f"_{metric}" * (len(task.metrics) > 1) for metric in task.metrics}
        for row, scores in samples[name].items():
            for metric, found in scores.items():
                value, half = value_and_half(found, metric=metric)
                report.protocols[keys[metric]] = protocol(settings, name, task, metric, plan.count(name))
                report.rows.setdefault(row, {})[keys[metric]] = value
                report.rows[row] |= {} if half is None else {keys[metric] + facts.INTERVAL: half}
        if settings.baseline:
            add_plain(report, task, name, keys, seed=settings.seed)
    if settings.single_tasks:
        differ(report, samples)


def add_plain(report: facts.Report, task: Labelled, name: str, keys: dict[str, str], *, seed: int) -> None:
    """Scores of a linear model without a network, or why there are none."""
    row = "raw pixels" if task.data.inputs == ["image"] else "TF-IDF"
    plain, why = try_to_show(f"{row} of {name}", partial(without_network, task, seed=seed))
    for metric in task.metrics:
        report.rows.setdefault(row, {})[keys[metric]] = None if plain is None else plain[metric]
        if plain is None:
            report.missing.setdefault(row, {})[keys[metric]] = why


def differ(report: facts.Report, samples: dict[str, dict[str, dict[str, np.ndarray]]]) -> None:
    """The mean relative difference to each task alone, which is 0 of these themselves."""
    report.protocols[DIFFERENCE] = (
        f"Mean relative difference on the {len(samples)} test sets: the mean over tasks, and in each over its metrics, "
        "of (score - score alone) / score alone (Maninis et al. 2019); interval by resampling the test examples of "
        "each task, the same ones for both."
    )
    ours, alone = ({name: of[row] for name, of in samples.items()} for row in (OURS, SINGLE))
    try:
        value, half = relative_difference(ours, alone)
    except InputError as error:
        report.rows[OURS][DIFFERENCE] = None
        report.missing.setdefault(OURS, {})[DIFFERENCE] = str(error)
        return
    report.rows[OURS] |= {DIFFERENCE: value, DIFFERENCE + facts.INTERVAL: half}
    report.rows[SINGLE][DIFFERENCE] = 0.0


MEASURES = {
    "accuracy": "Accuracy", "f1": "F1 of the class {!r}", "matthews_correlation": "Matthews correlation",
    "pearson": "Pearson", "spearman": "Spearman",
}  # fmt: skip


def protocol(settings: TaskSettings, name: str, task: Labelled, metric: str, batches: int) -> str:
    """What a score of a task means, in one sentence."""
    measure = MEASURES[metric].format((task.names or [None])[task.positive] if metric == "f1" else "")
    plain = "raw pixels" if task.data.inputs == ["image"] else "TF-IDF"
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in task.data.notes)
    return (
        f"{measure} on {task.data.test_source} of {task.data.name} ({len(task.test):,} examples), after {batches:,} "
        f"batches of {settings.per_device_train_batch_size} of this task (AdamW, learning rate "
        f"{settings.learning_rate:g}, dropout {settings.dropout}). {OURS.capitalize()}: one trunk for all, weights "
        f"{settings.weighting}; {SINGLE}: from the same start, with as many batches of this task and no others; "
        f"{plain}: a linear model of these on the same labels. 95 % interval by {RESAMPLES} draws of the test "
        f"examples; one run each.{notes}"
    )


def without_network(task: Labelled, *, seed: int) -> dict[str, float]:
    """Scores of a linear model of TF-IDF, or of pixels."""
    about = {"metrics": list(task.metrics), "positive": task.positive}
    if task.data.inputs != ["image"]:
        return bag_of_words(task.train, task.test, seed=seed, **about)
    small = ImagePreprocessor(32, (0.5,), (0.5,))
    parts = [extract(nn.Flatten(), part, preprocess=small) for part in (task.train, task.test)]
    return probe_layers([tuple(parts)], np.arange(len(task.train)), which="last", seed=seed, **about)


def draw(report: facts.Report, tasks: dict[str, Labelled], out: Path) -> bool:
    """Losses and weights over the steps, and scores beside those of each task alone; whether there was any to draw."""
    from matplotlib.figure import Figure

    log = read_log(out)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    weights = left.twinx()
    for number, name in enumerate(tasks):
        losses = series(log, f"loss_{name}")
        if losses:
            left.plot(*zip(*losses, strict=True), color=f"C{number}", label=name, linewidth=1.5)
        learnt = series(log, f"weight_{name}")
        if learnt:
            weights.plot(*zip(*learnt, strict=True), color=f"C{number}", linestyle="--", linewidth=1)
    weights.set_ylabel("weight") if weights.lines else weights.set_axis_off()
    left.set(xlabel="step", ylabel="loss")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False)
    metrics = [metric for metric in report.metrics if metric != DIFFERENCE]
    rows = [row for row in (OURS, SINGLE, "most frequent answer") if row in report.rows]
    for place, row in enumerate(rows):
        scores = report.rows[row]
        values = [scores.get(metric, math.nan) for metric in metrics]
        halves = [scores.get(metric + facts.INTERVAL, 0.0) for metric in metrics]
        shift = [number + 0.18 * (place - (len(rows) - 1) / 2) for number in range(len(metrics))]
        right.errorbar(values, shift, xerr=halves, fmt="o", label=row, capsize=2, color=f"C{place}")
    right.set_yticks(range(len(metrics)), [metric.removeprefix("multitask_").replace("_", " ") for metric in metrics])
    right.invert_yaxis()
    right.grid(axis="x", alpha=0.3)
    right.set_xlabel("score")
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / PICTURE, dpi=130, format="png")
    return True
