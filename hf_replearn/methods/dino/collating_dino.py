"""Images to large and small crops (Caron et al. 2021, section 3.1; Caron et al. 2020, arXiv:2006.09882)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place


@dataclass(frozen=True, kw_only=True)
class DataCollatorForMultiCrop(DataCollatorForViews):
    """Two views of each image as ever, which are the large crops, and small crops beside them.

    local_policy: as `policy`, for the small crops. local_crops: how many of each image.
    """

    local_policy: Callable[..., Tensor]
    local_crops: int

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, 2, C, size, size); local_crops: (B, V - 2, C, small, small); all are normalised."""
        generator = place.generator()
        large = self.normalized(self.policy, batch, generator, count=2)
        small = self.normalized(self.local_policy, batch, generator, count=self.local_crops)
        return {"pixel_values": large, "local_crops": small}

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: two large crops, then small ones, enlarged."""
        generator = place.generator()
        large = self.policy(images, views=2, generator=generator, aspect=aspect)
        small = self.local_policy(images, views=count - 2, generator=generator, aspect=aspect)
        return torch.cat([large, interpolate(small, large.shape[-2:])])
