"""Disentanglement: whether each cause of an image has a part of the code to itself.

N examples, D numbers of a code, K factors. What is measured is of codes and factors alone, so that it is the same for
features of any origin. Definitions follow the papers, and disentanglement_lib (Locatello et al. 2019) where they leave
something open; what differs from the latter is said where it is computed, and in `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from hf_replearn.data.factors import Factors
from hf_replearn.errors import InputError
from hf_replearn.evaluation.steps import alone

BINS = 20  # of equal width, that a number of a code is put into
BATCH, LEARNT, JUDGED = 64, 5_000, 2_500  # examples behind one vote, votes that are learnt from, and that are judged
ALIVE = 0.05  # of the largest deviation of a number of a code: those with less do not vote
FEWEST = 10  # examples of a value, of those that votes are drawn from
WIDEST, OF_TREES = 64, 2_000  # code that DCI's trees are fitted to, which takes minutes else; images they learn from
DEPENDENT = 0.02  # share of a factor's entropy that another one tells of it

METRICS = {  # in the order in which they are shown
    "mig": ["mig"],
    "dci": ["dci_disentanglement", "dci_completeness", "dci_informativeness"],
    "sap": ["sap"],
    "modularity": ["modularity"],
    "factor_vae": ["factor_vae_score"],
    "beta_vae": ["beta_vae_score"],
}
PROTOCOLS = {
    "mig": "Mutual information gap (Chen et al. 2018): of each factor, the mutual information with the number of the "
    "code that tells most of it less that with the second, as a share of the factor's entropy; mean over factors. Each "
    "number of the code is put into 20 bins of equal width; {train} images.",
    "dci_disentanglement": "DCI disentanglement (Eastwood & Williams 2018): whether a number of the code is of use for "
    "one factor only. 1 less the entropy of its importances over factors, mean over numbers weighted by importance. "
    "Importances are those of gradient boosted trees (100 of depth 3) that tell a factor from the code, {dci} images: "
    "by regression where its values are numbers, else by classification.",
    "dci_completeness": "DCI completeness: the same trees; whether a factor is told by one number of the code only.",
    "dci_informativeness": "DCI informativeness: how well these trees tell the factors of {test} other images, mean of "
    "R² of numbers (at least 0) and accuracy of classes.",
    "sap": "Separated attribute predictability (Kumar et al. 2018): of each factor, how well the best number of the "
    "code alone tells it less how well the second does, mean over factors; squared correlation for numbers; for "
    "classes, accuracy, balanced over classes, of the likeliest class in each of 20 bins; learnt from {train} images, "
    "judged on {test} others.",
    "modularity": "Modularity (Ridgeway & Mozer 2018): whether a number of the code tells of one factor only. 1 less "
    "the squared mutual information with all other factors as a share of K - 1 times that with the factor it tells "
    "most of; mean over the numbers; {train} images.",
    "factor_vae_score": "FactorVAE score (Kim & Mnih 2018): accuracy with which the number of the code that varies "
    "least among 64 images that share the value of one factor names this factor, by majority vote; chance is about "
    "1 / K. It may be high where factors are mixed: read it beside the rotated factors.",
    "beta_vae_score": "BetaVAE score (Higgins et al. 2017): accuracy with which a logistic regression names the factor "
    "that 64 pairs of images share, by the mean absolute difference of their codes; chance is 1 / K. It may be "
    "high where factors are mixed: read it beside the rotated factors.",
}


@dataclass(frozen=True)
class Coded:
    """Codes (N, D) float64, and the factors of the same N images."""

    codes: np.ndarray
    factors: Factors

    def __post_init__(self):
        if len(self.codes) != len(self.factors.values):
            raise InputError(f"{len(self.codes)} codes but {len(self.factors.values)} rows of factors")
        if not np.isfinite(self.codes).all():
            raise InputError("some numbers of the codes are NaN or infinite")


def disentanglement(
    train: Coded, test: Coded, *, seed: int = 0, name: str | None = None
) -> tuple[dict[str, float | None], dict[str, str], np.ndarray]:
    """All metrics of one encoder's codes, each by itself; and what each number of the code tells of each factor.

    name: of the encoder, said while it is judged.
    Returns {metric: value, None where it is missing}, {metric: why}, and the mutual information (D, K) as a share of
    the entropy of the factor. Every metric is in PROTOCOLS.
    """
    votes = refusal(train.factors, seed=seed)
    steps: dict[str, Callable[[], dict[str, float]]] = {
        "mig": lambda: {"mig": mig(train)},
        "dci": partial(dci, train, test, seed=seed),
        "sap": lambda: {"sap": sap(train, test)},
        "modularity": lambda: {"modularity": modularity(train)},
        "factor_vae": lambda: {"factor_vae_score": factor_vae_score(train, seed=seed)},
        "beta_vae": lambda: {"beta_vae_score": beta_vae_score(train, seed=seed)},
    }
    scores: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for step, metrics in METRICS.items():
        found, reasons = {}, dict.fromkeys(metrics, votes)
        if votes is None or step not in ("factor_vae", "beta_vae"):
            found, reasons = alone(steps[step], metrics=metrics, what=name and f"{step} of {name}")
        scores |= {metric: found.get(metric) for metric in metrics}
        missing |= reasons
    return scores, missing, mutual_information(train) / train.factors.entropies


# ---- mutual information


def in_bins(codes: np.ndarray, *, low: np.ndarray | None = None, high: np.ndarray | None = None) -> np.ndarray:
    """The bin, 0 … 19, of each number (N, D), of 20 of equal width from its smallest to its largest; all in one where
    they are equal. low, high: (D,), where bins are those of other codes, whose ends hold all that is beyond them."""
    low = codes.min(axis=0) if low is None else low
    high = codes.max(axis=0) if high is None else high
    width = np.where(high > low, high - low, 1.0)
    return np.clip(np.floor((codes - low) / width * BINS), 0, BINS - 1).astype(np.int64)


def counted_together(bins: np.ndarray, values: np.ndarray, *, number: int) -> np.ndarray:
    """How many images are in each bin of each number of the code and have each value of a factor: (D, BINS, number).

    bins: (N, D). values: (N,), 0 … number - 1.
    """
    size = bins.shape[1]
    cells = (np.arange(size) * BINS + bins) * number + values[:, None]
    return np.bincount(cells.ravel(), minlength=size * BINS * number).reshape(size, BINS, number)


def mutual_information(coded: Coded) -> np.ndarray:
    """In nats, of every number of the code with every factor: (D, K)."""
    bins, factors, found = in_bins(coded.codes), coded.factors, []
    for values, number in zip(factors.values.T, factors.sizes, strict=True):
        found.append(information(counted_together(bins, values, number=number)))
    return np.stack(found, axis=1)


def information(tables: np.ndarray) -> np.ndarray:
    """Mutual information in nats of contingency tables (…, A, B)."""
    p = tables / tables.sum((-2, -1), keepdims=True)
    apart = p.sum(-1, keepdims=True) * p.sum(-2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / apart), 0.0).sum((-2, -1))


def mig(coded: Coded) -> float:
    """Mutual information gap (Chen et al. 2018, equation 6)."""
    largest, second = two_largest(mutual_information(coded))
    return float(np.mean((largest - second) / coded.factors.entropies))


def modularity(coded: Coded) -> float:
    """Ridgeway & Mozer (2018, equations 2 and 3); numbers that tell of no factor count 0, as in disentanglement_lib."""
    squared = mutual_information(coded) ** 2
    most = squared.max(axis=1)
    others = squared.sum(axis=1) - most
    share = others / (np.where(most > 0, most, 1.0) * (squared.shape[1] - 1))
    return float(np.mean(np.where(most > 0, 1 - share, 0.0)))


def two_largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each column of (D, K), (K,) each; of a single number the second is 0."""
    ordered = np.sort(np.vstack([values, np.zeros_like(values[:1])]) if len(values) == 1 else values, axis=0)
    return ordered[-1], ordered[-2]


# ---- predictors


def dci(train: Coded, test: Coded, *, seed: int = 0) -> dict[str, float]:
    """Eastwood & Williams (2018), by gradient boosted trees on the first 2,000 images of train.

    disentanglement_lib takes every factor for classes, which costs a tree for each value in each round: minutes a model
    for 32 positions. Here a factor of numbers is regressed, as in the paper.
    """
    if train.codes.shape[1] > WIDEST:
        raise InputError(
            f"trees on a code of {train.codes.shape[1]:,} numbers, more than {WIDEST}, would take too long"
        )
    train = Coded(train.codes[:OF_TREES], train.factors[:OF_TREES])
    importance, told = [], []
    for place, is_class in enumerate(train.factors.is_class):
        gains, quality = _trees(train, test, place, is_class=is_class, seed=seed)
        importance.append(gains)
        told.append(quality)
    importance = np.stack(importance, axis=1)
    return {
        "dci_disentanglement": concentrated(importance),
        "dci_completeness": concentrated(importance.T),
        "dci_informativeness": float(np.mean(told)),
    }


def concentrated(importance: np.ndarray) -> float:
    """1 less the entropy of each line (A, B), in units of ln B, mean over lines weighted by their sum; 0 where none is
    of importance."""
    if not importance.any() or importance.shape[1] == 1:
        return 0.0 if not importance.any() else 1.0
    sums = importance.sum(axis=1)
    p = importance[sums > 0] / sums[sums > 0, None]
    entropies = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1) / np.log(importance.shape[1])
    return float(np.average(1 - entropies, weights=sums[sums > 0]))


def _trees(train: Coded, test: Coded, place: int, *, is_class: bool, seed: int) -> tuple[np.ndarray, float]:
    """The importance of each number of the code (D,) for one factor, and R² or accuracy on test."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    targets = [part.factors.values[:, place] if is_class else part.factors.numbers[:, place] for part in (train, test)]
    if len(np.unique(targets[0])) < 2:
        raise InputError(f"the factor {train.factors.names[place]!r} has one value in all images that DCI learns from")
    kind = GradientBoostingClassifier if is_class else GradientBoostingRegressor
    trees = kind(random_state=seed).fit(train.codes, targets[0])
    return trees.feature_importances_, max(0.0, float(trees.score(test.codes, targets[1])))


def sap(train: Coded, test: Coded) -> float:
    """Kumar et al. (2018, section 3): squared correlation of numbers, thresholds for classes.

    disentanglement_lib takes every factor for classes, told by a linear support vector machine, which on one number
    cannot tell a class that lies between two others.
    """
    gaps = []
    for place, is_class in enumerate(train.factors.is_class):
        told = _by_thresholds(train, test, place) if is_class else _squared_correlation(train, test, place)
        largest, second = two_largest(told[:, None])
        gaps.append(float(largest[0] - second[0]))
    return float(np.mean(gaps))


def _squared_correlation(train: Coded, test: Coded, place: int) -> np.ndarray:
    """How much of a factor's variance in test a line on each number of the code by itself explains (D,), the line being
    that of both parts."""
    codes = np.concatenate([train.codes, test.codes])
    target = np.concatenate([part.factors.numbers[:, place] for part in (train, test)])
    codes, target = codes - codes.mean(axis=0), target - target.mean()
    spread = (codes**2).sum(axis=0) * (target**2).sum()
    return np.where(spread > 0, (target @ codes) ** 2 / np.where(spread > 0, spread, 1.0), 0.0)


def _by_thresholds(train: Coded, test: Coded, place: int) -> np.ndarray:
    """Accuracy, balanced over classes, on test of the likeliest class in each bin of each number of the code (D,)."""
    values, number = train.factors.values[:, place], train.factors.sizes[place]
    low, high = train.codes.min(axis=0), train.codes.max(axis=0)
    tables = counted_together(in_bins(train.codes), values, number=number).astype(float)
    tables /= np.maximum(np.bincount(values, minlength=number), 1)  # each class counts alike
    named = tables.argmax(-1)  # (D, BINS)
    guesses = named[np.arange(len(named)), in_bins(test.codes, low=low, high=high)]  # (N, D)
    truth = test.factors.values[:, place]
    return np.mean([(guesses[truth == value] == value).mean(axis=0) for value in np.unique(truth)], axis=0)


# ---- votes: batches of images that share the value of a factor


def refusal(factors: Factors, *, seed: int = 0) -> str | None:
    """Why no votes can be drawn from such images; None where they can: with one factor held, the others have to vary as
    they do elsewhere, and each value has to have images to draw from."""
    for name, values, words in zip(factors.names, factors.values.T, factors.words, strict=True):
        counts = np.bincount(values, minlength=len(words))
        if counts.min() < FEWEST:
            least = int(counts.argmin())
            return f"{counts[least]} image(s) have the value {words[least]} of {name}: at least {FEWEST} are needed"
    first, second, share = most_dependent(factors, seed=seed)
    if share > DEPENDENT:
        return (
            f"the factors are not combined freely: {first} tells {share:.0%} of what {second} is, and with one of them "
            "held the other would not vary as it should"
        )
    return None


def most_dependent(factors: Factors, *, seed: int = 0, shuffles: int = 5) -> tuple[str, str, float]:
    """The two factors that tell most of one another, and how much: their mutual information beyond what shuffled rows
    have, as a share of the smaller entropy."""
    rng, found = np.random.default_rng(seed), ("", "", 0.0)
    for place, first in enumerate(factors.names):
        for other in range(place):
            a, b = factors.values[:, place], factors.values[:, other]
            shape = factors.sizes[place], factors.sizes[other]
            chance = np.mean([_told(a, rng.permutation(b), shape) for _ in range(shuffles)])
            share = (_told(a, b, shape) - chance) / min(factors.entropies[place], factors.entropies[other])
            if share > found[2]:
                found = (first, factors.names[other], float(share))
    return found


def _told(a: np.ndarray, b: np.ndarray, shape: tuple[int, int]) -> float:
    """Mutual information of two factors, in nats."""
    return float(information(np.bincount(a * shape[1] + b, minlength=shape[0] * shape[1]).reshape(shape)))


class Draws:
    """Images that share the value of a factor."""

    def __init__(self, factors: Factors):
        self.values = factors.values
        self.order = np.argsort(factors.values, axis=0, kind="stable")  # (N, K): rows by the value of each factor
        counts = [
            np.bincount(values, minlength=size) for values, size in zip(self.values.T, factors.sizes, strict=True)
        ]
        self.counts = counts
        self.starts = [np.cumsum(count) - count for count in counts]

    def like(self, rows: np.ndarray, factor: int, rng: np.random.Generator, *, size: tuple[int, ...]) -> np.ndarray:
        """Rows drawn from those that have the same value of a factor as `rows`, whose shape `size` begins with."""
        values = self.values[rows, factor].reshape(rows.shape + (1,) * (len(size) - rows.ndim))
        offset = (rng.random(size) * self.counts[factor][values]).astype(np.int64)
        return self.order[self.starts[factor][values] + offset, factor]


def factor_vae_score(coded: Coded, *, seed: int = 0, learnt: int = LEARNT, judged: int = JUDGED) -> float:
    """Kim & Mnih (2018, section 4): accuracy of the majority vote on `judged` votes, from `learnt` votes.

    Numbers that hardly vary do not vote: those with less than a twentieth of the largest deviation.
    (disentanglement_lib: with a deviation below .05, which is of codes of a standard normal distribution.)
    """
    deviation = coded.codes.std(axis=0)
    alive = deviation >= ALIVE * deviation.max()
    if not deviation.any():
        return 0.0
    codes = coded.codes[:, alive] / deviation[alive]
    rng, draws, factors = np.random.default_rng(seed), Draws(coded.factors), len(coded.factors.names)
    tables = []
    for votes in (learnt, judged):
        table = np.zeros((codes.shape[1], factors), np.int64)
        for factor in range(factors):
            held = rng.integers(len(codes), size=_share(votes, factors, factor))
            for some in np.array_split(held, max(1, len(held) * codes.shape[1] // 50_000)):
                rows = draws.like(some, factor, rng, size=(len(some), BATCH))
                least = codes[rows].var(axis=1).argmin(axis=1)
                table[:, factor] += np.bincount(least, minlength=len(table))
        tables.append(table)
    named = tables[0].argmax(axis=1)
    return float(tables[1][np.arange(len(named)), named].sum() / tables[1].sum())


def beta_vae_score(coded: Coded, *, seed: int = 0, learnt: int = LEARNT, judged: int = JUDGED) -> float:
    """Higgins et al. (2017, section 3): accuracy of a logistic regression on `judged` votes, from `learnt` votes.

    Codes are divided by their deviations first, so that the scale of features does not matter.
    """
    from sklearn.linear_model import LogisticRegression

    deviation = coded.codes.std(axis=0)
    codes = coded.codes / np.where(deviation > 0, deviation, 1.0)
    rng, draws, factors = np.random.default_rng(seed), Draws(coded.factors), len(coded.factors.names)
    parts = []
    for votes in (learnt, judged):
        labels = np.repeat(np.arange(factors), [_share(votes, factors, factor) for factor in range(factors)])
        differences = np.empty((len(labels), codes.shape[1]))
        for factor in range(factors):
            [mine] = np.nonzero(labels == factor)
            for some in np.array_split(mine, max(1, len(mine) * codes.shape[1] // 50_000)):
                first = rng.integers(len(codes), size=(len(some), BATCH))
                second = draws.like(first, factor, rng, size=first.shape)
                differences[some] = abs(codes[first] - codes[second]).mean(axis=1)
        parts.append((differences, labels))
    return float(LogisticRegression(max_iter=1000).fit(*parts[0]).score(*parts[1]))


def _share(votes: int, factors: int, factor: int) -> int:
    """Votes on one of the factors, of which each has as many."""
    return votes // factors + (factor < votes % factors)


# ---- floors


def known_codes(factors: Factors, *, seed: int = 0) -> dict[str, np.ndarray]:
    """What anybody's code stands beside: the factors themselves, and the factors turned, so that each number mixes
    all of them; (N, K) each, of mean 0 and deviation 1. Of 100 random turns it is the one that mixes most."""
    numbers = factors.values.astype(float)
    deviation = numbers.std(axis=0)
    true = (numbers - numbers.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    turns = np.linalg.qr(np.random.default_rng(seed).normal(size=(100, *(true.shape[1],) * 2)))[0]
    turn = min(turns, key=lambda mixed: abs(mixed).max())
    return {"true factors": true, "rotated factors": true @ turn}


def protocols(train: int, test: int) -> dict[str, str]:
    """What each metric means, of so many images that are learnt from, and judged."""
    counts = {"train": f"{train:,}", "test": f"{test:,}", "dci": f"{min(train, OF_TREES):,}"}
    return {name: text.format(**counts) for name, text in PROTOCOLS.items()}
