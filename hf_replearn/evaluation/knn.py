"""Weighted nearest neighbours: what a frozen representation is worth with nothing trained at all."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from hf_replearn.evaluation.checks import single_label
from hf_replearn.representation import Features

SIMILARITIES = 2**24  # held at a time: 64 MiB


def knn(
    train: Features, test: Features, *, k: int = 200, temperature: float = 0.07, device: str = "cpu"
) -> dict[str, float]:
    """Accuracy of the weighted k-nearest-neighbour classifier of Wu et al. 2018 (§3.4), as used by DINO.

    The k train examples of highest cosine similarity s vote for their class with weight exp(s / temperature). Examples
    that are equally near are taken in a random order, not in that of the rows, which may be sorted by class or length.
    Memory is O(chunk·N). Returns {"knn@200": accuracy in 0…1}: the key holds the number of neighbours that voted, fewer
    than k if the train set is smaller, and the temperature if it is not 0.07.

    device: where similarities are computed and counted.
    Raises InputError for features with NaN, missing or multi-label labels, or a single class.
    """
    correct = knn_correct(train, test, k=k, temperature=temperature, device=device)
    k = min(k, len(train))
    name = f"knn@{k}" if temperature == 0.07 else f"knn@{k}_T{temperature:g}"
    return {name: correct.sum().item() / len(test)}


def knn_correct(
    train: Features, test: Features, *, k: int = 200, temperature: float = 0.07, device: str = "cpu"
) -> torch.Tensor:
    """Which test examples the classifier of `knn` gets right: (M,) bool, on the CPU."""
    classes, train_labels, test_labels = single_label(train, test)
    k = min(k, len(train))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    keys, queries = normalize(train.x[order].to(device)), normalize(test.x.to(device))
    train_labels, test_labels = train_labels[order].to(device), test_labels.to(device)
    correct = []
    chunk = max(1, SIMILARITIES // len(train))
    for query, label in zip(queries.split(chunk), test_labels.split(chunk), strict=True):
        similarity, neighbour = (query @ keys.T).topk(k, dim=1)  # (chunk, k)
        # exp(s / T) would overflow for small T; a common factor changes no vote, so the nearest one gets weight 1.
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weight.new_zeros(len(query), len(classes)).scatter_add_(1, train_labels[neighbour], weight)
        correct.append(votes.argmax(dim=1) == label)
    return torch.cat(correct).cpu()
