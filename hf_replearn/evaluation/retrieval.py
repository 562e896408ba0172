"""Retrieval: whether the nearest neighbours of an example are of its own class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.representation import Features

QUERIES = 256  # ranked at a time


def retrieval(
    features: Features, *, ranks: Sequence[int] = (1, 5), queries: int | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Each query ranks all other examples by cosine similarity; those of its class are relevant.

    queries: how many rows, drawn at random, ask; None: all. Those that are alone in their class never do.

    Returns per-query outcomes, (Q,) float: "recall@k", 1 where one of the k nearest is relevant (the Recall@K of metric
    learning, Jégou et al. 2011; Song et al. 2016), and "map", the average precision of the whole ranking; their means
    are the scores.
    Raises InputError for features with NaN, for labels that are missing or not one an example, and where all classes
    have a single example, or all examples one class.
    """
    if features.labels is None or features.labels.ndim != 1:
        raise InputError("retrieval needs one label an example")
    _, classes, counts = features.labels.unique(return_inverse=True, return_counts=True)
    asking = (counts[classes] > 1).nonzero().flatten()
    if not len(asking):
        raise InputError("every class has a single example: none can find another of its class")
    if len(counts) == 1:
        raise InputError("all examples are of one class: whatever is found is right")
    if queries is not None and queries < len(asking):
        asking = asking[torch.randperm(len(asking), generator=torch.Generator().manual_seed(seed))[:queries]].sort()[0]
    check_finite(features.x, "test")
    x = normalize(features.x)
    chance = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {}
    place = torch.arange(1, len(x))
    for rows in asking.split(QUERIES):
        similarity = x[rows] @ x.T
        similarity.scatter_(1, rows[:, None], -torch.inf)  # nobody finds himself
        shuffled = torch.rand(similarity.shape, generator=chance).argsort(dim=1)
        order = similarity.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)[:, :-1]
        relevant = classes[shuffled.gather(1, order)] == classes[rows, None]  # (Q, N - 1), best first
        for k in ranks:
            found.setdefault(f"recall@{k}", []).append(relevant[:, :k].any(dim=1).float())
        precision = relevant.cumsum(dim=1) / place
        found.setdefault("map", []).append((precision * relevant).sum(dim=1) / relevant.sum(dim=1))
    return {name: torch.cat(parts) for name, parts in found.items()}


def neighbours(keys: Features, queries: Tensor, *, k: int) -> Tensor:
    """Rows of the k keys, or all there are, of highest cosine similarity to each of the queries (Q, D), nearest first:
    (Q, k)."""
    return (normalize(queries) @ normalize(keys.x).T).topk(min(k, len(keys)), dim=1).indices
