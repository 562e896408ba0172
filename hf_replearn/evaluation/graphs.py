"""What vectors of nodes are worth: what class a node is of, and which nodes are linked; beside what is known without
learning. Every split is checked to share nothing.

N nodes, D numbers of a vector, P pairs of nodes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.linear_probe import COSTS
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression
from hf_replearn.evaluation.statistics import RESAMPLES, half_width, mean_half_width, stated, t_half_width

NODES_OWN, NODES_RANDOM = "nodes_own_split", "nodes_random_split"
LINKS_AUC, LINKS_AP = "links_auc", "links_ap"
SPLITS, TRAIN, FOLDS = 10, 0.1, 5  # random splits of nodes, share of them to learn from, parts to choose the cost by
LINKS_VALIDATION, LINKS_TEST = 0.05, 0.1  # shares of the pairs
WIDTH = 512  # of the GCN at random
EIGENVECTORS = 128
EDGE = 4000  # nodes up to which all eigenvectors are computed
Score = Callable[[np.ndarray], np.ndarray]  # of pairs (P, 2): numbers (P,), the larger the likelier a link


@dataclass(frozen=True)
class Outcome:
    """scores: metric -> value, as in a report. found: metric -> what each test node, split or pair gave, for paired
    tests: (draws, M), or the scores of pairs."""

    scores: dict[str, float | None]
    found: dict[str, np.ndarray]


# ---- splits


@dataclass(frozen=True)
class NodeSplit:
    """Nodes to fit to, to choose the cost on, and to test on; raises InputError where two of these share a node.

    With no validation nodes the cost is chosen by parts of the train nodes.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def __post_init__(self):
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        for name in ("train", "test"):
            if not len(parts[name]):
                raise InputError(f"the split has no {name} nodes")
        names = list(parts)
        for place, name in enumerate(names):
            for other in names[place + 1 :]:
                if len(shared := np.intersect1d(parts[name], parts[other])):
                    raise InputError(f"{len(shared)} nodes are both {name} and {other}, the first is row {shared[0]}")


def random_split(labels: np.ndarray, *, seed: int) -> NodeSplit:
    """A tenth of the nodes of each class to fit to, rounded, two at least where there are three; the others to test.

    labels: (N,) class numbers, -1 for none. Raises InputError where no class has nodes for both.
    """
    rng, train = np.random.default_rng(seed), []
    for label in np.unique(labels[labels >= 0]):
        rows = rng.permutation(np.flatnonzero(labels == label))
        train.append(rows[: min(max(2, round(TRAIN * len(rows))), len(rows) - 1)])
    train = np.sort(np.concatenate(train)) if train else np.empty(0, int)
    return NodeSplit(train, np.empty(0, int), np.setdiff1d(np.flatnonzero(labels >= 0), train))


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
    if len(pairs) < 20:
        raise InputError(f"the graph has {len(pairs)} edges: 20 are the least of which a tenth tells anything")
    rng = np.random.default_rng(seed)
    test, validation = (max(1, round(share * len(pairs))) for share in (LINKS_TEST, LINKS_VALIDATION))
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


# ---- nodes


def judge_nodes(
    vectors: np.ndarray, labels: np.ndarray, *, own: NodeSplit | None = None, splits: int = SPLITS, seed: int = 0
) -> Outcome:
    """Accuracy of a linear classifier of the nodes' vectors: on the graph's own split, if it has one, with an interval
    by bootstrap over test nodes; and over random splits, with a t interval over these.

    vectors: (N, D). labels: (N,) class numbers, -1 for none. Raises InputError for what cannot be judged.
    """
    check_finite(torch.as_tensor(vectors), "nodes'")
    if len(np.unique(labels[labels >= 0])) < 2:
        raise InputError("the labelled nodes are all of one class, or none is labelled: there is nothing to tell apart")
    scores: dict[str, float | None] = {}
    found = {}
    if own is not None:
        right = told(vectors, labels, own) == labels[own.test]
        scores[NODES_OWN], scores[f"{NODES_OWN}_ci95"] = float(right.mean()), mean_half_width(right, seed=seed)
        found[NODES_OWN] = right[None].astype(np.float64)
    parts = [random_split(labels, seed=seed + number) for number in range(splits)]
    accuracies = [float((told(vectors, labels, part) == labels[part.test]).mean()) for part in parts]
    scores[NODES_RANDOM], scores[f"{NODES_RANDOM}_ci95"] = float(np.mean(accuracies)), t_half_width(accuracies)
    found[NODES_RANDOM] = np.array(accuracies)[:, None]
    return Outcome(scores, found)


def told(vectors: np.ndarray, labels: np.ndarray, split: NodeSplit, *, costs: Sequence[float] = COSTS) -> np.ndarray:
    """The class of each test node, as a logistic regression of the train nodes tells it.

    The vectors are taken as they are or at length 1, and the cost is one of `costs`: as the validation nodes tell
    best, or train nodes that are left out in turn; the first of equals. Test nodes are never chosen by.
    """
    x = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
    ways = [x, torch.nn.functional.normalize(x, dim=1)]
    classes, numbers = np.unique(labels[split.train], return_inverse=True)
    if len(classes) < 2:
        raise InputError("the nodes to learn from are all of one class: there is nothing to tell apart")
    y = torch.zeros(len(x), dtype=torch.int64)
    y[split.train] = torch.from_numpy(numbers)
    if len(split.validation):
        known = torch.as_tensor(np.searchsorted(classes, labels[split.validation]).clip(max=len(classes) - 1))
        known[torch.from_numpy(classes[known.numpy()] != labels[split.validation])] = -1
        y[split.validation] = known
        rounds = [(split.train, split.validation)]
    else:
        rounds = _left_out(split.train, numbers)
    right = [sum(_right(way, y, fit, held, costs, len(classes)) for fit, held in rounds) for way in ways]
    way, cost = divmod(int(torch.cat(right).argmax()), len(costs))
    scores = _scores(ways[way], y, split.train, split.test, [costs[cost]], len(classes))
    return classes[scores[0].argmax(dim=1).numpy()]


def _left_out(train: np.ndarray, numbers: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train nodes in up to five parts, each class spread over them: all but one part, and that part."""
    order = np.lexsort((np.random.default_rng(0).permutation(len(train)), numbers))
    part = np.empty(len(train), dtype=int)
    part[order] = np.arange(len(train)) % min(FOLDS, len(train))
    found = [(train[part != number], train[part == number]) for number in np.unique(part)]
    return [(fit, held) for fit, held in found if len(np.unique(numbers[np.isin(train, fit)])) > 1]


def _right(x, y, fit, held, costs, classes: int) -> torch.Tensor:
    """How many held-out nodes are told right with each cost: (C,)."""
    return (_scores(x, y, fit, held, costs, classes).argmax(dim=2) == y[held]).sum(dim=1)


def _scores(x, y, fit, held, costs, classes: int) -> torch.Tensor:
    """Of each class for held-out nodes, with each cost: (C, n, K)."""
    z, (other,) = centre_and_scale(x[fit][None], x[held][None][0][None])
    w, b = softmax_regression(z, y[fit][None], torch.tensor(costs), classes)
    return other @ w[0].mT + b[0][:, None]


# ---- links


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
    scores = {LINKS_AUC: float(auc[0]), f"{LINKS_AUC}_ci95": stated(half_width(drawn[0]))}
    scores |= {LINKS_AP: float(ap[0]), f"{LINKS_AP}_ci95": stated(half_width(drawn[1]))}
    return Outcome(scores, {LINKS_AUC: both, LINKS_AP: both})


def areas(edges: np.ndarray, none: np.ndarray, w: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve, ties by half, and average precision, as scikit-learn defines them, of edges' scores
    (P,) that count w (R, P) times and those of pairs that are none (Q,) that count v (R, Q) times: (R,) and (R,)."""
    scores = np.concatenate([edges, none])
    values, place = np.unique(-scores, return_inverse=True)  # the largest score first

    def counted(weights: np.ndarray, places: np.ndarray) -> np.ndarray:
        total = np.zeros((len(weights), len(values)))
        for row, of in zip(total, weights, strict=True):
            row += np.bincount(places, weights=of, minlength=len(values))
        return total

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


def paired_links(metric: str, a: np.ndarray, b: np.ndarray, *, edges: int, seed: int = 0) -> dict[str, float]:
    """As `paired_test`, for two scores of the same pairs (P + Q,), the edges first."""
    which = [LINKS_AUC, LINKS_AP].index(metric)
    first, second = (resampled_areas(of[:edges], of[edges:], seed=seed)[which] for of in (a, b))
    ones = np.ones((1, edges)), np.ones((1, len(a) - edges))
    values = [float(areas(of[:edges], of[edges:], *ones)[which][0]) for of in (a, b)]
    samples = first - second
    other_side = min((samples <= 0).mean(), (samples >= 0).mean())
    return {
        "difference": values[0] - values[1],
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


# ---- what is known without learning


def adjacency(pairs: np.ndarray, nodes: int):
    """(N, N) scipy.sparse.csr_matrix of 1 for each unordered pair (P, 2), both ways."""
    from scipy.sparse import csr_matrix

    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    found = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(nodes, nodes))
    found.data[:] = 1.0
    return found


def normalised(pairs: np.ndarray, nodes: int):
    """Â = D^-1/2 (A + I) D^-1/2 (Kipf & Welling 2017, section 2), a scipy.sparse.csr_matrix."""
    from scipy.sparse import diags, identity

    a = adjacency(pairs, nodes) + identity(nodes, format="csr")
    scale = diags(np.asarray(a.sum(axis=1)).ravel() ** -0.5)
    return (scale @ a @ scale).tocsr()


def spread(features, pairs: np.ndarray, times: int) -> np.ndarray:
    """Â^k X (Wu et al. 2019): each node's features, mixed with its neighbours' so many times; (N, D) float32."""
    a = normalised(pairs, features.shape[0])
    for _ in range(times):
        features = a @ features
    return _dense(features)


def random_gcn(features, pairs: np.ndarray, *, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """What a GCN of one layer with random weights makes of the features, by Glorot & Bengio (2010) and a PReLU with
    0.25, as an untrained DGI: (N, width) float32."""
    inputs = features.shape[1]
    bound = (6 / (inputs + width)) ** 0.5
    weight = np.random.default_rng(seed).uniform(-bound, bound, (inputs, width))
    found = normalised(pairs, features.shape[0]) @ (features @ weight)
    return np.where(found > 0, found, 0.25 * found).astype(np.float32)


def degrees(pairs: np.ndarray, nodes: int) -> np.ndarray:
    """Neighbours of each node: (N,)."""
    return np.bincount(pairs.ravel(), minlength=nodes)


def spectral(pairs: np.ndarray, nodes: int, *, width: int = EIGENVECTORS) -> np.ndarray:
    """Eigenvectors of Â for its largest eigenvalues, times the roots of these: (N, width) float32, fewer of fewer
    nodes."""
    a = normalised(pairs, nodes)
    width = min(width, nodes - 1)
    if nodes <= EDGE:
        values, vectors = np.linalg.eigh(a.toarray())
        values, vectors = values[-width:], vectors[:, -width:]
    else:
        from scipy.sparse.linalg import eigsh

        values, vectors = eigsh(a, k=width, which="LA", v0=np.random.default_rng(0).standard_normal(nodes))
    return (vectors * np.maximum(values, 0) ** 0.5).astype(np.float32)


def degree_product(pairs: np.ndarray, nodes: int) -> Score:
    """Nodes with many edges are linked (preferential attachment)."""
    degree = degrees(pairs, nodes).astype(np.float64)
    return lambda asked: degree[asked[:, 0]] * degree[asked[:, 1]]


def adamic_adar(pairs: np.ndarray, nodes: int) -> Score:
    """Nodes with common neighbours are linked, each of which counts 1 / log of its degree (Adamic & Adar 2003)."""
    from scipy.sparse import diags

    a = adjacency(pairs, nodes)
    weighted = a @ diags(1 / np.log(np.maximum(degrees(pairs, nodes), 2)))
    return lambda asked: np.asarray(weighted[asked[:, 0]].multiply(a[asked[:, 1]]).sum(axis=1)).ravel()


def _dense(features) -> np.ndarray:
    found = features if isinstance(features, np.ndarray) else features.toarray()
    return np.asarray(found, dtype=np.float32)
