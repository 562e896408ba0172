"""What a fit reads: whole images, patches drawn from them, or features, a batch at a time, from memory where they fit
into it and from their files again where they do not.

N inputs, D numbers of each
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hf_replearn.data.decoding import bands_of, centre_crop
from hf_replearn.errors import InputError
from hf_replearn.methods.fitted import normalise

HELD = 2**31  # bytes of decoded images that are kept in memory


@dataclass(frozen=True)
class Crops:
    """Rows with an `image` -> (B, C, S, S) uint8."""

    size: int
    crop_pct: float

    def __call__(self, rows: Sequence[dict]) -> Tensor:
        crop = partial(centre_crop, size=self.size, crop_pct=self.crop_pct)
        return torch.stack([torch.cat(list(map(crop, bands_of(row)))) for row in rows])


@dataclass(frozen=True)
class Inputs:
    """N inputs of D numbers, normalised as the model does it: `methods.fitting.Examples`.

    numbers:  (N, D), uint8 of images and patches (0...255 are 0...1), or float32; None: the images of `rows` do not fit
              into memory, and are decoded by `crops` whenever they are asked for.
    contrast, shift, whitener: as of the model. size: inputs of a batch, unless told otherwise.
    """

    numbers: Tensor | None
    width: int
    device: torch.device
    size: int
    contrast: float | None = None
    shift: Tensor | None = None
    whitener: Tensor | None = None
    rows: Any = None
    crops: Crops | None = None
    workers: int = 0

    def __len__(self) -> int:
        return len(self.rows) if self.numbers is None else len(self.numbers)

    @property
    def held(self) -> bool:
        """Whether all of them lie in memory."""
        return self.numbers is not None

    def batches(self, size: int | None = None, order: Tensor | None = None) -> Iterator[Tensor]:
        """(n, D) float32, `size` at a time, in the order of the places (N,), or as they stand."""
        for part in self._parts(size or self.size, order):
            yield self.prepared(part)

    def some(self, places: Tensor) -> Tensor:
        """(n, D) float32, those at these places (n,)."""
        return torch.cat(list(self.batches(order=places)))

    def prepared(self, part: Tensor) -> Tensor:
        """Numbers (n, D) as they are held -> as the model codes them."""
        x = part.to(self.device)
        x = normalise(x.float() / 255 if x.dtype == torch.uint8 else x.float(), self.contrast)
        x = x if self.shift is None else x - self.shift
        return x if self.whitener is None else x @ self.whitener

    def whitened(self, shift: Tensor, whitener: Tensor) -> Inputs:
        """The same, whitened."""
        return replace(self, shift=shift.float().to(self.device), whitener=whitener.float().to(self.device))

    def _parts(self, size: int, order: Tensor | None) -> Iterator[Tensor]:
        if self.numbers is not None and order is None:
            yield from self.numbers.split(size)  # nothing is copied
            return
        order = torch.arange(len(self)) if order is None else order
        if self.numbers is not None:
            yield from (self.numbers[places] for places in order.split(size))
            return
        chosen = [places.tolist() for places in order.split(size)]
        loader = DataLoader(self.rows, batch_sampler=chosen, collate_fn=self.crops, num_workers=self.workers)
        yield from (images.flatten(1) for images in loader)


def whole_images(rows, crops: Crops, *, channels: int, **about: Any) -> Inputs:
    """Every image of a dataset is an input. about: what else `Inputs` has."""
    width, workers = channels * crops.size**2, about.get("workers", 0)
    if len(rows) * width > HELD:
        return Inputs(None, width, rows=rows, crops=crops, **about)
    loader = DataLoader(rows, 256, collate_fn=crops, num_workers=workers)
    return Inputs(torch.cat([images.flatten(1) for images in loader]), width, **about)


def drawn_patches(rows, crops: Crops, *, side: int, count: int, seed: int, **about: Any) -> Inputs:
    """As many patches of all images, as near as can be, from anywhere in them, in one pass: `count` in all.

    side: pixels. Raises InputError for patches that are larger than the images.
    """
    if side > crops.size:
        raise InputError(f"--patches {side}: images have {crops.size} pixels a side: give fewer, or more --image_size")
    generator = torch.Generator().manual_seed(seed)
    bounds = [place * count // len(rows) for place in range(len(rows) + 1)]
    corners = torch.randint(0, crops.size - side + 1, (count, 2), generator=generator).tolist()
    images = itertools.chain.from_iterable(DataLoader(rows, 256, collate_fn=crops, num_workers=about.get("workers", 0)))
    found = [
        image[:, y : y + side, x : x + side].flatten()
        for image, first, last in zip(images, bounds, bounds[1:], strict=False)
        for y, x in corners[first:last]
    ]
    return Inputs(torch.stack(found), len(found[0]), **about)


__all__ = ["Crops", "Inputs", "drawn_patches", "whole_images"]
