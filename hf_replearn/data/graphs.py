"""Graphs: nodes, edges between them, and what is known of the nodes; from tables or arrays.

Nothing is guessed: where two columns, keys or files may be meant, the refusal names both. What is no use to learn from,
loops, edges given twice, columns of other things, is left out and counted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from hf_replearn.data.graph_arrays import read_arrays
from hf_replearn.data.graph_parts import Parts
from hf_replearn.data.graph_tables import read_tables
from hf_replearn.data.labels import LabelType
from hf_replearn.data.sources import counted, local_path
from hf_replearn.data.toy import is_made_here
from hf_replearn.data.village import village
from hf_replearn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Graph:
    """N nodes, M edges, F features, by rows: node n is row n of everything.

    name:     what a card may show: the Hub id, or the last part of the path. hub_id: None for local data.
    ids:      of the nodes, all int or all str, no two alike.
    edges:    (M, 2) int64, each once, sorted; no loops. Undirected: the smaller row first. directed: from, to.
    features: (N, F) float32, sparse (csr); None where there are none.
    labels:   (N,) int64, the class of each node, -1 where it is not known; None where none are. classes: their names.
    splits:   rows of the nodes of "train", "validation" and "test", as they come with the data; {} where they do not.
    taken:    one line of what was used of the source, and what was not.
    """

    name: str
    hub_id: str | None
    ids: list[int] | list[str]
    edges: np.ndarray
    directed: bool
    features: csr_matrix | None = None
    labels: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)
    splits: dict[str, np.ndarray] = field(default_factory=dict)
    taken: str = ""

    def __len__(self) -> int:
        """N"""
        return len(self.ids)

    @cached_property
    def adjacency(self) -> csr_matrix:
        """(N, N) float32, 1 where an edge leads from row to column: both ways, unless the graph is directed.

        Its `indptr` and `indices`, ascending in each row, are the lists of neighbours.
        """
        ways = self.edges if self.directed else np.concatenate([self.edges, self.edges[:, ::-1]])
        ones = np.ones(len(ways), dtype=np.float32)
        found = csr_matrix((ones, (ways[:, 0], ways[:, 1])), shape=(len(self), len(self)))
        found.sort_indices()
        return found

    @cached_property
    def degrees(self) -> np.ndarray:
        """(N,) int64: edges at each node, in whichever direction."""
        return np.bincount(self.edges.ravel(), minlength=len(self))

    @cached_property
    def components(self) -> np.ndarray:
        """(N,) the number of the part of the graph that a node lies in, whatever the directions of the edges."""
        return connected_components(self.adjacency, directed=False)[1]

    @cached_property
    def fingerprint(self) -> str:
        """Of all that is learnt from, not of files, caches or dates."""
        digest = hashlib.sha256(repr((type(self.ids[0]), self.directed)).encode())
        digest.update("\n".join(map(str, self.ids)).encode())
        digest.update(np.ascontiguousarray(self.edges, dtype=np.int64))
        if self.features is not None:
            for part in (self.features.indptr.astype(np.int64), self.features.indices.astype(np.int64)):
                digest.update(part)
            digest.update(np.ascontiguousarray(self.features.data, dtype=np.float32))
        return digest.hexdigest()[:16]

    def with_edges(self, edges: np.ndarray) -> Graph:
        """The same nodes with some of the edges, (m, 2) as above, such as those to train on for link prediction."""
        return replace(self, edges=edges)


def load_graph(
    dataset: str,
    *,
    nodes: str | None = None,
    directed: bool = False,
    label_column: str | None = None,
    label_type: LabelType | None = None,
    edge_columns: Sequence[str] = (),
    config: str | None = None,
) -> Graph:
    """Reads a graph.

    dataset: `toy` (see data.village); an .npz file of arrays (see data.graph_arrays); a table of edges in a file (csv,
        tsv, parquet, arrow, json) or on the Hub (see data.graph_tables); or a folder with such a file `edges.*` and
        maybe `nodes.*`.
    nodes: a table of the nodes, a file or Hub id, beside a table of edges: their ids, features, labels, splits.
    directed: edges lead one way; else each is taken both ways.
    label_column, label_type, edge_columns: of the tables, where it is not clear. config: of a Hub dataset with several.

    Raises InputError for whatever the user has to mend.
    """
    if is_made_here(dataset, ["toy"]):
        parts = village()
    else:
        path = local_path(dataset)
        if path is not None and path.endswith(".npz"):
            parts = read_arrays(path)
        else:
            parts = read_tables(
                dataset,
                nodes=nodes,
                label_column=label_column,
                label_type=label_type,
                edge_columns=edge_columns,
                config=config,
            )
            nodes = label_column = edge_columns = None
    for given, name in ((nodes, "nodes"), (label_column, "label_column"), (edge_columns, "edge_columns")):
        if given:
            raise InputError(f"--{name} is of tables of edges and nodes, and {dataset!r} is none: leave it out")
    return _graph(parts, dataset, directed=directed)


def _graph(parts: Parts, dataset: str, *, directed: bool) -> Graph:
    """The graph of its parts, each edge once."""
    edges, count = parts.edges, len(parts.ids)
    is_loop = edges[:, 0] == edges[:, 1]
    ways = edges[~is_loop]
    if not len(ways):
        only = f", only {counted(len(edges), 'loop')} from a node to itself" if len(edges) else ""
        raise InputError(f"{dataset!r} has no edges between nodes{only}: there is nothing to learn from")
    ways = np.unique(ways[:, 0] * count + ways[:, 1])
    kept = np.stack([ways // count, ways % count], axis=1)
    twice = len(edges) - is_loop.sum() - len(kept)
    if not directed:
        ways = np.unique(kept.min(1) * count + kept.max(1))
        one_way = 2 * len(ways) - len(kept)
        kept = np.stack([ways // count, ways % count], axis=1)
    graph = Graph(
        name=parts.name,
        hub_id=parts.hub_id,
        ids=parts.ids,
        edges=kept,
        directed=directed,
        features=parts.features,
        labels=parts.labels,
        classes=parts.classes,
        splits=parts.splits,
    )
    said = [f"{counted(count, 'node')}, {counted(len(kept), 'edge')}"]
    if directed:
        said.append("directed: an edge leads one way only")
    else:
        given = {0: "both ways", len(kept): "once"}.get(one_way, f"once, but for {len(kept) - one_way:,} both ways")
        said.append(f"taken as undirected: each leads both ways (given {given}; --directed if they lead one way)")
    said += [f"left out: {counted(int(is_loop.sum()), 'loop')}"] if is_loop.any() else []
    said += [f"{counted(int(twice), 'edge')} given more than once"] if twice else []
    if alone := int((graph.degrees == 0).sum()):
        said.append(f"{counted(alone, 'node')} without an edge")
    if (several := int(graph.components.max()) + 1) > 1:
        largest = np.bincount(graph.components).max()
        said.append(f"{several:,} components, the largest of {largest:,} nodes")
    if graph.features is not None:
        said.append(f"{graph.features.shape[1]:,} features")
    if graph.labels is not None:
        known = int((graph.labels >= 0).sum())
        said.append(f"{len(graph.classes):,} classes" + (f" of {known:,} nodes" if known < count else ""))
    said += [f"{name}: {len(rows):,} nodes" for name, rows in graph.splits.items()]
    return replace(graph, taken="; ".join([os.path.basename(parts.name) + ": " + said[0], *said[1:], *parts.notes]))
