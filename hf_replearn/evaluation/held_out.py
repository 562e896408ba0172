"""The loss of a language model on held-out text, and the one of a model that knows nothing but frequencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def held_out_loss(
    model: nn.Module,
    rows: Sequence[dict],
    *,
    collate: Callable[[list[dict]], dict[str, Tensor]],
    views: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    targets: Callable[[dict[str, Tensor]], Tensor],
    batch_size: int = 64,
    rank: int = 0,
    world_size: int = 1,
) -> Tensor:
    """The sum of the losses and the number of predictions of this process's rows: (2,), to be added over processes.

    model: called with what `views` makes of a batch and `num_items_in_batch=1`, which gives the sum of the losses.
    views: must be deterministic, so that two evaluations see the same.
    All processes call the model equally often, since each may hold a part of it; one that has no rows left does it for
    nothing.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total = torch.zeros(2, dtype=torch.float64)
    for first in range(0, len(rows), world_size * batch_size):
        start = first + rank * batch_size
        chosen = [rows[row] for row in range(start, min(start + batch_size, len(rows)))]
        batch = collate(chosen or [rows[0]])
        count = targets(batch)
        batch = views({name: column.to(device) for name, column in batch.items()})
        loss = model(**batch, num_items_in_batch=1).loss
        if chosen:
            total += torch.stack([loss.double().cpu(), count.double().cpu()])
    model.train(was_training)
    return total


def frequency_loss(train: Sequence[dict], test: Sequence[dict], *, special: Tensor, most: int = 20_000) -> float:
    """Cross entropy of tokens told by their frequency in `train` (add-one) alone: what any language model must beat.

    special: (V,) bool, tokens that do not count. most: rows of train to count in.
    """
    ordinary = ~special.numpy()
    counts = [np.zeros(len(ordinary)), np.zeros(len(ordinary))]
    for count, rows in zip(counts, (train, test), strict=True):
        for row, _ in zip(rows, range(most), strict=False):
            count += np.bincount(np.asarray(row["input_ids"])[: row["length"]], minlength=len(ordinary))
    learned, told = (counts[0] + 1)[ordinary], counts[1][ordinary]
    return float(-(told * np.log(learned / learned.sum())).sum() / told.sum())
