"""Vectors of the nodes of a graph, in files that others load: `embeddings.safetensors`, whose metadata has the ids of
the rows, and `nodes.txt` in word2vec's text format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hf_replearn.encoders.words import write_text
from hf_replearn.errors import InputError

FILE, TEXT = "embeddings.safetensors", "nodes.txt"


@dataclass(frozen=True)
class NodeVectors:
    """ids: of the nodes, all int or all str. vectors: (N, D) float32, row by row."""

    ids: list[int] | list[str]
    vectors: np.ndarray

    @cached_property
    def places(self) -> dict[int | str, int]:
        """Id -> its row."""
        return {node: place for place, node in enumerate(self.ids)}

    @cached_property
    def directions(self) -> np.ndarray:
        """(N, D): the vectors at length 1; one of length 0 stays 0."""
        return self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=1, keepdims=True), 1e-12)

    def nearest(self, node: int | str, count: int = 10) -> list[tuple[int | str, float]]:
        """The nodes whose vectors have the largest cosine with that of `node`, and this cosine. Raises InputError for
        a node that has none."""
        place = self.places.get(type(self.ids[0])(node) if str(node).isdigit() else node)
        if place is None or not self.vectors[place].any():
            problem = "is not among the" if place is None else "has no edge, and so no vector, of the"
            raise InputError(f"the node {str(node)[:60]!r} {problem} {len(self.ids):,} nodes")
        similar = self.directions @ self.directions[place]
        similar[place] = -np.inf
        best = np.argsort(-similar, kind="stable")[: min(count, len(similar) - 1)]
        return [(self.ids[other], float(similar[other])) for other in best]


def write_nodes(nodes: NodeVectors, folder: Path, *, recipe: str, method: str, text: bool = True) -> list[str]:
    """The vectors with the ids of their nodes and, with `text`, in word2vec's text format as well.

    Returns what could not be written, in words: that format has no room for an id with a space in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {"ids": json.dumps(nodes.ids, ensure_ascii=False)}  # of several, safetensors would change the order
    save_file({"embeddings": np.ascontiguousarray(nodes.vectors, dtype=np.float32)}, folder / FILE, metadata=about)
    if not (folder / "config.json").exists():  # of a network that lies beside them
        (folder / "config.json").write_text("{}", encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"recipe": recipe, "method": method, "node_dim": nodes.vectors.shape[1]}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / FILE).chmod((folder / "config.json").stat().st_mode)  # safetensors makes it 600
    if not text:
        return []
    if spaced := next((node for node in map(str, nodes.ids) if node.split() != [node]), None):
        return [f"no {TEXT}: its format has no room for the space in {spaced[:60]!r}"]
    write_text(list(map(str, nodes.ids)), nodes.vectors, folder / TEXT)
    return []


def is_nodes(place: str | Path) -> bool:
    """Whether this is a folder of vectors of nodes."""
    return Path(place, FILE).is_file()


def read_nodes(place: str | Path) -> NodeVectors:
    """The vectors of a folder that `write_nodes` wrote. Raises InputError."""
    path = Path(place, FILE)
    if not path.is_file():
        raise InputError(f"{place} holds no vectors of nodes: give the folder of a run of graph")
    try:
        with safe_open(path, framework="numpy") as file:
            ids, vectors = json.loads((file.metadata() or {})["ids"]), file.get_tensor("embeddings")
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(f"{path} is no file of vectors of nodes: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(ids, list) or vectors.ndim != 2 or len(ids) != len(vectors) or not len(ids):
        raise InputError(f"{path} has {vectors.shape} numbers, which are no vector for each id of its metadata")
    return NodeVectors(ids, vectors.astype(np.float32))
