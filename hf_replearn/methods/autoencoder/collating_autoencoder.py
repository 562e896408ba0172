"""Images to what an autoencoder sees of them, and what it is to make (Vincent et al. 2010, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.augmentation import normalize
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place, upload

CORRUPTIONS = ("masking", "gaussian")


@dataclass(frozen=True, kw_only=True)
class DataCollatorForAutoencoder(DataCollatorForViews):
    """An image, and the same image with noise that is drawn anew each time.

    corruption: of CORRUPTIONS. noise: its amount, see `corrupted`; 0: none.
    """

    corruption: str = "masking"
    noise: float = 0.0

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, C, size, size), normalised, with noise. levels: (B, C, size, size), from 0 to 1,
        without."""
        generator = place.generator()
        levels = self.policy(batch["pixel_values"], views=1, generator=generator, aspect=batch.get("aspect"))
        seen = corrupted(levels, self.corruption, self.noise, generator=generator)
        return {"pixel_values": normalize(seen.clone(), self.mean, self.std), "levels": levels}

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: what the network sees, so many times."""
        generator = place.generator()
        levels = self.policy(images, views=count, generator=generator, aspect=aspect)
        return corrupted(levels, self.corruption, self.noise, generator=generator)


def corrupted(levels: Tensor, corruption: str, noise: float, *, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W) with noise.

    masking: each pixel is 0 in all channels with the probability `noise`. gaussian: to each number is added one of
    mean 0 and standard deviation `noise`; nothing is cut off at 0 or 1, for then it would be no such noise.
    """
    if not noise:
        return levels
    batch, channels, height, width = levels.shape
    if corruption == "masking":
        kept = torch.rand(batch, 1, height, width, generator=generator) >= noise
        return torch.where(upload(kept, levels.device), levels, 0.0)
    drawn = torch.randn(batch, channels, height, width, generator=generator)
    return levels + noise * upload(drawn, levels.device)
