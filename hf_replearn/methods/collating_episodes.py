"""Episodes of images for a network.

E episodes, N classes of one, M images of each class, C channels, S pixels in a row
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_replearn import augmentation
from hf_replearn.data.decoding import bands_of, centre_crop
from hf_replearn.randomness import Place, upload

TURNED, STRETCHED, MOVED = 0.175, 0.15, 0.1  # radians, shares of 1, and of half an image: of --jitter 1


@dataclass(frozen=True)
class EpisodeCollator:
    """The worker's half decodes images, unless all are held already; the device's half turns and jitters them.

    rows:   of all images, with `image`. held: all of them as uint8 (R, C, S, S) on the device, or None.
    jitter: how far images are turned, stretched and moved at random, each by itself; 0: not at all.
    classes: whether the network is told which classes they are. order: inner steps and images of each (Reptile).
    """

    rows: Any
    held: Tensor | None
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    jitter: float = 0.0
    classes: bool = False
    order: tuple[int, int] | None = None

    def __call__(self, episodes: Sequence[dict]) -> dict[str, Tensor]:
        """rows (E, N, M), turns (E, N), classes (E, N); and pixels (E N M, C, S, S) uint8 where none are held."""
        names = ("rows", "turns", "classes")
        batch = {name: torch.from_numpy(np.stack([episode[name] for episode in episodes])) for name in names}
        if self.held is None:
            batch["pixels"] = self.decode([self.rows[row] for row in batch["rows"].flatten().tolist()])
        return batch

    def decode(self, rows: Sequence[dict]) -> Tensor:
        """(B, C, S, S) uint8, cut as for evaluation."""
        return torch.stack(
            [
                torch.cat([centre_crop(band, self.size, crop_pct=self.crop_pct) for band in bands_of(row)])
                for row in rows
            ]
        )

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (E, N, M, C, S, S), normalised, and maybe classes: (E, N) or order: (E, steps, images); all
        randomness is a function of `place`."""
        rows = batch["rows"]
        pixels = batch["pixels"] if self.held is None else self.held[rows.flatten()]
        images = self.turned(pixels, batch["turns"].repeat_interleave(rows.shape[2]))
        if self.jitter:
            images = jittered(images, self.jitter, place.generator())
        images = augmentation.normalize(images, self.mean, self.std).to(memory_format=torch.channels_last)
        made = {"pixel_values": images.unflatten(0, rows.shape)}
        if self.order is not None:
            generator = place.generator()
            drawn = [order_of(rows[0].numel(), *self.order, generator=generator) for _ in rows]
            made["order"] = upload(torch.stack(drawn), images.device)
        return made | ({"classes": batch["classes"]} if self.classes else {})

    @staticmethod
    def turned(pixels: Tensor, turns: Tensor) -> Tensor:
        """(B, C, S, S) float in 0…1, turned by quarters (B,)."""
        images = pixels.float() / 255
        return augmentation.rotate(images, turns) if turns.any() else images


def jittered(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Images (B, C, S, S), each turned by up to 10 degrees, stretched by up to 15 % and moved by up to 5 % of its side,
    times `strength`. What comes in from outside is as the nearest edge."""
    turn, stretch, *move = (2 * torch.rand(4, len(images), generator=generator) - 1) * strength
    turn, scale = turn * TURNED, 1 + stretch * STRETCHED
    matrix = torch.stack([scale * turn.cos(), -scale * turn.sin(), scale * turn.sin(), scale * turn.cos()])
    matrix = torch.cat([matrix.T.unflatten(1, (2, 2)), MOVED * torch.stack(move, 1)[:, :, None]], dim=2)
    where = torch.nn.functional.affine_grid(upload(matrix, images.device), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, where, padding_mode="border", align_corners=False)


def order_of(images: int, steps: int, each: int, *, generator: torch.Generator) -> Tensor:
    """(steps, each): all images in random order, again and again."""
    each = min(each, images)
    rounds = [torch.randperm(images, generator=generator) for _ in range(math.ceil(steps * each / images))]
    return torch.cat(rounds)[: steps * each].unflatten(0, (steps, each))


def shape_of_draws(classes: int, images: int) -> tuple[int, int]:
    """Classes and images of each, so that about `images` are of as many classes as there are: for a plain classifier,
    which learns best from batches of all kinds."""
    way = min(classes, images)
    return way, math.ceil(images / way)
