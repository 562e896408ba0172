"""Rows that carry their number through the loader, so that a batch can be named when something is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Dataset

NUMBERS = "row_numbers"  # key of the collated batch, (B,)


class NumberedRows(Dataset):
    """(number, row) of each row of `rows`."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self.rows[number]

    def __getitems__(self, numbers: list[int]) -> list[tuple[int, Any]]:
        """What loaders ask of a datasets.Dataset: all rows of a batch in one read."""
        at_once = getattr(self.rows, "__getitems__", None)
        rows = at_once(numbers) if at_once else [self.rows[number] for number in numbers]
        return list(zip(numbers, rows, strict=True))


class CollateNumbered:
    """The batch of `collate`, and NUMBERS."""

    def __init__(self, collate: Callable[[list], dict]):
        self.collate = collate

    def __call__(self, numbered: list[tuple[int, Any]]) -> dict:
        numbers, rows = zip(*numbered, strict=True)
        return dict(self.collate(list(rows))) | {NUMBERS: torch.tensor(numbers)}
