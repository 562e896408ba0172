"""Images to what a generative adversarial network is trained on: real images, and the latents of generated ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.augmentation import normalize
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place, upload


@dataclass(frozen=True, kw_only=True)
class DataCollatorForGAN(DataCollatorForViews):
    """An image, cropped or mirrored or neither, and as many random numbers as one is generated of.

    latents: how many.
    """

    latents: int

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, C, size, size), normalised. levels: the same, from 0 to 1. latents: (B, K), normal."""
        generator = place.generator()
        levels = self.policy(batch["pixel_values"], views=1, generator=generator, aspect=batch.get("aspect"))
        drawn = torch.randn(len(levels), self.latents, generator=generator)
        return {
            "pixel_values": normalize(levels.clone(), self.mean, self.std),
            "levels": levels,
            "latents": upload(drawn, levels.device),
        }
