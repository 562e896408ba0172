"""What a source says of a graph, before it is one: nodes by rows, edges as they were given."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_matrix

from hf_replearn.data.splits import WORDS
from hf_replearn.errors import InputError

NO_SPLIT = {"", "none", "null", "unused", "unlabeled", "unlabelled", "no", "other", "rest", "-"}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """As of `data.graphs.Graph`, but for:

    edges: (m, 2) int64 rows of nodes, as they were given: loops, both ways, twice.
    notes: what the user should know, in words.
    """

    name: str
    ids: list[int] | list[str]
    edges: np.ndarray
    hub_id: str | None = None
    features: csr_matrix | None = None
    labels: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)
    splits: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def splits_of(words: list[str | None], where: str) -> dict[str, np.ndarray]:
    """Rows of train, validation and test, by the word of each node for its split; none, unused and the like is in none.

    Raises InputError for other words.
    """
    kinds = {}
    for word in set(words):
        usual = WORDS.get(str(word or "").strip().lower())
        if usual is None and str(word or "").strip().lower() not in NO_SPLIT:
            raise InputError(
                f"{where} has the split {str(word)[:40]!r}: a node is of train, validation, test, or none of them"
            )
        kinds[word] = usual
    of_each = np.array([kinds[word] or "" for word in words])
    found = {name: np.flatnonzero(of_each == name) for name in ("train", "validation", "test")}
    return {name: rows for name, rows in found.items() if len(rows)}


def check_ids(ids: list, where: str) -> list[int] | list[str]:
    """The ids as they are. Raises InputError for what is none, and for one that is there twice."""
    for node in ids:
        if not isinstance(node, int | str) or node == "" or (isinstance(node, int) and node < 0):
            raise InputError(f"{where}: {str(node)[:60]} is no id of a node: whole numbers from 0 on, or words")
    if len(set(ids)) < len(ids):
        twice = next(node for node, count in Counter(ids).items() if count > 1)
        raise InputError(f"{where}: the id {str(twice)[:60]} is there more than once")
    return ids


def check_finite(features: csr_matrix, where: str) -> csr_matrix:
    """Raises InputError for a feature that is no finite number."""
    bad = np.flatnonzero(~np.isfinite(features.data))
    if len(bad):
        row = int(np.searchsorted(features.indptr, bad[0], side="right")) - 1
        raise InputError(
            f"{where}: a feature of row {row} is {features.data[bad[0]]}: features are finite numbers, 0 where unknown"
        )
    return features
