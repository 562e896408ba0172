"""Images with captions to batches of pixels and tokens.

B pairs, T tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hf_replearn import augmentation
from hf_replearn.data.decoding import centre_crop, picture_of, stack_images
from hf_replearn.randomness import Place


@dataclass(frozen=True)
class PairCollator:
    """Rows with `image`, `text`, `image_id` and `text_id` -> what `CLIPForPreTraining` takes.

    min_scale: smallest random crop, as a share of the image's area; 1: its middle, as in evaluation.
    canvas:    as of `DataCollatorForViews`.
    """

    tokenizer: Any
    max_length: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_scale: float = 1.0
    canvas: int | None = None

    def __call__(self, rows: Sequence[dict]) -> dict[str, Tensor]:
        """pixel_values: (B, 3, H, W) uint8, and where these are crops to be drawn, aspect: (B,). input_ids,
        attention_mask: (B, T). labels: (B, 2)."""
        if self.min_scale < 1:
            pixels, aspect = stack_images(rows, canvas=self.canvas)
            batch = {"pixel_values": pixels} | ({"aspect": aspect} if self.canvas else {})
        else:
            batch = {"pixel_values": torch.stack([centre_crop(picture_of(row), self.size) for row in rows])}
        tokens = self.tokenizer(
            [row["text"] for row in rows],
            truncation=True,
            max_length=self.max_length,
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        labels = torch.tensor([[row["image_id"], row["text_id"]] for row in rows])
        return batch | {name: tokens[name] for name in ("input_ids", "attention_mask")} | {"labels": labels}

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """The same, pixel_values (B, 3, size, size) normalised; its randomness is a function of `place`."""
        images, aspect = batch["pixel_values"], batch.get("aspect")
        if self.min_scale < 1:
            crop = partial(augmentation.crop_and_flip, size=self.size, min_scale=self.min_scale, flip=0.0)
            images = crop(images, generator=place.generator(), aspect=aspect)
        else:
            images = images / 255
        pixels = augmentation.normalize(images, self.mean, self.std).to(memory_format=torch.channels_last)
        return {name: batch[name] for name in batch if name != "aspect"} | {"pixel_values": pixels}


def make_collator(settings: Any, image: Any, text: Any, data: Any) -> PairCollator:
    """Of a run. image, text: how the towers start, see `encoders.towers`."""
    return PairCollator(
        text.tokenizer,
        text.max_length,
        image.size,
        image.mean,
        image.std,
        min_scale=settings.min_scale,
        canvas=data.canvas(image.size) if settings.min_scale < 1 else None,
    )
