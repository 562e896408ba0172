"""Scores of several tasks, and by how much those learnt together differ from those learnt alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hf_replearn.errors import InputError
from hf_replearn.evaluation.statistics import half_width, stated
from hf_replearn.metrics import GLUE, POSITIVE, score

__all__ = [
    "GLUE", "RESAMPLES", "measured", "relative_difference", "resampled", "usual_metrics", "usual_positive",
    "value_and_half",
]  # fmt: skip

RESAMPLES = 300  # of the test examples
SIGNED = ("matthews_correlation", "pearson", "spearman")


def usual_metrics(task: str, label_names: Sequence[str] | None) -> tuple[str, ...]:
    """GLUE's of a task of that name whose labels are of its kind; else accuracy, or Pearson and Spearman of numbers."""
    numbers = ("pearson", "spearman")
    if label_names is None:
        return numbers
    known = GLUE.get(task, ("accuracy",))
    fits = not set(known) & set(numbers) and ("f1" not in known or len(label_names) == 2)
    return known if fits else ("accuracy",)


def usual_positive(task: str, label_names: Sequence[str]) -> int:
    """The number of the class that f1 of a task of GLUE is of. Raises InputError where that is not clear."""
    usual = {("0", "1"): "1", ("False", "True"): "True"}.get(tuple(label_names), POSITIVE.get(task))
    if usual not in label_names:
        raise InputError(
            f"the task {task}: F1 is of one class, and which of {', '.join(label_names)} is not clear: call the task "
            "otherwise for its accuracy, or the class "
            f"{POSITIVE.get(task)!r}"
        )
    return list(label_names).index(usual)


def resampled(
    told: dict[str, np.ndarray], labels: np.ndarray, *, metrics: Sequence[str], positive: int = 1, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """{row: {metric: (1 + RESAMPLES,)}}: the score of each row's predictions, and what it might have been with other
    test examples, the same ones for every row. NaN where a correlation is not defined.

    told: {row: (M,)} class numbers, or numbers. labels: (M,).
    """
    rng, count = np.random.default_rng(seed), len(labels)
    chosen = [np.arange(count), *(rng.integers(0, count, count) for _ in range(RESAMPLES))]
    found: dict[str, dict[str, np.ndarray]] = {}
    for row, guesses in told.items():
        score(guesses, labels, metrics=(), positive=positive)  # refuses what is not finite
        scores = [measured(guesses[places], labels[places], metrics=metrics, positive=positive) for places in chosen]
        found[row] = {metric: np.array([of[metric] for of in scores]) for metric in metrics}
    return found


def measured(told: np.ndarray, labels: np.ndarray, *, metrics: Sequence[str], positive: int = 1) -> dict[str, float]:
    """As `metrics.score`, a hundred times faster for few examples: without the tables that `evaluate` keeps."""
    from scipy.stats import rankdata
    from sklearn.metrics import f1_score, matthews_corrcoef

    ways = {
        "accuracy": lambda: np.mean(told == labels),
        "f1": lambda: f1_score(labels == positive, told == positive, zero_division=0.0),
        "matthews_correlation": lambda: matthews_corrcoef(labels, told),
        "pearson": lambda: _correlation(told, labels),
        "spearman": lambda: _correlation(rankdata(told), rankdata(labels)),
    }
    return {metric: float(ways[metric]()) for metric in metrics}


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64) - np.mean(a), b.astype(np.float64) - np.mean(b)
    length = (np.sum(a**2) * np.sum(b**2)) ** 0.5
    return float(np.sum(a * b) / length) if length > 0 else float("nan")


def value_and_half(samples: np.ndarray, *, metric: str) -> tuple[float, float | None]:
    """A score, and half of its 95 % interval; None where that says nothing."""
    low = -1.0 if metric in SIGNED else 0.0
    others = samples[1:][np.isfinite(samples[1:])]
    return float(samples[0]), stated(half_width(others), low=low) if len(others) else None


def relative_difference(
    ours: dict[str, dict[str, np.ndarray]], alone: dict[str, dict[str, np.ndarray]]
) -> tuple[float, float]:
    """The mean over tasks, and in each over its metrics, of (ours - alone) / alone, and half of its 95 % interval over
    test examples (Maninis et al. 2019, arXiv:1904.08918, equation 4).

    ours, alone: {task: {metric: samples}} of `resampled`, with the same seed. Raises InputError where a score of a
    task alone is not above 0, of which no share can be taken.
    """
    tasks = []
    for task, scores in alone.items():
        parts = []
        for metric, of in scores.items():
            if not of[0] > 0:
                raise InputError(f"{metric} of {task} alone is {of[0]:.3f}, of which no share can be taken")
            with np.errstate(invalid="ignore", divide="ignore"):
                parts.append((ours[task][metric] - of) / of)
        tasks.append(np.mean(parts, axis=0))
    samples = np.mean(tasks, axis=0)
    others = samples[1:][np.isfinite(samples[1:])]
    return float(samples[0]), half_width(others)
