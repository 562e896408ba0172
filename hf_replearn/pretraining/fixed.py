"""Images as a network saw them, always the same: what a run is watched and judged by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hf_replearn.evaluation.health import SAMPLE
from hf_replearn.randomness import Place

TOGETHER = 128  # images in one pass, at most


def fixed_sample(rows):
    """Always the same images of the data, in their order."""
    if len(rows) <= SAMPLE:
        return rows
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:SAMPLE]
    return rows.select(drawn.sort().values.tolist())


@dataclass(frozen=True)
class FixedBatches:
    """The views of some rows, a batch at a time, on the device of the network: the arguments of its `forward`.

    Each time it is gone through they are the same, for their places in the run are fixed; no random number of the
    training is used, if this is done in `undisturbed`.

    rows:     a datasets.Dataset. collator: of the method.
    batch:    images in one pass, at most. workers: of the loader.
    learnt:   the rows that the network was trained on.
    """

    rows: Any
    collator: Any
    device: torch.device
    batch: int = TOGETHER
    workers: int = 0
    learnt: Any = None

    def of_training(self, most: int) -> FixedBatches:
        """So many at most of the images that the network was trained on, at even distances."""
        count = min(most, len(self.learnt))
        places = [place * len(self.learnt) // count for place in range(count)]
        return replace(self, rows=self.learnt if count == len(self.learnt) else self.learnt.select(places))

    def __len__(self) -> int:
        """Images, not batches."""
        return len(self.rows)

    def few(self, count: int) -> dict[str, Tensor]:
        """The views of so many of the images, at even distances, since neighbours are often of one class."""
        count = min(count, len(self.rows))
        rows = self.rows.select([place * len(self.rows) // count for place in range(count)])
        return next(iter(replace(self, rows=rows, workers=0)))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        at_once = min(self.batch, TOGETHER)
        loader = DataLoader(self.rows, at_once, num_workers=self.workers, collate_fn=self.collator)
        for place, images in enumerate(loader):
            images = {name: value.to(self.device) for name, value in images.items()}
            yield self.collator.views(images, Place(0, 0, place))
