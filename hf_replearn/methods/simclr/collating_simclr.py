"""Images to two augmented views (Chen et al. 2020, section 3 and appendix A).

B images, V = 2 views, H x W pixels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.augmentation import normalize
from hf_replearn.data.decoding import stack_images
from hf_replearn.randomness import Place


@dataclass(frozen=True)
class DataCollatorForSimCLR:
    """The worker's half decodes and stacks, as uint8; the training device's half draws and applies the augmentation.

    policy:    of hf_replearn.augmentation, with its settings.
    mean, std: of the encoder's input, per channel.
    canvas:    pixels of the square that images of different sizes are brought to; None when all have one size.
    """

    policy: Callable[..., Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    canvas: int | None = None

    def __call__(self, examples: list[dict]) -> dict[str, Tensor]:
        """Rows with an `image` -> pixel_values: (B, 3, H, W) uint8; with a canvas also aspect: (B,) width / height."""
        pixels, aspect = stack_images(examples, canvas=self.canvas)
        return {"pixel_values": pixels} | ({"aspect": aspect} if self.canvas else {})

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, V, 3, size, size), normalised; all their randomness is a function of `place`."""
        images, aspect = batch["pixel_values"], batch["aspect"].cpu() if "aspect" in batch else None
        views = self.policy(images, views=2, generator=place.generator(), aspect=aspect)  # (V * B, 3, size, size)
        views = normalize(views, self.mean, self.std).to(memory_format=torch.channels_last)
        return {"pixel_values": views.unflatten(0, (2, len(images))).transpose(0, 1)}  # (B, V, 3, size, size)
