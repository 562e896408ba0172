"""Images to a patch and its eight neighbours (Doersch et al. 2015, sections 3 and 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hf_replearn import augmentation
from hf_replearn.errors import InputError
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.collating_patches import cut_patches, keep_one_channel
from hf_replearn.randomness import Place, upload

SMALLEST = 32  # pixels of a patch: of a smaller one too little is left to tell a place by
LOWEST = 10 / 96  # of a patch, the side that a low resolution may have (section 3.1: 100 of 96 x 96 pixels)
GREEN_MAGENTA = (-1.0, 2.0, -1.0)  # the axis along which lenses shift colours against one another
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # reading order
PLACES = ("top left", "top", "top right", "left", "right", "bottom left", "bottom", "bottom right")


@dataclass(frozen=True)
class PatchGrid:
    """Three times three patches: `side` pixels each, `gap` between them, each moved by up to `jitter` either way."""

    side: int
    gap: int
    jitter: int

    @property
    def span(self) -> int:
        """Pixels of the image that it needs, each way."""
        return 3 * self.side + 2 * self.gap + 2 * self.jitter

    def draw(self, images: int, size: int, generator: torch.Generator) -> Tensor:
        """Upper left pixels, (images, 9, 2) row and column, the centre first; the grid lies anywhere in an image."""
        steps = torch.tensor([(0, 0), *AROUND]) + 1  # (9, 2)
        start = torch.randint(size - self.span + 1, (images, 1, 2), generator=generator)
        moved = torch.randint(2 * self.jitter + 1, (images, len(steps), 2), generator=generator)
        return start + steps * (self.side + self.gap) + moved


def find_grid(size: int, *, side: int | None, gap: int | None, jitter: int | None) -> PatchGrid:
    """The grid that is asked for; a gap that is None is half of a patch, a jitter 7 of 96 pixels of it (paper), and a
    patch as large as images of `size` pixels allow. Raises InputError where they do not."""

    def grid(side: int) -> PatchGrid:
        return PatchGrid(side, side // 2 if gap is None else gap, round(side * 7 / 96) if jitter is None else jitter)

    sides = range(size // 3, SMALLEST - 1, -1) if side is None else [side]
    found = next((grid(side) for side in sides if grid(side).span <= size), None)
    if found is None:
        least = grid(side or SMALLEST)
        raise InputError(
            f"3 x 3 patches of {least.side} pixels, {least.gap} apart and moved by up to {least.jitter}, need images "
            f"of {least.span} pixels, and --image_size is {size}: say --image_size {least.span}, to which smaller "
            "images are enlarged" + ", or lower --gap" * bool(least.gap)
        )
    return found


@dataclass(frozen=True, kw_only=True)
class DataCollatorForContextPrediction(DataCollatorForViews):
    """A crop of each image, mirrored or not, and nine patches of it, whose edges, colours and brightness are kept from
    telling how they lie.

    grid:        where patches are cut.
    colours:     "drop": one channel of each patch stays; "project": nothing along green and magenta does; or "keep".
    low_resolution: share of patches that are brought to fewer pixels and back.
    standardize: whether each patch has mean 0 and deviation 1 of its own; of the channel that stays, where one does,
        or it would lie higher or lower by what the others are.
    """

    grid: PatchGrid
    colours: Literal["drop", "project", "keep"] = "drop"
    low_resolution: float = 1 / 3
    standardize: bool = True

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, 9, C, side, side), normalised: the centre, then its neighbours in reading order."""
        generator = place.generator()
        return {"pixel_values": self.defended(*self.lay(batch, generator), generator)}

    def lay(self, batch: dict[str, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Crops (B, C, size, size) in 0...1, and the upper left pixels of nine patches of each, (B, 9, 2)."""
        crops = self.policy(batch["pixel_values"], views=1, generator=generator, aspect=batch.get("aspect"))
        return crops, upload(self.grid.draw(len(crops), crops.shape[-1], generator), crops.device)

    def defended(self, crops: Tensor, corners: Tensor, generator: torch.Generator) -> Tensor:
        """The patches as the network sees them."""
        patches = cut_patches(crops, corners, self.grid.side)
        if self.colours == "project":
            patches = without_green_magenta(patches)
        if self.low_resolution:
            patches = at_low_resolution(patches, self.low_resolution, generator)
        patches = augmentation.normalize(patches.flatten(0, 1), self.mean, self.std).unflatten(0, patches.shape[:2])
        if self.standardize:
            axes = (3, 4) if self.colours == "drop" else (2, 3, 4)
            deviation, mean = torch.std_mean(patches, axes, keepdim=True)
            patches = (patches - mean) / deviation.clamp(min=1 / 255)
        return keep_one_channel(patches, generator) if self.colours == "drop" else patches

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture: the centre and its first neighbours, as the network sees them, with a mean of one half."""
        batch = {"pixel_values": images} | ({} if aspect is None else {"aspect": aspect})
        patches = self.views(batch, place)["pixel_values"][:, :count]
        return (patches / 5 + 0.5).clamp(0, 1).transpose(0, 1).flatten(0, 1)


def without_green_magenta(patches: Tensor) -> Tensor:
    """Takes the part along green and magenta out of RGB (section 3.1, "projection"). patches: (B, N, 3, h, w)."""
    axis = torch.tensor(GREEN_MAGENTA)
    remaining = torch.eye(3) - torch.outer(axis, axis) / axis.square().sum()
    return torch.einsum("dc,bnchw->bndhw", upload(remaining, patches.device), patches)


def at_low_resolution(patches: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Brings a share of the patches to fewer pixels, so many for all of a batch, and back (section 3.1)."""
    side = patches.shape[-1]
    lowest = max(2, round(LOWEST * side))
    lower = int(torch.randint(lowest, side, (), generator=generator))
    chosen = augmentation.draw_coin(patches.shape[0] * patches.shape[1], share, generator=generator)
    chosen = upload(chosen, patches.device)
    flat = patches.flatten(0, 1)
    coarse = interpolate(flat, size=lower, mode="bilinear", antialias=True)
    coarse = interpolate(coarse, size=side, mode="bilinear", antialias=True)
    return torch.where(chosen[:, None, None, None], coarse, flat).unflatten(0, patches.shape[:2])
