"""The standard battery for one encoder's features, and what each of its scores means."""

from __future__ import annotations

from collections.abc import Sequence

from hf_replearn.evaluation.k_shot import k_shot
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.evaluation.voc07 import voc07_full, voc07_low_shot
from hf_replearn.representation import Features

PROTOCOLS = {
    "k_shot": "Mean accuracy on the test set of a logistic regression (C = 10) on frozen features with k labels a "
    "class, over random draws of the labels, the same for all rows, with the 95 % t interval over draws.",
    "knn": "Accuracy on the test set of the weighted k-nearest-neighbour classifier (cosine, weights exp(s / 0.07); "
    "Wu et al. 2018) on all training labels.",
    "linear": "Accuracy on the test set of an L2-regularised logistic regression on frozen features with all training "
    "labels, C chosen on a fifth of them.",
    "voc07": "Mean average precision on the test set of one linear SVM a class with k positives (Goyal et al. 2019), "
    "5 draws, C chosen on the test set as published.",
    "voc07_full": "Mean average precision on the test set of one linear SVM a class on all training data, C by 3-fold "
    "cross-validation (Goyal et al. 2019).",
}


def suite(
    train: Features, test: Features, *, shots: Sequence[int] | None = None, draws: int = 20, seed: int = 0
) -> dict[str, float]:
    """k-shot accuracy, kNN and linear probe; for multi-label data the VOC07 protocols. Every key is in PROTOCOLS."""
    if train.labels.ndim == 2:
        scores = voc07_low_shot(train, test, shots=shots, seed=seed) | voc07_full(train, test)
    else:
        scores = k_shot(train, test, shots=shots, draws=draws, seed=seed)
        scores |= knn(train, test, k=20) | knn(train, test, k=200) | linear_probe(train, test, seed=seed)
    return {name: value for name, value in scores.items() if not name.endswith(("_cost", "_min", "_max", "_std"))}


def protocols(metrics: Sequence[str]) -> dict[str, str]:
    """What each of these metrics means."""
    return {name: text for name, text in PROTOCOLS.items() if any(metric.split("@")[0] == name for metric in metrics)}
