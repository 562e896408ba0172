"""Images to what a VAE sees: levels, and the noise by which latents are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.augmentation import normalize
from hf_replearn.errors import InputError
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place, upload


@dataclass(frozen=True, kw_only=True)
class DataCollatorForVAE(DataCollatorForViews):
    """An image and the noise of its latents.

    latents: K. images: N to learn from; None: not needed. checked: whether levels are looked at, which may lie beyond 0
    and 1 where a user's own augmentation makes them.
    """

    latents: int
    images: int | None = None
    checked: bool = False

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, C, size, size), normalised. levels: the same from 0 to 1. noise: (B, K), standard normal.
        images: N."""
        generator = place.generator()
        levels = self.policy(batch["pixel_values"], views=1, generator=generator, aspect=batch.get("aspect"))
        if self.checked and (levels.min() < 0 or levels.max() > 1):
            raise InputError(
                f"the augmentation makes levels from {levels.min():.3g} to {levels.max():.3g}, and --likelihood "
                "bernoulli is of levels from 0 to 1: clamp them, or say --likelihood gaussian"
            )
        noise = torch.randn(len(levels), self.latents, generator=generator)
        views = {"pixel_values": normalize(levels.clone(), self.mean, self.std), "levels": levels}
        views |= {"noise": upload(noise, levels.device)}
        return views | ({"images": self.images} if self.images is not None else {})
