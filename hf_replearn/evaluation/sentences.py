"""Semantic textual similarity: whether two sentences lie as near to one another as people say they mean the same; what
encoders of them must beat, and whitening.

N, P texts and pairs of them, D features
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from hf_replearn.encoders.words import WordVectors
from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.statistics import half_width, stated
from hf_replearn.representation import Features

RESAMPLES = 1000
RARE = 1e-3  # the share of all words at which a word has half the weight of one that is never met (Arora et al. 2017)


def sts(first: Tensor, second: Tensor, scores: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Spearman correlation of cosine similarity with human scores, without any training (SentEval's STS, "all").

    first, second: (P, D) features of both sentences. scores: (P,).
    Returns {"sts_spearman": -1…1, "sts_spearman_ci95": half width by bootstrap over pairs}.
    Raises InputError for fewer than three pairs, features with NaN, and similarities or scores that are all the same.
    """
    from scipy.stats import spearmanr

    if len(scores) < 3:
        raise InputError(f"{len(scores)} pairs of sentences are too few for a correlation")
    check_finite(first, "first sentences'")
    check_finite(second, "second sentences'")
    similar, scores = cosine(first, second).numpy(), scores.numpy()
    if similar.min() == similar.max():
        raise InputError("all pairs of sentences are equally similar: there is no correlation")
    if scores.min() == scores.max():
        raise InputError("all pairs of sentences have the same score: there is no correlation")
    return {
        "sts_spearman": float(spearmanr(similar, scores).statistic),
        "sts_spearman_ci95": stated(half_width(resampled_spearman(similar, scores, seed=seed)), low=-1.0),
    }


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Of rows of (P, D) and (P, D): (P,) float64. Rounded, so that equal sentences tie whatever the order of sums."""
    return torch.nn.functional.cosine_similarity(first.double(), second.double()).round(decimals=9)


def resampled_spearman(similar: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Correlations of RESAMPLES samples of the pairs with replacement; the same seed draws the same pairs."""
    from scipy.stats import rankdata

    rows = np.random.default_rng(seed).integers(0, len(scores), (RESAMPLES, len(scores)))
    u, v = (rankdata(values[rows], axis=1) for values in (similar, scores))
    u, v = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (u, v))
    return (u * v).sum(axis=1) / np.maximum(np.sqrt((u * u).sum(axis=1) * (v * v).sum(axis=1)), 1e-300)


def paired_spearman(a: np.ndarray, b: np.ndarray, scores: np.ndarray, *, seed: int = 0) -> dict[str, float]:
    """As `paired_test`, for the correlations of two encoders' similarities (P,) and (P,) with the same scores (P,)."""
    from scipy.stats import spearmanr

    samples = resampled_spearman(a, scores, seed=seed) - resampled_spearman(b, scores, seed=seed)
    other_side = min((samples <= 0).mean(), (samples >= 0).mean())
    return {
        "difference": float(spearmanr(a, scores).statistic - spearmanr(b, scores).statistic),
        "ci95": half_width(samples),
        "p": float(min(1.0, max(2 * other_side, 1 / RESAMPLES))),
    }


def words_of_text(text: str) -> list[str]:
    """In small letters."""
    return re.findall(r"\w+", text.lower())


def word_weights(texts: Iterable[str]) -> Counter[str]:
    """How often each word is in the texts."""
    return Counter(word for text in texts for word in words_of_text(text))


def word_overlap(known: Dataset, *parts: Dataset) -> list[Features]:
    """The words of each text as its features, the larger the rarer: the cosine of two texts is the share of their words
    that they have in common, each by the weight a / (a + f) (Arora et al. 2017), f its share of all words of `known`.

    known, parts: rows of `text`. Words that are in no text of `parts` are left out.
    """
    counts = word_weights(known["text"][:])
    total = max(sum(counts.values()), 1)
    sets = [[set(words_of_text(text)) for text in part["text"][:]] for part in parts]
    places = {
        word: place for place, word in enumerate(sorted(set().union(*(words for part in sets for words in part))))
    }
    found = []
    for part in sets:
        x = np.zeros((len(part), max(len(places), 1)), dtype=np.float32)
        for row, words in enumerate(part):
            for word in words:
                x[row, places[word]] = np.sqrt(RARE / (RARE + counts[word] / total))
        found.append(Features(torch.from_numpy(x)))
    return found


def weighted_mean_of_words(known: Dataset, vectors: WordVectors, *parts: Dataset) -> list[Features]:
    """The mean of the vectors of the words of each text, by the weights of `word_overlap`, (N, D); 0 of a text without
    a word that has one."""
    counts = word_weights(known["text"][:])
    total, found = max(sum(counts.values()), 1), []
    for part in parts:
        x = np.zeros((len(part), vectors.vectors.shape[1]), dtype=np.float32)
        for row, text in enumerate(part["text"][:]):
            words = [word for word in words_of_text(text) if word in vectors.places]
            weights = [RARE / (RARE + counts[word] / total) for word in words]
            if words:
                x[row] = np.average(vectors.vectors[[vectors.places[word] for word in words]], axis=0, weights=weights)
        found.append(Features(torch.from_numpy(x)))
    return found


def whitening(x: Tensor, count: int) -> nn.Linear:
    """The linear map that makes vectors as x (N, D) uncorrelated, of variance 1 and mean 0, in the `count` directions
    in which they vary most (Su et al. 2021, arXiv:2103.15316).

    Raises InputError where they vary in fewer directions, and for vectors that are not finite.
    """
    mean = x.double().mean(0)
    values, axes = _variances(x)
    if (there := _counted(values)) < count:
        raise InputError(f"the vectors of {len(x):,} texts vary in {there} directions, and {count} are to be kept")
    matrix = (axes[:, -count:] / values[-count:].sqrt()).flip(1).T  # (count, D)
    made = nn.Linear(x.shape[1], count)
    with torch.no_grad():
        made.weight.copy_(matrix)
        made.bias.copy_(-matrix @ mean)
    return made.requires_grad_(False)


def directions(x: Tensor) -> int:
    """In how many directions vectors (N, D) vary, so that they can be whitened. Raises InputError for NaN."""
    return _counted(_variances(x)[0])


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (D,), in ascending order, and eigenvectors (D, D) of the covariance of x (N, D)."""
    check_finite(x, "texts'")
    x = x.double() - x.double().mean(0)
    return torch.linalg.eigh(x.T @ x / len(x))


def _counted(values: Tensor) -> int:
    """How many variances are more than the rounding of float32."""
    return int((values > 1e-7 * values.max()).sum()) if values.max() > 0 else 0


def find_partners(first: Tensor, second: Tensor) -> dict[str, float]:
    """How well each of N vectors finds the one of the same row among N others, by cosine: the share that finds it
    first, and the mean of 1 / its rank. Others that are as near stand before it.

    first, second: (N, D).
    """
    first, second = (nn.functional.normalize(part.double(), dim=1) for part in (first, second))
    similar = (first @ second.T).round(decimals=9)
    rank = (similar >= similar.diagonal()[:, None]).sum(1).double()
    return {"found first": float((rank == 1).double().mean()), "mean 1 / rank": float((1 / rank).mean())}


def without_half_of_its_words(texts: Sequence[str], *, seed: int) -> list[str]:
    """Each text with half of its words, drawn at random, in their order; at least one."""
    rng = np.random.default_rng(seed)
    found = []
    for text in texts:
        words = text.split()
        kept = np.sort(rng.choice(len(words), max(1, len(words) // 2), replace=False))
        found.append(" ".join(words[place] for place in kept))
    return found
