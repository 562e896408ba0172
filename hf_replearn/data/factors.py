"""Columns that say what an image was made of: the factors by which codes are judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Value

from hf_replearn.data import scenes3d, sprites
from hf_replearn.data.labels import shown_columns
from hf_replearn.errors import InputError

KNOWN = {name: tuple(sprites.GRID) for name in sprites.SHAPES} | {
    "scenes3d": tuple(scenes3d.GRID)
}  # of the datasets that are made here
MOST = 0.25  # different values of a factor, as a share of the images


@dataclass(frozen=True)
class Factors:
    """What N images were made of, by K factors.

    names:    of the factors.
    values:   (N, K) int64, the number of each one's value, 0 … sizes[k] - 1, in the order of the values.
    numbers:  (N, K) float64, the values themselves, of factors that are numbers; of classes their numbers.
    is_class: of each factor, whether its values have no order, such as shapes.
    words:    of each factor, what its values are called.
    """

    names: list[str]
    values: np.ndarray
    numbers: np.ndarray
    is_class: list[bool]
    words: list[list[str]]

    def __getitem__(self, rows) -> Factors:
        return Factors(self.names, self.values[rows], self.numbers[rows], self.is_class, self.words)

    @property
    def sizes(self) -> list[int]:
        """How many values each factor has."""
        return list(map(len, self.words))

    @property
    def entropies(self) -> np.ndarray:
        """In nats, (K,)."""
        found = []
        for values in self.values.T:
            p = np.bincount(values) / len(values)
            found.append(-(p[p > 0] * np.log(p[p > 0])).sum())
        return np.array(found)


def read_factors(rows: Dataset, names: Sequence[str]) -> Factors:
    """The factors of images, of the columns of these names.

    Columns of whole or other numbers are numbers; those of strings, booleans and declared classes are classes.
    Raises InputError for a column that does not exist or holds something else, for a gap in one, for one value in all
    rows, for nearly as many values as rows, and for fewer than two factors.
    """
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--factors names {twice[0]!r} twice")
    if len(names) < 2:
        raise InputError(f"--factors {' '.join(names)}: at least two factors are needed, to be told apart")
    found = [_read_column(rows, name) for name in names]
    values, numbers, is_class, words = zip(*found, strict=True)
    return Factors(list(names), np.stack(values, 1), np.stack(numbers, 1), list(is_class), list(words))


def _read_column(rows: Dataset, name: str) -> tuple[np.ndarray, np.ndarray, bool, list[str]]:
    """Numbers of the values (N,), the values (N,), whether they are classes, and what they are called."""
    if name not in rows.features:
        raise InputError(f"--factors {name!r} does not exist; the columns are {shown_columns(rows.features)}")
    kind, cells = rows.features[name], rows[name][:]
    if not isinstance(kind, ClassLabel | Value) or kind.dtype.startswith(("binary", "timestamp", "date", "null")):
        raise InputError(f"--factors {name!r} is a column of {kind}: a factor is of numbers, words or declared classes")
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, float) and not math.isfinite(cell)) or cell == "":
            raise InputError(f"--factors {name!r} has no value in row {row} ({cell}): leave such rows out")
    is_class = isinstance(kind, ClassLabel) or kind.dtype in ("string", "large_string", "bool")
    different, values = np.unique(np.array(cells), return_inverse=True)
    if len(different) < 2:
        raise InputError(f"--factors {name!r} has the value {cells[0]!r} in all {len(cells):,} rows: leave it out")
    if len(different) > max(2, MOST * len(cells)):
        raise InputError(
            f"--factors {name!r} has {len(different):,} values in {len(cells):,} rows: put them into bins, at most "
            f"{math.floor(MOST * len(cells)):,}, so that images share a value"
        )
    words = kind.int2str(different.tolist()) if isinstance(kind, ClassLabel) else [f"{value}" for value in different]
    return values, values.astype(float) if is_class else np.array(cells, float), is_class, words
