"""What lies near, by vectors that were learnt: of words, or of the nodes of a graph."""

from __future__ import annotations

from pathlib import Path

from hf_replearn.encoders.graphs import is_nodes, read_nodes
from hf_replearn.encoders.words import read_words


def nearest(model: str | Path, item: str | int, count: int = 10) -> list[tuple[str | int, float]]:
    """The words or nodes nearest to one, by the vectors in a folder or file, and their cosines. Raises InputError."""
    return (read_nodes(model) if is_nodes(model) else read_words(model)).nearest(item, count)
