"""The standard battery for one encoder's features, and what each of its scores means."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hf_replearn.evaluation.clustering import clustering
from hf_replearn.evaluation.k_shot import k_shot, k_shot_correct
from hf_replearn.evaluation.knn import knn, knn_correct
from hf_replearn.evaluation.linear_probe import linear_predictions, linear_probe
from hf_replearn.evaluation.repetitions import INTERVAL
from hf_replearn.evaluation.retrieval import retrieval
from hf_replearn.evaluation.statistics import mean_half_width
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
    "mean of 5 draws with the 95 % t interval over them, C chosen on the test set as published.",
    "voc07_full": "Mean average precision on the test set of one linear SVM a class on all training data, C by 3-fold "
    "cross-validation (Goyal et al. 2019).",
}

# Of `judge`. What is not said there (how many examples, draws and queries) is filled in by `judged`.
JUDGED = {
    "k_shot": "Accuracy on {test} test examples of a logistic regression (C = 10) on frozen features with k labels a "
    "class, mean of {draws} random draws of the labels, the same for all rows; interval by bootstrap over test "
    "examples and draws.",
    "knn": "Accuracy on {test} test examples of the weighted k-nearest-neighbour classifier (cosine, weights "
    "exp(s / 0.07); Wu et al. 2018) on {train} labels; interval by bootstrap over test examples.",
    "linear": "Accuracy on {test} test examples of an L2-regularised logistic regression on frozen features with "
    "{train} labels, C chosen on a fifth of them; interval by bootstrap over test examples.",
    "finetune": "Accuracy on {test} test examples after fine-tuning all weights on this share of {train} labels, "
    "balanced over classes (AdamW, learning rate {rate}, batch 32, 3 epochs, at least 200 steps, dropout 0.1; one "
    "seed); interval by bootstrap over test examples. Of a layer by itself: a linear classifier of its pooled features "
    "and the blocks below it.",
    "recall": "Share of {queries} test examples of which one of the k nearest other ones of {test} (cosine) is of the "
    "same class; interval by bootstrap over queries.",
    "map": "Mean average precision of the rankings of all other test examples of {test} (cosine) by {queries} of them, "
    "same class being relevant; interval by bootstrap over queries.",
    "nmi": "Normalised mutual information (arithmetic) of classes and k-means clusters, as many as classes, of "
    "{test} test examples at unit length; mean of 5 starts, interval over starts and, by bootstrap, examples.",
    "ari": "Adjusted Rand index of the same clusters; 0 is chance.",
    "matched": "Accuracy of the same clusters, each named after a class of its own in the best way.",
    "silhouette": "Silhouette of the classes themselves (cosine, at most 2,000 of {test} test examples), -1 to 1.",
    "sts_spearman": "Spearman correlation of the cosine similarity of two sentences with people's scores, {test} "
    "pairs, nothing trained; interval by bootstrap over pairs.",
}
PROPERTIES = {
    "rankme": "Effective rank: exp of the entropy of the singular values (Garrido et al. 2023).",
    "alpha_req": "Exponent α of the decay of the covariance's eigenvalues, i^-α (Agrawal et al. 2022).",
    "uniformity": "log mean exp(-2 d²) over random pairs at unit length (Wang & Isola 2020); 0 is a single point.",
    "alignment": "Mean squared distance, at unit length, of pairs that mean the same (Wang & Isola 2020): of one "
    "class, or sentences with at least four fifths of the highest score.",
    "sparsity": "Hoyer's (2004) sparsity of an example's features, mean; 0 all equal, 1 a single one active.",
    "zeros": "Share of features that are exactly 0.",
    "dead": "Share of features that hardly vary: collapsed dimensions.",
    "separation": "1 - mean cosine distance within classes / overall (Kornblith et al. 2021).",
    "selectivity": "Mean over features of the share of their variance that lies between classes (η²).",
}


def outcomes(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int],
    draws: int,
    neighbours: Sequence[int],
    queries: int,
    seed: int = 0,
) -> dict[str, Tensor]:
    """How well each test example did: metric -> (draws, M) for "k_shot@k", and (1, M) for "knn@k", "linear", "recall@k"
    and "map" (of the queries only). Examples and draws are the same for every encoder of a dataset.
    """
    found = {
        f"k_shot@{k}": correct
        for k, correct in k_shot_correct(train, test, shots=shots, draws=draws, seed=seed).items()
    }
    found |= {f"knn@{min(k, len(train))}": knn_correct(train, test, k=k)[None] for k in neighbours}
    found["linear"] = (linear_predictions(train, test, seed=seed)[0] == test.labels)[None]
    found |= {name: outcome[None] for name, outcome in retrieval(test, queries=queries, seed=seed).items()}
    return {name: outcome.float() for name, outcome in found.items()}


def judge(test: Features, found: dict[str, Tensor], *, seed: int = 0) -> dict[str, float]:
    """The means of `outcomes` with the half widths of their 95 % intervals, and how well the test features cluster."""
    scores = {}
    for name, outcome in found.items():
        scores[name] = outcome.double().mean().item()
        scores[name + INTERVAL] = mean_half_width(outcome.numpy(), seed=seed)
    return scores | clustering(test, seed=seed)


def judged(metrics: Sequence[str], **facts: float) -> dict[str, str]:
    """What each metric of `judge` or `suite` and property of `label_free` means, with the numbers of examples."""
    known = PROTOCOLS | JUDGED | PROPERTIES
    shown = {name: f"{fact:,}" for name, fact in facts.items()}
    return {name: known[name].format(**shown) for name in dict.fromkeys(metric.split("@")[0] for metric in metrics)}


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
