"""Images to crops, and which of their patches are hidden (He et al. 2022, section 3, "Masking")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place, upload


@dataclass(frozen=True, kw_only=True)
class DataCollatorForMAE(DataCollatorForViews):
    """A crop of each image, mirrored or not, and a number for each patch, drawn for each image by itself: the model
    hides those of which it is largest.

    side: patches in a row, and in a column. kept: how many of the patches are seen, for the picture.
    """

    side: int
    kept: int

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, C, size, size), normalised. noise: (B, N), uniform in [0, 1)."""
        generator = place.generator()
        crops = self.normalized(self.policy, batch, generator, count=1)[:, 0]
        noise = torch.rand(len(crops), self.side**2, generator=generator)
        return {"pixel_values": crops, "noise": upload(noise, crops.device)}

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: crops, hidden patches grey."""
        generator = place.generator()
        crops = self.policy(images, views=count, generator=generator, aspect=aspect)
        noise = torch.rand(len(crops), self.side**2, generator=generator)
        return with_holes(crops, noise.argsort(1)[:, self.kept :].to(crops.device), self.side)


def with_holes(images: Tensor, hidden: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) in [0, 1], the patches at hidden (B, M) in grey. side: patches in a row."""
    holes = torch.zeros(len(images), side**2, dtype=torch.bool, device=images.device).scatter(1, hidden, True)
    size = images.shape[-1] // side
    holes = holes.view(-1, 1, side, side).repeat_interleave(size, 2).repeat_interleave(size, 3)
    return images.masked_fill(holes, 0.5)
