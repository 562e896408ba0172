"""Images to their lightness, and the colours to be told (Zhang et al. 2016, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from hf_replearn import augmentation
from hf_replearn.data.colours import rgb_to_lab
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.colorization.modeling_colorization import bins, rebalancing, soft_encode
from hf_replearn.randomness import Place, upload

GREY = 5  # |a| and |b| of what counts as grey, at most
LOOKED_AT = 1000  # images whose colours are counted, at most


@dataclass(frozen=True, kw_only=True)
class DataCollatorForColorization(DataCollatorForViews):
    """A crop of each image, mirrored or not, as its lightness, and its colours at some places.

    stride: pixels, in a row, of such a place. prior: how often each of the bins is met, their sum 1.
    share:  lambda of the rebalancing, see `rebalancing`.
    """

    stride: int
    prior: tuple[float, ...]
    share: float

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, 1, size, size), lightness, normalised. ab: (B, 2, h, w). weights: (B, h, w) of the
        gradient, by the bin nearest to the colour; 0 for images without any, which would teach that all is grey."""
        images, aspect = batch["pixel_values"], batch.get("aspect")
        crops = self.policy(images, views=1, generator=place.generator(), aspect=aspect, compiled=self.compiled)
        lab = rgb_to_lab(crops)
        pixels = augmentation.normalize(lab[:, :1] / 100, self.mean, self.std).to(memory_format=torch.channels_last)
        ab = places_of(lab, self.stride)
        weights = upload(rebalancing(torch.tensor(self.prior), self.share), ab.device)[soft_encode(ab)[0][:, 0]]
        return {"pixel_values": pixels, "ab": ab, "weights": weights * ~is_grey(ab)[:, None, None]}

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: crops, each as its lightness and then in its colours."""
        crops = self.policy(images, views=count // 2, generator=place.generator(), aspect=aspect)
        greys = (rgb_to_lab(crops)[:, :1] / 100).expand_as(crops)
        pairs = torch.stack([greys, crops]).unflatten(1, (count // 2, len(images)))  # (2, count / 2, B, …)
        return pairs.transpose(0, 1).flatten(0, 2)


def places_of(lab: Tensor, stride: int) -> Tensor:
    """The mean colour (B, 2, h, w) of each square of so many pixels, of images (B, 3, H, W)."""
    return adaptive_avg_pool2d(lab[:, 1:], [max(1, side // stride) for side in lab.shape[2:]])


def is_grey(ab: Tensor) -> Tensor:
    """Of colours (B, 2, h, w): (B,) bool."""
    return (ab.abs() <= GREY).flatten(1).all(1)


def count_colours(rows, collate, stride: int) -> tuple[Tensor, float]:
    """How often each bin is met, (313,), softly as colours are encoded, and the share of images that are grey, of at
    most `LOOKED_AT` images, at even distances. collate: rows -> a batch."""
    chosen = range(0, len(rows), -(-len(rows) // LOOKED_AT))
    counts, grey = torch.zeros(len(bins()), dtype=torch.float64), 0
    for first in range(0, len(chosen), 64):
        batch = collate([rows[row] for row in chosen[first : first + 64]])
        ab = places_of(rgb_to_lab(batch["pixel_values"].float() / 255), stride)
        nearest, shares = soft_encode(ab)
        counts += torch.bincount(nearest.flatten(), shares.double().flatten(), minlength=len(counts))
        grey += int(is_grey(ab).sum())
    return counts / counts.sum(), grey / len(chosen)
