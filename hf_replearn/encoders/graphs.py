"""Vectors of the nodes of a graph, and the networks that make them, in the formats that others load.

A folder holds `embeddings.safetensors`: the vectors, with the ids of the nodes; and `nodes.txt`, the same in word2vec's
text format. A network has beside them `model.safetensors`, whose names torch_geometric gives its weights, and its
class and arguments in `config.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hf_replearn.encoders.words import write_text
from hf_replearn.errors import InputError

EMBEDDINGS, TEXT, CONFIG, WEIGHTS = "embeddings.safetensors", "nodes.txt", "config.json", "model.safetensors"


@dataclass(frozen=True)
class NodeVectors:
    """Nodes by their ids, all int or all str, and a vector of each, (N, D) float32. network: the class and arguments
    of torch_geometric.nn of the network that made them, {"class": …, "arguments": {…}}; None without one."""

    ids: list[int] | list[str]
    vectors: np.ndarray
    network: dict[str, Any] | None = None

    @cached_property
    def places(self) -> dict[int | str, int]:
        """Id -> its row."""
        return {node: place for place, node in enumerate(self.ids)}

    def of(self, ids: Sequence[int] | Sequence[str], *, named: str) -> np.ndarray:
        """The vectors of these nodes, (n, D). named: whose they are, for the message.

        Raises InputError for ids that have none, and for numbers where the others are texts.
        """
        if missing := [node for node in ids if node not in self.places]:
            raise InputError(
                f"{named} has no vector of {len(missing):,} of the graph's {len(ids):,} nodes, such as "
                f"{missing[0]!r:.60}; its first is {self.ids[0]!r:.60}: is it of another graph?"
            )
        return self.vectors[[self.places[node] for node in ids]]


def write_nodes(
    nodes: NodeVectors,
    folder: Path,
    *,
    recipe: str,
    weights: dict[str, np.ndarray] | None = None,
    text: bool = True,
) -> None:
    """Writes the vectors, with `text` in word2vec's text format as well, and the weights of their network.

    Ids that are texts are in the metadata of the file, as JSON. Those with a space, or with none of any sign, cannot
    stand in the text format, which is then left out, with a word.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"embeddings": np.ascontiguousarray(nodes.vectors, dtype=np.float32)}
    texts = isinstance(nodes.ids[0], str)
    metadata = {"ids": json.dumps(nodes.ids)} if texts else None
    save_file(tensors | ({} if texts else {"ids": np.array(nodes.ids, dtype=np.int64)}), folder / EMBEDDINGS, metadata)
    about = {"recipe": recipe, "nodes": len(nodes.ids), "dim": int(nodes.vectors.shape[1])}
    about |= {} if nodes.network is None else {"torch_geometric": nodes.network}
    (folder / CONFIG).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    written = [folder / EMBEDDINGS]
    if weights is not None:
        save_file({name: np.ascontiguousarray(of) for name, of in weights.items()}, folder / WEIGHTS)
        written.append(folder / WEIGHTS)
    for path in written:  # safetensors makes it 600
        path.chmod((folder / CONFIG).stat().st_mode)
    if not text:
        return
    if odd := [node for node in nodes.ids if len(str(node).split()) != 1 or str(node) != str(node).strip()]:
        print(
            f"{TEXT} is left out: the id {odd[0]!r:.60} has a space, or is empty, which word2vec's format cannot hold"
        )
        return
    write_text([str(node) for node in nodes.ids], nodes.vectors, folder / TEXT)


def is_nodes(place: str | Path) -> bool:
    """Whether this is a folder that `write_nodes` wrote."""
    return Path(place, EMBEDDINGS).is_file()


def read_nodes(place: str | Path) -> NodeVectors:
    """The vectors of a folder that `write_nodes` wrote. Raises InputError."""
    folder = Path(place)
    if not is_nodes(folder):
        raise InputError(f"{place} holds no vectors of nodes: give the folder of a run of `hf-replearn graph`")
    try:
        with safe_open(folder / EMBEDDINGS, framework="numpy") as file:
            vectors, metadata = file.get_tensor("embeddings"), file.metadata() or {}
            ids = json.loads(metadata["ids"]) if "ids" in metadata else file.get_tensor("ids").tolist()
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        network = about.get("torch_geometric")
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise InputError(f"{place} cannot be read: {' '.join(str(error).split())[:200]}") from error
    if vectors.ndim != 2 or len(vectors) != len(ids) or len(set(ids)) != len(ids):
        raise InputError(f"{folder / EMBEDDINGS} does not hold one vector for each of its ids")
    return NodeVectors(ids, vectors, network)
