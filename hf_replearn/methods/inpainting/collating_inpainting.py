"""Images to crops, and what of them is hidden (Pathak et al. 2016, section 3.3 and Figure 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place, upload

MASKS = {"centre": "fixed region", "blocks": "random blocks", "region": "random region"}
BLOCKS = 5  # squares, of which some overlap


@dataclass(frozen=True, kw_only=True)
class DataCollatorForInpainting(DataCollatorForViews):
    """A crop of each image, mirrored or not, and which of its pixels are hidden.

    mask:  of MASKS. share: of the pixels that it hides, see `draw_hidden`.
    """

    mask: str
    share: float

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, C, size, size), normalised. hidden: (B, 1, size, size) bool."""
        generator = place.generator()
        crops = self.normalized(self.policy, batch, generator, count=1)[:, 0]
        hidden = draw_hidden(self.mask, len(crops), crops.shape[-1], share=self.share, generator=generator)
        return {"pixel_values": crops, "hidden": upload(hidden, crops.device)}

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: crops, what is hidden in the mean colour."""
        generator = place.generator()
        crops = self.policy(images, views=count, generator=generator, aspect=aspect)
        hidden = draw_hidden(self.mask, len(crops), crops.shape[-1], share=self.share, generator=generator)
        return with_holes(crops, hidden, self.mean)


def with_holes(images: Tensor, hidden: Tensor, mean: tuple[float, ...]) -> Tensor:
    """Images (B, C, H, W) in [0, 1], the mean colour where hidden (B, 1, H, W)."""
    return torch.where(hidden.to(images.device), torch.tensor(mean).view(-1, 1, 1).to(images), images)


def draw_hidden(mask: str, count: int, size: int, *, share: float, generator: torch.Generator) -> Tensor:
    """What is hidden of so many images of size x size pixels: (count, 1, size, size) bool.

    centre: a square in the middle, the same for all. blocks: squares anywhere, which together have `share` of the
    pixels and hide less where they overlap. region: of any shape, another for each image, where smooth noise is least:
    exactly `share` of the pixels.
    """
    hidden = torch.zeros(count, size, size, dtype=torch.bool)
    if mask == "centre":
        side = side_of(mask, size, share)
        first = (size - side) // 2
        hidden[:, first : first + side, first : first + side] = True
    elif mask == "blocks":
        side, pixel = side_of(mask, size, share), torch.arange(size)
        corner = torch.randint(size - side + 1, (2, count, BLOCKS, 1), generator=generator)
        rows, columns = (pixel >= corner) & (pixel < corner + side)  # (count, BLOCKS, size) each
        hidden = (rows[..., None] & columns[:, :, None]).any(1)
    else:
        coarse = torch.rand(count, 1, max(3, size // 8), max(3, size // 8), generator=generator)
        noise = interpolate(coarse, (size, size), mode="bicubic").flatten(1)
        least = noise.argsort(1)[:, : round(share * size**2)]
        hidden = hidden.flatten(1).scatter(1, least, True).view(count, size, size)
    return hidden[:, None]


def side_of(mask: str, size: int, share: float) -> int:
    """Pixels of the side of a square that is hidden."""
    return round(size * math.sqrt(share / (BLOCKS if mask == "blocks" else 1)))


def hides_some(mask: str, size: int, share: float) -> bool:
    """Whether the mask hides something, and not everything."""
    if mask == "region":
        return 0 < round(share * size**2) < size**2
    return 0 < side_of(mask, size, share) < size
