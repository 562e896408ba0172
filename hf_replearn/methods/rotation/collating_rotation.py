"""Images to four copies, turned by 0, 90, 180 and 270 degrees (Gidaris et al. 2018, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place


@dataclass(frozen=True)
class DataCollatorForRotation(DataCollatorForViews):
    """A crop of each image, mirrored or not, then turned: what is done after turning would tell up from down by its
    edges."""

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, 4, C, size, size), normalised, copy k turned counter-clockwise k times."""
        crops = self.normalized(self.policy, batch, place.generator(), count=1)[:, 0]
        return {"pixel_values": turned(crops)}

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: a crop and its turns."""
        crops = self.policy(images, views=1, generator=place.generator(), aspect=aspect)
        return turned(crops)[:, :count].transpose(0, 1).flatten(0, 1)


def turned(images: Tensor) -> Tensor:
    """(B, C, H, H) -> (B, 4, C, H, H), copy k turned counter-clockwise by k times 90 degrees, no pixel changed."""
    return torch.stack([images.rot90(turns, (2, 3)) for turns in range(4)], dim=1)
