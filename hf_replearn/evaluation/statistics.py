"""How sure a score is, and whether two encoders differ: by bootstrap over test examples and draws of the labels.

An outcome (draws, M) says how well a test example did in a draw: 1 or 0 for right or wrong, or an average precision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
FEWEST_DRAWS = 3  # of two, the t interval is 12.7 standard errors wide: it says nothing
CHUNK = 2**22  # random numbers at a time


def bootstrap(outcomes: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """What the mean of outcomes (draws, M) might have been with other test examples and draws: (resamples,).

    Both are drawn again, with replacement, and their deviations from the mean added; the same seed draws the same
    examples for every encoder. Two-way bootstrap of additive effects (Owen 2007), which is exact for a single draw.
    """
    outcomes = np.atleast_2d(np.asarray(outcomes, dtype=np.float64))
    mean = outcomes.mean()
    draws = outcomes.mean(axis=1) - mean
    result = mean + _resampled_means(outcomes.mean(axis=0) - mean, resamples, np.random.default_rng([seed, 0]))
    if len(draws) > 1:  # n / (n - 1): of few draws the bootstrap underestimates the variance
        correction = (len(draws) / (len(draws) - 1)) ** 0.5
        result = result + correction * _resampled_means(draws, resamples, np.random.default_rng([seed, 1]))
    return result


def half_width(samples: np.ndarray) -> float:
    """Half the width of the 95 % percentile interval of bootstrap samples."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(high - low) / 2


def mean_half_width(outcomes: np.ndarray, *, seed: int = 0) -> float | None:
    """Half the 95 % interval of the mean of outcomes (draws, M), by `bootstrap`, as `stated`.

    Where all M examples are right, or all wrong, drawing them again shows no spread: then it is the exact interval of a
    share (Clopper & Pearson 1934), of which the half that leaves the scale does not exist.
    """
    outcomes = np.atleast_2d(np.asarray(outcomes, dtype=np.float64))
    if outcomes.min() == outcomes.max() and outcomes.max() in (0.0, 1.0):
        return stated(1 - 0.025 ** (1 / outcomes.shape[1]))
    return stated(half_width(bootstrap(outcomes, seed=seed)))


def t_half_width(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> float | None:
    """Half the 95 % t interval of the mean of what several draws or seeds gave, as `stated`; None of fewer than three.

    low, high: the ends of the score's scale.
    """
    from scipy.special import stdtrit

    n = len(values)
    if n < FEWEST_DRAWS:
        return None
    return stated(float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / n**0.5), low=low, high=high)


def stated(half: float | None, *, low: float = 0.0, high: float = 1.0) -> float | None:
    """The half width of an interval that says something about a score on the scale low…high, else None.

    None where it is not a number, where it is 0 (values that agree to the last digit have shown no spread to estimate
    one from), and where the interval is as wide as the scale.
    """
    return half if half is not None and 1e-12 < half < (high - low) / 2 else None


def paired_test(a: np.ndarray, b: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, float]:
    """Mean of a - b for outcomes (draws, M) of two encoders on the same test examples and draws.

    Returns "difference", its "ci95" half width, and the two-sided "p" of the paired bootstrap test: twice the share of
    resamples on the other side of 0 (Efron & Tibshirani 1993, chapter 16), never below 1 / resamples.
    Raises ValueError for different examples or draws.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"outcomes of shapes {np.shape(a)} and {np.shape(b)} are not of the same examples and draws")
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    samples = bootstrap(a - b, seed=seed, resamples=resamples)
    other_side = min((samples <= 0).mean(), (samples >= 0).mean())
    p = min(1.0, max(2 * other_side, 1 / resamples))
    return {"difference": float((a - b).mean()), "ci95": half_width(samples), "p": float(p)}


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the same order."""
    order = np.argsort(values, kind="stable")
    corrected, largest = np.empty(len(values)), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected.tolist()


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of so many samples of values (n,) with replacement."""
    n = len(values)
    chunk = max(1, CHUNK // n)
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    return np.concatenate([values[rng.integers(0, n, (size, n))].mean(axis=1) for size in sizes])
