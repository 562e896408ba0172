"""What vectors of a graph's nodes are worth, beside what is known without learning: classes of nodes, and links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from hf_replearn.data.graphs import Graph
from hf_replearn.errors import InputError
from hf_replearn.evaluation import graph_baselines as known
from hf_replearn.evaluation.links import AP, AUC, LinkSplit, by_vectors, judge_links, paired_links, split_links
from hf_replearn.evaluation.nodes import OWN, RANDOM, SPLITS, NodeSplit, Outcome, judge_nodes
from hf_replearn.evaluation.statistics import holm, paired_test

NODES, LINKS, DEGREE = "nodes", "links", "degree"
LARGEST = 100_000  # nodes up to which eigenvectors are computed
DENSE = 2**28  # numbers of features up to which these are baselines


@dataclass
class Judged:
    """What was measured of several rows: as in a report.

    ways: row -> how a pair's score was made of the vectors of its nodes.
    """

    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ways: dict[str, str] = field(default_factory=dict)


def unordered(graph: Graph) -> np.ndarray:
    """Its edges as pairs of nodes, whatever their direction: (P, 2), the smaller row first, each once, sorted."""
    return np.unique(np.sort(graph.edges, axis=1), axis=0) if graph.directed else graph.edges


def hold_out_links(graph: Graph, *, seed: int) -> tuple[Graph, LinkSplit]:
    """The graph without the edges that are held out, in neither direction, and the split. Raises InputError."""
    split = split_links(unordered(graph), len(graph), seed=seed)
    keys, held = (
        np.sort(pairs, axis=1) @ np.array([len(graph), 1])
        for pairs in (graph.edges, np.concatenate([split.validation, split.test]))
    )
    left = graph.with_edges(graph.edges[~np.isin(keys, held)])
    assert not np.isin(np.sort(left.edges, axis=1) @ np.array([len(graph), 1]), held).any()
    said = f"{graph.taken}; learnt from {len(left.edges):,} edges, the others are held out by split {seed}"
    return replace(left, taken=said), split


def features_of(graph: Graph) -> csr_matrix | None:
    """Of the nodes as networks take them: where none is negative, each node's divided by their sum, as DGI's and
    GraphMAE's authors do; else as they are."""
    x = graph.features
    if x is None or (x.data < 0).any():
        return x
    total = np.asarray(x.sum(axis=1)).ravel()
    return csr_matrix(x.multiply(1 / np.where(total > 0, total, 1)[:, None]), dtype=np.float32)


def own_split(graph: Graph) -> NodeSplit | None:
    """That comes with the graph, of its labelled nodes; None without one. Raises InputError where it shares nodes."""
    if not {"train", "test"} <= graph.splits.keys():
        return None
    parts = {}
    for name in ("train", "validation", "test"):
        rows = graph.splits.get(name, np.empty(0, dtype=np.int64))
        parts[name] = rows[graph.labels[rows] >= 0]
    return NodeSplit(**parts)


def judge_graph(
    graph: Graph,
    rows: dict[str, np.ndarray],
    *,
    tasks: Sequence[str],
    split: LinkSplit | None = None,
    baselines: bool = True,
    seed: int = 0,
) -> Judged:
    """Scores of vectors, and of baselines beside them, with paired tests of the first row against all others.

    graph: with the edges that may be known: those that the vectors were learnt from. rows: name -> (N, D). tasks:
    "nodes", "links". split: for the latter, of which the graph has the train edges only.
    Raises InputError for what has to be mended.
    """
    if NODES in tasks and graph.labels is None:
        raise InputError(f"{graph.name} has no labels of its nodes: --task nodes needs them; --task links does not")
    if split is not None:
        check_unseen(graph, split)
    judged, beside = Judged(), _baselines(graph, seed=seed) if baselines else {}
    judged.notes = _left_out(graph) if baselines else []
    for task in tasks:
        found = {}
        for row, made in (rows | beside).items():
            if task == LINKS and row == DEGREE:
                continue
            vectors = made if isinstance(made, np.ndarray) else made()
            found[row] = _outcome(graph, row, vectors, task, split, judged, seed=seed)
        if task == LINKS and baselines:
            pairs = unordered(graph)
            for row, of in ((DEGREE, known.degree_product), ("Adamic-Adar", known.adamic_adar)):
                found[row] = judge_links(of(pairs, len(graph)), split, seed=seed)
        for row, outcome in found.items():
            judged.scores.setdefault(row, {}).update(outcome.scores)
        judged.comparisons += _compared(found, seed=seed)
    judged.protocols = protocols(graph, tasks, split, judged.ways)
    for test, p in zip(judged.comparisons, holm([test["p"] for test in judged.comparisons]), strict=True):
        test["p"] = p
    return judged


def check_unseen(graph: Graph, split: LinkSplit) -> None:
    """Raises AssertionError where the graph has an edge that is to be told."""
    key = np.array([len(graph), 1])
    asked = np.concatenate([split.validation, split.test, split.validation_none, split.test_none]) @ key
    assert not np.isin(unordered(graph) @ key, asked).any(), "an edge that is to be told is known"


def _outcome(graph, row, vectors, task, split, judged, *, seed: int) -> Outcome:
    if task == NODES:
        return judge_nodes(vectors, graph.labels, own=own_split(graph), splits=SPLITS, seed=seed)
    score, judged.ways[row] = by_vectors(vectors, split)
    return judge_links(score, split, seed=seed)


def _left_out(graph: Graph) -> list[str]:
    """Baselines that there are none of, and why."""
    found = []
    if graph.features is None:
        found.append("not judged: features, alone and spread over edges, since the nodes have none")
    elif np.prod(graph.features.shape) > DENSE:
        found.append(f"not judged: features, alone and spread over edges, of more than {DENSE:,} numbers")
    if len(graph) > LARGEST:
        found.append(f"not judged: eigenvectors, of more than {LARGEST:,} nodes")
    return found


def _baselines(graph: Graph, *, seed: int) -> dict[str, Any]:
    """Row -> vectors of the nodes, or a function that makes them when they are needed."""
    pairs, count, features = unordered(graph), len(graph), features_of(graph)
    found: dict[str, Any] = {}
    if features is not None and np.prod(features.shape) <= DENSE:
        found |= {
            "features": lambda: known.spread(features, pairs, 0),
            "Â²X": lambda: known.spread(features, pairs, 2),
            "Â⁴X": lambda: known.spread(features, pairs, 4),
            f"random GCN ({known.WIDTH})": lambda: known.random_gcn(features, pairs, seed=seed),
        }
    if count <= LARGEST:
        width = min(known.EIGENVECTORS, count - 1)
        found |= {f"spectral ({width})": lambda: known.spectral(pairs, count)}
    return found | {DEGREE: np.log1p(known.degrees(pairs, count))[:, None].astype(np.float32)}


def _compared(found: dict[str, Outcome], *, seed: int) -> list[dict[str, Any]]:
    """Paired tests of the first row with all others, p not yet corrected."""
    (_, first), *others = found.items()
    tests = []
    for other, second in others:
        for metric, values in first.found.items():
            if metric in (AUC, AP):
                test = paired_links(metric, first, second)
            else:
                test = paired_test(values, second.found[metric], seed=seed)
            tests.append({"metric": metric, "other": other} | test)
    return tests


def protocols(graph: Graph, tasks: Sequence[str], split: LinkSplit | None, ways: dict[str, str]) -> dict[str, str]:
    """What every score means."""
    found = {}
    how = "of a logistic regression of their vectors, as they are or at length 1, with a cost"
    if NODES in tasks:
        own = own_split(graph)
        if own is not None:
            by = f"chosen on {len(own.validation):,} others" if len(own.validation) else "chosen on parts of these"
            found[OWN] = (
                f"Accuracy on the {len(own.test):,} test nodes of the graph's own split, {how} {by}, fitted to "
                f"{len(own.train):,} nodes; interval by bootstrap over test nodes."
            )
        found[RANDOM] = (
            f"Accuracy on the other nodes, {how} chosen on parts of the nodes that it is fitted to, a tenth of each "
            f"class (at least 2) drawn at random; the mean of {SPLITS} draws, with a t interval over them."
        )
    if LINKS in tasks:
        told = (
            f"{len(split.test):,} edges held out and as many pairs of nodes that are no edge of the whole graph; the "
            f"vectors and baselines know {len(split.train):,} other edges. A pair's score is made of its nodes' "
            f"vectors by whichever of product, cosine and centred cosine told {len(split.validation):,} further edges "
            "best: "
        ) + "; ".join(f"{row}: {way}" for row, way in ways.items())
        found[AUC] = f"Area under the ROC curve: {told}. Interval by bootstrap over pairs."
        found[AP] = f"Average precision: {told}. Interval by bootstrap over pairs."
    return found
