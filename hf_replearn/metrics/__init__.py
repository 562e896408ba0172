"""`evaluate.Metric` classes that need no network, one file each: `evaluate.load(path_of_the_file)` works as well.

METRICS["accuracy"]().compute(predictions=[0, 1], references=[0, 0])   # {"accuracy": 0.5}
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from hf_replearn.metrics.accuracy import Accuracy
from hf_replearn.metrics.f1 import F1
from hf_replearn.metrics.glue import GLUE, POSITIVE
from hf_replearn.metrics.matthews_correlation import MatthewsCorrelation
from hf_replearn.metrics.pearson import Pearson
from hf_replearn.metrics.spearman import Spearman
from hf_replearn.metrics.squad import Squad

METRICS = {
    "accuracy": Accuracy,
    "f1": F1,
    "f1_macro": partial(F1, "macro"),
    "matthews_correlation": MatthewsCorrelation,
    "pearson": Pearson,
    "spearman": Spearman,
    "squad": Squad,
    "squad_v2": partial(Squad, "v2"),
}
QUESTIONS = ("squad", "squad_v2")  # of texts that answer questions; all others are of classes or numbers


def score(
    predictions: np.ndarray, references: np.ndarray, *, metrics: Sequence[str], positive: int = 1
) -> dict[str, float]:
    """Each metric's value by its name; NaN for a correlation with what is constant.

    predictions, references: (M,) class numbers or, for pearson and spearman, numbers. positive: the class of f1.
    Raises ArithmeticError for predictions that are not finite: no metric is of them.
    """
    if not np.isfinite(predictions).all():
        raise ArithmeticError(f"{np.sum(~np.isfinite(predictions))} of {len(predictions)} predictions are not finite")
    scores = {}
    for name in metrics:
        about = {"positive": positive} if name == "f1" else {}
        metric = METRICS[name](keep_in_memory=True)
        scores |= metric.compute(predictions=predictions, references=references, **about)
    return scores


__all__ = [
    "GLUE", "METRICS", "POSITIVE", "QUESTIONS", "Accuracy", "F1", "MatthewsCorrelation", "Pearson", "Spearman", "Squad",
    "score",
]  # fmt: skip
