"""Which examples are taken where not all are: at random, in the proportions that the data has."""

from __future__ import annotations

import numpy as np

from hf_replearn.errors import InputError


def proportional_subset(labels: np.ndarray, count: int, *, seed: int, every_class: bool = False) -> np.ndarray:
    """The rows, ascending, of `count` of the labels (N,), drawn at random, each class by its share of all.

    A score on them is one of the mixture that the data is. Shares that are not whole are rounded so that they add up
    (the largest remainders first). Labels of one value (zeros, for a regression) make it a plain random subset.

    every_class: a class whose share rounds to nothing keeps one example: what is trained on must know it.
    Raises InputError for fewer examples than classes where every class must be there.
    """
    values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if every_class and count < len(values):
        raise InputError(f"{count} examples are fewer than the {len(values)} classes")
    rng = np.random.default_rng(seed)
    share = counts * (count / len(labels))
    lowest = np.minimum(counts, int(every_class))
    taken = np.maximum(np.floor(share).astype(int), lowest)
    luck = rng.random(len(values)) * 1e-6  # who is rounded up where remainders are equal
    while taken.sum() != count:
        if taken.sum() < count:
            taken[np.where(taken < counts, share - taken + luck, -np.inf).argmax()] += 1
        else:
            taken[np.where(taken > lowest, taken - share + luck, -np.inf).argmax()] -= 1
    order = rng.permutation(len(labels))
    order = order[np.argsort(inverse[order], kind="stable")]
    first = np.cumsum(counts) - counts
    return np.sort(np.concatenate([order[start : start + n] for start, n in zip(first, taken, strict=True)]))


def in_words(taken: int, there: int, what: str, *, seed: int, classes: bool = True, every_class: bool = False) -> str:
    """`2,000 of 10,000 test examples (drawn at random in the proportions of their classes, seed 42)`."""
    if taken == there:
        return f"all {there:,} {what}"
    how = " in the proportions of their classes" if classes else ""
    kept = ", at least one of each class" if classes and every_class else ""
    return f"{taken:,} of {there:,} {what} (drawn at random{how}{kept}, seed {seed})"
