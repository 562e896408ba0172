"""What class a node is of, as its vector tells.

N nodes, D numbers of a vector
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.linear_probe import COSTS
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression
from hf_replearn.evaluation.statistics import mean_half_width, t_half_width

OWN, RANDOM = "nodes_own_split", "nodes_random_split"
SPLITS, TRAIN, FOLDS = 10, 0.1, 5  # random splits, share of the nodes to fit to, parts of these to choose the cost by


@dataclass(frozen=True)
class Outcome:
    """scores: metric -> value, as in a report. found: metric -> what paired tests are made of: outcomes (draws, M), or
    of links what samples of the pairs gave."""

    scores: dict[str, float | None]
    found: dict[str, np.ndarray]


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
        scores[OWN], scores[f"{OWN}_ci95"] = float(right.mean()), mean_half_width(right, seed=seed)
        found[OWN] = right[None].astype(np.float64)
    parts = [random_split(labels, seed=seed + number) for number in range(splits)]
    accuracies = [float((told(vectors, labels, part) == labels[part.test]).mean()) for part in parts]
    scores[RANDOM], scores[f"{RANDOM}_ci95"] = float(np.mean(accuracies)), t_half_width(accuracies)
    found[RANDOM] = np.array(accuracies)[:, None]
    return Outcome(scores, found)


def told(vectors: np.ndarray, labels: np.ndarray, split: NodeSplit, *, costs: Sequence[float] = COSTS) -> np.ndarray:
    """The class of each test node, as a logistic regression of the train nodes tells it.

    The vectors are taken as they are or at length 1, and the cost is one of `costs`: as the validation nodes tell
    best, or train nodes that are left out in turn; the first of equals. Test nodes are never chosen by.
    """
    x = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
    ways = torch.stack([x, torch.nn.functional.normalize(x, dim=1)])
    classes, numbers = np.unique(labels[split.train], return_inverse=True)
    if len(classes) < 2:
        raise InputError("the nodes to learn from are all of one class: there is nothing to tell apart")
    y = torch.full((len(x),), -1)
    y[split.train] = torch.from_numpy(numbers)
    if len(split.validation):
        place = np.searchsorted(classes, labels[split.validation]).clip(max=len(classes) - 1)
        known = classes[place] == labels[split.validation]
        y[split.validation[known]] = torch.from_numpy(place[known])
        rounds = [(split.train, split.validation)]
    else:
        rounds = _left_out(split.train, numbers)
    rights = [
        (scores.argmax(dim=3) == y[held]).sum(dim=2)
        for scores, (_, held) in zip(_scores(ways, y, rounds, costs), rounds, strict=True)
    ]
    way, cost = divmod(int(sum(rights).argmax()), len(costs))
    (scores,) = _scores(ways[way : way + 1], y, [(split.train, split.test)], [costs[cost]])
    return classes[scores[0, 0].argmax(dim=1).numpy()]


def _left_out(train: np.ndarray, numbers: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train nodes in up to five parts, each class spread over them: all but one part, and that part. What is fitted to
    is of one size, that of the smallest, so that all are fitted together."""
    order = np.lexsort((np.random.default_rng(0).permutation(len(train)), numbers))
    part = np.empty(len(train), dtype=int)
    part[order] = np.arange(len(train)) % min(FOLDS, len(train))
    found = [(train[part != number], train[part == number]) for number in np.unique(part)]
    size = min(len(fit) for fit, _ in found)
    found = [(fit[:size], held) for fit, held in found]
    return [(fit, held) for fit, held in found if len(np.unique(numbers[np.isin(train, fit)])) > 1]


def _scores(
    ways: Tensor, y: Tensor, rounds: Sequence[tuple[np.ndarray, np.ndarray]], costs: Sequence[float]
) -> list[Tensor]:
    """For each round, as many nodes to fit to and some held out: scores of each class for the latter, of vectors taken
    in W ways (W, N, D), with each cost: (W, C, n, K)."""
    moved = [centre_and_scale(way[None, fit], way[held]) for fit, held in rounds for way in ways]
    labels = torch.cat([y[fit].expand(len(ways), -1) for fit, _ in rounds])
    z = torch.cat([z for z, _ in moved])
    w, b = softmax_regression(z, labels, torch.tensor(costs), int(y.max()) + 1)
    scores = [other @ w.mT + b[:, None] for (_, (other,)), w, b in zip(moved, w, b, strict=True)]  # (C, n, K) each
    return [torch.stack(scores[place : place + len(ways)]) for place in range(0, len(scores), len(ways))]
