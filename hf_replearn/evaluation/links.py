"""Which nodes are linked, as scores of pairs tell; the pairs that are learnt from, chosen by and tested on share none.

N nodes, D numbers of a vector, P pairs of nodes
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.nodes import Outcome
from hf_replearn.evaluation.statistics import RESAMPLES, half_width, stated

AUC, AP = "links_auc", "links_ap"
VALIDATION, TEST = 0.05, 0.1  # shares of the edges
FEWEST = 20  # edges
Score = Callable[[np.ndarray], np.ndarray]  # of pairs (P, 2): numbers (P,), the larger the likelier a link


@dataclass(frozen=True)
class LinkSplit:
    """Unordered pairs of nodes, the smaller number first, each (P, 2): edges to learn from, to choose by and to test
    on, and for the latter two as many pairs that are no edge.

    Raises AssertionError where any two share a pair, where a pair is twice in one, and where one that is said to be no
    edge is one.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    validation_none: np.ndarray
    test_none: np.ndarray

    def __post_init__(self):
        seen: set[tuple[int, int]] = set()
        for name in ("train", "validation", "test", "validation_none", "test_none"):
            pairs = getattr(self, name)
            assert (pairs[:, 0] < pairs[:, 1]).all(), f"{name}: a pair is not ordered, or of one node"
            found = set(map(tuple, pairs.tolist()))
            assert len(found) == len(pairs), f"{name}: a pair stands twice"
            assert not found & seen, f"{name}: a pair is in another part as well"
            seen |= found


def split_links(pairs: np.ndarray, nodes: int, *, seed: int) -> LinkSplit:
    """85 % of the edges to learn from, 5 % to choose by, 10 % to test; pairs that are no edge are drawn uniformly.

    pairs: (P, 2) all edges, as unordered pairs of different nodes, each once. Raises InputError where these are fewer
    than 20, and where there are not as many pairs that are no edge.
    """
    pairs = np.sort(pairs, axis=1)
    if len(pairs) < FEWEST:
        raise InputError(f"the graph has {len(pairs)} edges: {FEWEST} are the least of which a tenth tells anything")
    rng = np.random.default_rng(seed)
    test, validation = (max(1, round(share * len(pairs))) for share in (TEST, VALIDATION))
    keys = np.unique(pairs[:, 0] * nodes + pairs[:, 1])
    none = _no_edges(keys, nodes, test + validation, rng)
    pairs = pairs[rng.permutation(len(pairs))]
    return LinkSplit(
        pairs[test + validation :],
        pairs[test : test + validation],
        pairs[:test],
        none[test:],
        none[:test],
    )


def _no_edges(keys: np.ndarray, nodes: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many different unordered pairs of nodes that are no edge, (count, 2). keys: a * nodes + b of the edges a < b,
    sorted."""
    left = nodes * (nodes - 1) // 2 - len(keys)
    if left < count:
        raise InputError(
            f"of the graph's {nodes} nodes only {left} pairs are not linked, and {count} are needed to test by"
        )
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        drawn = np.sort(rng.integers(0, nodes, (2 * count + 16, 2)), axis=1)
        drawn = drawn[drawn[:, 0] < drawn[:, 1]]
        drawn = drawn[:, 0] * nodes + drawn[:, 1]
        found = np.concatenate([found, drawn[~np.isin(drawn, keys)]])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    return np.stack([found[:count] // nodes, found[:count] % nodes], axis=1)


def judge_links(score: Score, split: LinkSplit, *, seed: int = 0) -> Outcome:
    """How well scores of pairs tell edges from pairs that are none: the area under the ROC curve and the average
    precision of the test pairs, with intervals by bootstrap over edges and over pairs that are none.

    Raises InputError for scores that are not finite.
    """
    edges, none = (np.asarray(score(pairs), dtype=np.float64) for pairs in (split.test, split.test_none))
    both = np.concatenate([edges, none])
    if not np.isfinite(both).all():
        raise InputError(f"{(~np.isfinite(both)).sum()} of {len(both)} scores of pairs are not finite")
    auc, ap = areas(edges, none, *(np.ones((1, len(part))) for part in (edges, none)))
    drawn = resampled_areas(edges, none, seed=seed)
    scores = {AUC: float(auc[0]), f"{AUC}_ci95": stated(half_width(drawn[0]))}
    scores |= {AP: float(ap[0]), f"{AP}_ci95": stated(half_width(drawn[1]))}
    return Outcome(scores, dict(zip((AUC, AP), drawn, strict=True)))


def areas(edges: np.ndarray, none: np.ndarray, w: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve, ties by half, and average precision, as scikit-learn defines them, of edges' scores
    (P,) that count w (R, P) times and those of pairs that are none (Q,) that count v (R, Q) times: (R,) and (R,)."""
    scores = np.concatenate([edges, none])
    values, place = np.unique(-scores, return_inverse=True)  # the largest score first

    def counted(weights: np.ndarray, places: np.ndarray) -> np.ndarray:
        cells = np.arange(len(weights))[:, None] * len(values) + places
        total = np.bincount(cells.ravel(), weights=weights.ravel(), minlength=len(weights) * len(values))
        return total.reshape(len(weights), len(values))

    right, wrong = counted(w, place[: len(edges)]), counted(v, place[len(edges) :])
    passed, false = right.cumsum(axis=1), wrong.cumsum(axis=1)
    auc = (right * (false[:, -1:] - false + wrong / 2)).sum(axis=1) / (passed[:, -1] * false[:, -1])
    precision = passed / np.maximum(passed + false, 1)
    return auc, (right * precision).sum(axis=1) / passed[:, -1]


def resampled_areas(edges: np.ndarray, none: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(2, R): `areas` of samples of the edges and of the other pairs with replacement; the same seed draws the same."""
    rng, found = np.random.default_rng(seed), []
    some = max(1, 2**22 // (len(edges) + len(none)))
    for first in range(0, RESAMPLES, some):
        size = min(some, RESAMPLES - first)
        w, v = (rng.multinomial(len(of), np.full(len(of), 1 / len(of)), size) for of in (edges, none))
        found.append(np.stack(areas(edges, none, w, v)))
    return np.concatenate(found, axis=1)


def paired_links(metric: str, a: Outcome, b: Outcome) -> dict[str, float]:
    """As `paired_test`, for the outcomes of two scores of the same pairs, by the same seed."""
    samples = a.found[metric] - b.found[metric]
    other_side = min((samples <= 0).mean(), (samples >= 0).mean())
    return {
        "difference": a.scores[metric] - b.scores[metric],
        "ci95": half_width(samples),
        "p": float(min(1.0, max(2 * other_side, 1 / RESAMPLES))),
    }


def by_vectors(vectors: np.ndarray, split: LinkSplit) -> tuple[Score, str]:
    """A pair's score by the vectors (N, D) of its nodes, and its name: their product, cosine, or cosine less the mean
    of all vectors, whichever has the largest area under the ROC curve of the validation pairs; the first of equals."""
    check_finite(torch.as_tensor(vectors), "nodes'")
    vectors = np.asarray(vectors, dtype=np.float64)

    def directions(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    ways = {
        "product": vectors,
        "cosine": directions(vectors),
        "centred cosine": directions(vectors - vectors.mean(axis=0)),
    }
    scores = {name: _products(x) for name, x in ways.items()}

    def chosen_by(name: str) -> float:
        edges, none = scores[name](split.validation), scores[name](split.validation_none)
        return float(areas(edges, none, np.ones((1, len(edges))), np.ones((1, len(none))))[0][0])

    best = max(scores, key=chosen_by)
    return scores[best], best


def _products(x: np.ndarray) -> Score:
    return lambda pairs: np.einsum("pd,pd->p", x[pairs[:, 0]], x[pairs[:, 1]])
