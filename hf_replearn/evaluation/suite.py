"""The standard battery for one encoder's features, and what each of its scores means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from torch import Tensor

from hf_replearn.evaluation.clustering import clustering
from hf_replearn.evaluation.k_shot import SHOTS, k_shot, k_shot_correct
from hf_replearn.evaluation.knn import knn, knn_correct
from hf_replearn.evaluation.linear_probe import batch_norm_probe, linear_predictions, linear_probe
from hf_replearn.evaluation.repetitions import INTERVAL
from hf_replearn.evaluation.retrieval import retrieval
from hf_replearn.evaluation.statistics import mean_half_width
from hf_replearn.evaluation.steps import alone, at_work
from hf_replearn.evaluation.voc07 import voc07_full, voc07_low_shot
from hf_replearn.representation import Features

RANKS = (1, 5)  # k of recall@k
PROBES = {"linear_bn": batch_norm_probe}
PROTOCOLS = {
    "k_shot": "Mean accuracy on the test set of a logistic regression (C = 10) on frozen features with k labels a "
    "class, over random draws of the labels, the same for all rows, with the 95 % t interval over draws.",
    "knn": "Accuracy on the test set of the weighted k-nearest-neighbour classifier (cosine, weights exp(s / 0.07); "
    "Wu et al. 2018) on all training labels.",
    "linear": "Accuracy on the test set of an L2-regularised logistic regression on frozen features with all training "
    "labels, C chosen on a fifth of them.",
    "linear_bn": "Accuracy on the test set of the same logistic regression on features of which each dimension has its "
    "mean taken off and is divided by its deviation, both of the training set: batch normalisation without scale and "
    "shift before the linear layer (He et al. 2022, appendix A.1).",
    "voc07": "Mean average precision on the test set of one linear SVM a class with k positives (Goyal et al. 2019), "
    "mean of 5 draws with the 95 % t interval over them, C chosen on the test set as published.",
    "voc07_full": "Mean average precision on the test set of one linear SVM a class on all training data, C by 3-fold "
    "cross-validation (Goyal et al. 2019).",
}

# Of `judge`, and of `suite` on some of the examples. `judged` fills in which examples, and how many draws and queries.
JUDGED = {
    "k_shot": "Accuracy on {test} of a logistic regression (C = 10) on frozen features with k labels a class, mean of "
    "{draws} random draws of these from {train}, the same for all rows; interval by bootstrap over test examples and "
    "draws.",
    "knn": "Accuracy on {test} of the weighted k-nearest-neighbour classifier (cosine, weights exp(s / 0.07); Wu et "
    "al. 2018) on {train}; interval by bootstrap over test examples.",
    "linear": "Accuracy on {test} of an L2-regularised logistic regression on frozen features with {train}, C chosen "
    "on a fifth of them; interval by bootstrap over test examples.",
    "voc07": "Mean average precision on {test} of one linear SVM a class with k positives (Goyal et al. 2019), mean of "
    "5 draws from {train} with the 95 % t interval over them, C chosen on the test examples as published.",
    "voc07_full": "Mean average precision on {test} of one linear SVM a class on {train}, C by 3-fold cross-validation "
    "(Goyal et al. 2019).",
    "finetune": "Accuracy on {test} after fine-tuning all weights on this share of {train}, the share balanced over "
    "classes (AdamW, learning rate {rate}, batch 32, 3 epochs, at least 200 steps, dropout 0.1; one seed); interval by "
    "bootstrap over test examples. Of a layer by itself: a linear classifier of its pooled features and the blocks "
    "below it.",
    "recall": "Share of {queries} test examples of which one of the k nearest other ones of {test} (cosine) is of the "
    "same class{alone}; interval by bootstrap over queries.",
    "map": "Mean average precision of the rankings of all other test examples of {test} (cosine) by {queries} of them, "
    "same class being relevant{alone}; interval by bootstrap over queries.",
    "nmi": "Normalised mutual information (arithmetic) of classes and k-means clusters, as many as classes, of "
    "{test} at unit length; mean of 5 starts, interval over starts and, by bootstrap, examples.",
    "ari": "Adjusted Rand index of the same clusters; 0 is chance.",
    "matched": "Accuracy of the same clusters, each named after a class of its own in the best way.",
    "silhouette": "Silhouette of the classes themselves (cosine, on 2,000 at most of {test}), -1 to 1.",
    "sts_spearman": "Spearman correlation of the cosine similarity of two sentences with people's scores, {test}, "
    "nothing trained; interval by bootstrap over pairs.",
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


Kind = Literal["classes", "several", "scores"]  # one class an example, several labels, or numbers of pairs


@dataclass(frozen=True)
class Protocol:
    """How every encoder of an evaluation is judged.

    shots, draws: labels a class, and how many random choices of them. neighbours: that vote. queries: of retrieval.
    device: where classifiers are fitted and neighbours found.
    """

    shots: Sequence[int] | None
    draws: int
    neighbours: tuple[int, ...]
    queries: int
    kind: Kind = "classes"
    seed: int = 0
    device: str = "cpu"


@dataclass
class Outcomes:
    """How well each test example did with one encoder.

    found:   metric -> (draws, M) for "k_shot@k", and (1, M) for "knn@k", "linear", "recall@k" and "map" (queries only).
    missing: metric -> why it could not be computed.
    told:    what the linear probe takes each test example for (M,); None where there is none.
    """

    found: dict[str, Tensor] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    told: Tensor | None = None


def outcomes(train: Features, test: Features, *, protocol: Protocol, name: str | None = None) -> Outcomes:
    """Every protocol by itself: one that cannot be computed is missing, the others are there.

    Examples and draws are the same for every encoder of a dataset. name: of the encoder, said while it is judged.
    """
    result, shots = Outcomes(), protocol.shots
    how = {"seed": protocol.seed, "device": protocol.device}

    def probe() -> dict[str, Tensor]:
        result.told = linear_predictions(train, test, **how)[0]
        return {"linear": (result.told == test.labels)[None]}

    def k_shots() -> dict[str, Tensor]:
        found = k_shot_correct(train, test, shots=shots, draws=protocol.draws, **how)
        return {f"k_shot@{k}": outcome for k, outcome in found.items()}

    def ranked() -> dict[str, Tensor]:
        found = retrieval(test, ranks=ranks(test), queries=protocol.queries, seed=protocol.seed)
        return {metric: outcome[None] for metric, outcome in found.items()}

    def vote(k: int) -> dict[str, Tensor]:
        return {f"knn@{k}": knn_correct(train, test, k=k, device=protocol.device)[None]}

    voters = dict.fromkeys(min(k, len(train)) for k in protocol.neighbours)
    steps: dict[str, tuple[list[str], Callable[[], dict[str, Tensor]]]] = {
        "k-shot": ([f"k_shot@{k}" for k in shots], k_shots),
        **{f"kNN of {k}": ([f"knn@{k}"], partial(vote, k)) for k in voters},
        "linear probe": (["linear"], probe),
        "retrieval": ([*(f"recall@{k}" for k in RANKS), "map"], ranked),
    }
    for step, (metrics, compute) in steps.items():
        found, missing = alone(compute, metrics=metrics, what=name and f"{step} of {name}")
        result.found |= {metric: outcome.float() for metric, outcome in found.items()}
        result.missing |= missing
        for metric in set(metrics) - found.keys() - missing.keys():
            result.missing[metric] = f"all {len(test) - 1} other test examples are among so many nearest"
    return result


def ranks(test: Features) -> list[int]:
    """The k of recall@k that leave some of the other test examples out."""
    return [k for k in RANKS if k < len(test) - 1]


def judge(
    test: Features, found: dict[str, Tensor], *, seed: int = 0, name: str | None = None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The means of `outcomes` with the half widths of their 95 % intervals, and how well the test features cluster:
    {metric: value} and {metric: why it could not be computed}."""
    scores: dict[str, float | None] = {}
    with at_work(name and f"intervals of {name}"):
        for metric, outcome in found.items():
            scores[metric] = outcome.double().mean().item()
            scores[metric + INTERVAL] = mean_half_width(outcome.numpy(), seed=seed)
    clusters = ("nmi", "ari", "matched", "silhouette")
    what = name and f"clusters of {name}"
    grouped, missing = alone(partial(clustering, test, seed=seed), metrics=clusters, what=what)
    return scores | grouped, missing


def judged(metrics: Sequence[str], **facts: float | str) -> dict[str, str]:
    """What each metric of `judge` or `suite` and property of `label_free` means, with which examples it was measured.

    facts: `test` and `train` in words ("2,000 of 10,000 test examples, drawn …"), `draws`, `queries`, `rate`, and
    `alone`, what to say of examples that are alone in their class.
    """
    known = PROTOCOLS | JUDGED | PROPERTIES
    shown = {name: fact if isinstance(fact, str) else f"{fact:,}" for name, fact in facts.items()}
    return {name: known[name].format(**shown) for name in dict.fromkeys(metric.split("@")[0] for metric in metrics)}


def suite(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int] | None = None,
    draws: int = 20,
    seed: int = 0,
    name: str | None = None,
    probes: Sequence[str] = (),
) -> tuple[dict[str, float | None], dict[str, str]]:
    """k-shot accuracy, kNN and linear probe, and what else is asked for; for multi-label data the VOC07 protocols, each
    by itself.

    probes: of PROBES, where one label each is to be told.
    Returns {metric: value, None where it is missing} and {metric: why}. Every metric is in PROTOCOLS. name: of the
    encoder, said while it is judged.
    """
    steps: dict[str, tuple[list[str], Callable[[], dict[str, float]]]]
    if train.labels.ndim == 2:
        steps = {
            "VOC07 low-shot": (["voc07"], partial(voc07_low_shot, train, test, shots=shots, seed=seed)),
            "VOC07": (["voc07_full"], partial(voc07_full, train, test)),
        }
    else:
        few = [f"k_shot@{k}" for k in shots or SHOTS[:1]]
        voters = dict.fromkeys(min(k, len(train)) for k in (20, 200))
        steps = {
            "k-shot": (few, partial(k_shot, train, test, shots=shots, draws=draws, seed=seed)),
            **{f"kNN of {k}": ([f"knn@{k}"], partial(knn, train, test, k=k)) for k in voters},
            "linear probe": (["linear"], partial(linear_probe, train, test, seed=seed)),
            **{probe: ([probe], partial(PROBES[probe], train, test, seed=seed)) for probe in probes},
        }
    scores: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for step, (metrics, compute) in steps.items():
        found, missing = alone(compute, metrics=metrics, what=name and f"{step} of {name}")
        scores |= {key: value for key, value in found.items() if not key.endswith(("_cost", "_min", "_max", "_std"))}
        scores |= dict.fromkeys(missing)
        reasons |= missing
    return scores, reasons


def protocols(metrics: Sequence[str]) -> dict[str, str]:
    """What each of these metrics means."""
    return {name: text for name, text in PROTOCOLS.items() if any(metric.split("@")[0] == name for metric in metrics)}
