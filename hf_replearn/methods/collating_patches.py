"""Patches cut out of images, for methods that hide where they were, or what is beside them.

B images, N patches of each, C channels
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_replearn.randomness import upload

NOISE = 0.01  # standard deviation of what stands for a dropped channel, as a share of that of the channel that is kept


def cut_patches(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """(B, N, C, side, side): of images (B, C, H, W) the patches whose upper left pixels are `corners`, (B, N, 2)
    row and column."""
    windows = images.unfold(2, side, 1).unfold(3, side, 1)  # (B, C, H - side + 1, W - side + 1, side, side), no copy
    image = torch.arange(len(images), device=images.device)[:, None]
    top, left = upload(corners, images.device).unbind(-1)
    return windows[image, :, top, left]


def keep_one_channel(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Of each patch one channel, drawn for it, stays; the others become faint noise (Doersch et al. 2015, section 3.1),
    the same for all patches of a batch, of which it tells nothing then.

    patches: (B, N, C, side, side), normalised, so that 0 is the mean. generator: on the CPU.
    """
    count, several = patches.shape[2], patches.shape[:2]
    kept = upload(torch.randint(count, several, generator=generator), patches.device)
    kept = torch.nn.functional.one_hot(kept, count).bool()[..., None, None]
    deviation = patches.std((3, 4), keepdim=True).where(kept, 0).sum(2, keepdim=True)
    noise = upload(torch.randn(patches.shape[2:], generator=generator), patches.device)
    return torch.where(kept, patches, NOISE * deviation * noise)
