"""Semantic textual similarity: whether two sentences lie as near to one another as people say they mean the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.statistics import half_width, stated

RESAMPLES = 1000


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
