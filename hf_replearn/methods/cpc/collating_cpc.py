"""Images to a grid of patches (van den Oord et al. 2018, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn import augmentation
from hf_replearn.errors import InputError
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.collating_patches import cut_patches, keep_one_channel
from hf_replearn.randomness import Place, upload


def rows_of(size: int, *, side: int, stride: int) -> int:
    """Rows of patches in images of `size` pixels. Raises InputError where there is none to be told from another."""
    if stride > side:
        raise InputError(f"--stride {stride}: larger than --patch_size {side}, so that pixels would never be seen")
    rows, least = (size - side) // stride + 1 if size >= side else 0, -(-side // stride) + 1
    if rows < least:
        needed = side + (least - 1) * stride
        raise InputError(
            f"patches of {side} pixels, {stride} from one to the next, need images of {needed} pixels, or none is told "
            f"from one that it shares no pixel with, and --image_size is {size}: say --image_size {needed}, to which "
            "smaller images are enlarged, or a smaller --patch_size and --stride"
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class DataCollatorForCPC(DataCollatorForViews):
    """A crop of each image, mirrored or not, and a grid of overlapping patches of it.

    side, stride: pixels of a patch, and from one to the next.
    one_channel:  whether of each patch one channel stays, drawn for it, so that it cannot be found by its colours.
    """

    side: int
    stride: int
    one_channel: bool = True

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, R R, C, side, side), normalised, row by row."""
        generator = place.generator()
        crops = self.crops(batch, generator)
        return {"pixel_values": self.seen(crops, generator)}

    def crops(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """(B, C, size, size) in 0...1."""
        return self.policy(batch["pixel_values"], views=1, generator=generator, aspect=batch.get("aspect"))

    def corners(self, size: int) -> Tensor:
        """Upper left pixels of the patches, (R R, 2), row by row."""
        rows = rows_of(size, side=self.side, stride=self.stride)
        starts = torch.arange(rows) * self.stride
        return torch.cartesian_prod(starts, starts)

    def seen(self, crops: Tensor, generator: torch.Generator) -> Tensor:
        """The patches as the network sees them."""
        corners = upload(self.corners(crops.shape[-1]), crops.device)
        crops = augmentation.normalize(crops.clone(), self.mean, self.std)
        patches = cut_patches(crops, corners.expand(len(crops), -1, -1), self.side)
        return keep_one_channel(patches, generator) if self.one_channel else patches

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: some patches along the diagonal, in their colours unless these are dropped."""
        batch = {"pixel_values": images} | ({} if aspect is None else {"aspect": aspect})
        patches = self.views(batch, place)["pixel_values"]
        chosen = torch.linspace(0, patches.shape[1] - 1, count).round().long()
        mean, std = patches.new_tensor([self.mean, self.std])[:, :, None, None]
        return (patches[:, chosen] * std + mean).clamp(0, 1).transpose(0, 1).flatten(0, 1)
