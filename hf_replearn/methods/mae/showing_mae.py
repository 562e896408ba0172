"""How well hidden patches are told, and pictures of it.

B images, N patches, M of them hidden, n numbers in a patch
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.methods.mae.collating_mae import with_holes
from hf_replearn.methods.mae.modeling_mae import chosen, masked_error, patches_of, targets
from hf_replearn.sharing.drawn import draw_columns
from hf_replearn.sharing.report import OwnTask

SHOWN = 8  # images
PICTURE = "reconstructions.png"


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """The loss, beside that of who says nothing: zeros."""
    normalized, total = model.config.norm_pix_loss, torch.zeros(2, dtype=torch.float64)
    for views in batches:
        found = model(**views, return_loss=False)
        patches = chosen(patches_of(views["pixel_values"], model.patch_size), found.hidden)
        wanted = targets(patches, normalized=normalized)
        losses = [masked_error(told, wanted) for told in (found.predictions, torch.zeros_like(found.predictions))]
        total += len(wanted) * torch.stack(losses).double().cpu()
    told, nothing = (total / len(batches)).tolist()
    what = "each less its own mean and divided by its own deviation" if normalized else "normalised as the input is"
    chance = "its own mean everywhere" if normalized else "the mean of all images everywhere"
    return OwnTask(
        told=f"What are the pixels of hidden patches, {model.config.mask_ratio:.0%} of all, {what}?",
        rows={
            "this run": {"mean squared error": told, "share of chance": told / nothing},
            f"chance: {chance}": {"mean squared error": nothing, "share of chance": 1.0},
        },
        smaller=["mean squared error", "share of chance"],
    )


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Images, what the encoder saw of them, and what the decoder told of the rest."""
    views = batches.few(SHOWN)
    images, found = views["pixel_values"], model(**views, return_loss=False)
    size, hidden, told = model.patch_size, found.hidden, found.predictions.float()
    patches = patches_of(images, size).float()
    look, side = Look(batches.collator, images.shape[1], size), images.shape[-1] // size
    columns = {
        "image": look.at(patches),
        "seen": with_holes(look.at(patches), hidden, side),
    }
    if model.config.norm_pix_loss:
        columns["told"] = look.at(filled(patches, hidden, rescaled(told, *guessed_statistics(patches, hidden, side))))
        own = torch.var_mean(chosen(patches, hidden), dim=-1, keepdim=True)
        columns["with true mean and contrast"] = look.at(filled(patches, hidden, rescaled(told, *own)))
        said = (
            "What was hidden, as it was told. The network is not asked for the mean and the contrast of a hidden "
            "patch: in the third column they are guessed from the patches that are seen, the nearer the more; in the "
            "last they are the true ones, which the network was not given."
        )
    else:
        columns["told"], said = look.at(filled(patches, hidden, told)), "What was hidden, as it was told."
    draw_columns(columns, folder / PICTURE)
    return {PICTURE: f"Images, what of them was seen, and what was told. {said}"}


def rescaled(told: Tensor, variance: Tensor, mean: Tensor) -> Tensor:
    """Pixels of normalised ones (B, M, n), of patches with these statistics, (B, M, 1) each."""
    return told * (variance + 1e-6).sqrt() + mean


def guessed_statistics(patches: Tensor, hidden: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Variance and mean of hidden patches, (B, M, 1) each: those of the patches (B, N, n) that are seen, weighted by
    exp(-d² / 2), d the distance in patches."""
    seen = torch.ones(patches.shape[:2], device=patches.device).scatter(1, hidden, 0.0)  # (B, N)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    at = torch.stack([row, column], -1).flatten(0, 1).float().to(patches.device)
    weights = (-0.5 * torch.cdist(at, at).square())[hidden].softmax(-1) * seen[:, None]  # (B, M, N)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)
    return weights @ patches.var(-1, keepdim=True), weights @ patches.mean(-1, keepdim=True)


def filled(patches: Tensor, hidden: Tensor, told: Tensor) -> Tensor:
    """Patches (B, N, n) with those at hidden (B, M) as they were told (B, M, n)."""
    return patches.scatter(1, hidden[..., None].expand_as(told), told)


class Look:
    """Patches (B, N, n) of normalised images as images in [0, 1]: (B, C, H, W)."""

    def __init__(self, collator, channels: int, size: int):
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (collator.mean, collator.std))
        self.channels, self.size = channels, size

    def at(self, patches: Tensor) -> Tensor:
        side = round(patches.shape[1] ** 0.5)
        grid = patches.cpu().view(-1, side, side, self.size, self.size, self.channels)
        images = grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        return images * self.std + self.mean
