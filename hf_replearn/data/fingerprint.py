"""Whether rows of tokens are the same as at another time, wherever they are stored."""

from __future__ import annotations

import hashlib
from itertools import islice

import numpy as np
from datasets import Dataset, IterableDataset

from hf_replearn.errors import InputError

BLOCK, BLOCKS = 1_000, 1_000  # rows, so that a million of them are hashed
FIRST = 1_000  # rows of a stream


def rows_fingerprint(rows: Dataset | IterableDataset, *, workers: int = 0) -> str:
    """Of the contents of `rows` in their order, not of files, caches or dates.

    rows: columns of integers. Up to a million rows all of them, of more a million in evenly spaced blocks; of a stream
        the first thousand. Raises InputError for a stream without rows.
    workers: that read a stream, whose order depends on them.
    """
    digest = hashlib.sha256()
    if isinstance(rows, IterableDataset):
        count = 0
        for count, row in enumerate(islice(rows, FIRST), start=1):  # noqa: B007 (how many there are)
            _add(digest, row)
        if count == 0:
            raise InputError("the stream has no text to train on, besides the documents that are held out")
        return f"{digest.hexdigest()[:16]} (first rows of a stream, {workers} workers)"
    plain, blocks = rows.with_format("numpy"), -(-len(rows) // BLOCK)
    for block in sorted({round(place) for place in np.linspace(0, blocks - 1, min(blocks, BLOCKS))}):
        _add(digest, plain[block * BLOCK : (block + 1) * BLOCK])
    return f"{digest.hexdigest()[:16]} ({len(rows)} rows)"


def _add(digest, columns: dict) -> None:
    for name in sorted(columns):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(columns[name], np.int64).tobytes())
