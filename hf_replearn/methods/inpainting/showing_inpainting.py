"""How well what is hidden is told, beside who does not learn, and pictures of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags, identity, kron
from scipy.sparse.linalg import splu
from torch import Tensor, nn

from hf_replearn.methods.inpainting.collating_inpainting import MASKS, draw_hidden, with_holes
from hf_replearn.sharing.drawn import draw_columns
from hf_replearn.sharing.report import OwnTask

SHOWN = 8  # images
MOST = 2**21  # pixels of the images that are filled by all ways, at most
PICTURE, MASKED = "filled.png", "masks.png"
ERROR = "squared error"


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """Mean squared error of the hidden pixels, of levels from 0 to 1, beside those of the mean colour of what is seen
    and of smooth continuation."""
    errors, pixels, images = {}, 0, 0
    for views in batches:
        truth, hidden = look(views["pixel_values"], batches.collator), views["hidden"].cpu()
        told = model(**views, return_loss=False).told
        ways = {
            "this run": look(told, batches.collator),
            "biharmonic": biharmonic(truth, hidden),
            "mean colour": mean_colour(truth, hidden),
        }
        for name, filled in ways.items():
            squares = (filled.clamp(0, 1) - truth).square().mean(1, keepdim=True)
            errors[name] = errors.get(name, 0.0) + squares[hidden].double().sum().item()
        pixels, images = pixels + int(hidden.sum()), images + len(truth)
        if images * truth[0, 0].numel() >= MOST:
            break
    kind = MASKS[batches.collator.mask]
    return OwnTask(
        told=f"What is in the part that is hidden, a {kind}? Mean squared error of levels from 0 to 1 there"
        + f", on {images:,} of them." * (images < len(batches)) + "." * (images == len(batches)),
        rows={name: {ERROR: total / pixels} for name, total in errors.items()},
        smaller=[ERROR],
    )  # fmt: skip


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Images, what was seen of them, and how it was filled; and the three masks of Figure 3."""
    views, collator = batches.few(SHOWN), batches.collator
    truth, hidden = look(views["pixel_values"], collator), views["hidden"].cpu()
    told = look(model(**views, return_loss=False).told, collator)
    columns = {
        "image": truth,
        "seen": with_holes(truth, hidden, collator.mean),
        "filled": torch.where(hidden, told, truth),
        "biharmonic": torch.where(hidden, biharmonic(truth, hidden), truth),
    }
    draw_columns(columns, folder / PICTURE)
    generator = torch.Generator().manual_seed(0)
    about = {"share": collator.share, "generator": generator}
    drawn = {mask: draw_hidden(mask, len(truth), truth.shape[-1], **about) for mask in MASKS}
    titles = {mask: name + "\n(this run's)" * (mask == collator.mask) for mask, name in MASKS.items()}
    masked = {titles[mask]: with_holes(truth, hidden, collator.mean) for mask, hidden in drawn.items()}
    draw_columns({"image": truth, **masked}, folder / MASKED)
    return {
        PICTURE: "Images, what of them was seen, what the network filled in, and smooth continuation of what was seen.",
        MASKED: "What may be hidden, as in Figure 3 of the paper.",
    }


def look(images: Tensor, collator) -> Tensor:
    """Normalised images as levels from 0 to 1, on the CPU."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (collator.mean, collator.std))
    return images.float().cpu() * std + mean


def mean_colour(images: Tensor, hidden: Tensor) -> Tensor:
    """Everywhere the mean of the pixels that are seen, of each image and channel."""
    seen = ~hidden
    return ((images * seen).sum((2, 3), keepdim=True) / seen.sum((2, 3), keepdim=True)).expand_as(images)


def biharmonic(images: Tensor, hidden: Tensor) -> Tensor:
    """The images with the smoothest continuation into what is hidden: where the Laplacian of the Laplacian, mirrored at
    the image's border, is 0 (as scikit-image's inpaint_biharmonic). images: (B, C, H, W). hidden: (B, 1, H, W)."""
    filled = images.clone(memory_format=torch.contiguous_format)
    factored: tuple[bytes, object] = (b"", None)
    for image, holes in zip(filled, hidden[:, 0].numpy(), strict=True):
        operator, inside = _biharmonic_operator(*holes.shape), holes.ravel()
        if factored[0] != holes.tobytes():
            factored = (holes.tobytes(), splu(operator[inside][:, inside].tocsc()))
        pixels = image.flatten(1).numpy()  # shares the memory of `filled`
        known = operator[inside][:, ~inside] @ pixels[:, ~inside].T.astype(np.float64)
        pixels[:, inside] = factored[1].solve(-known).T
    return filled


@lru_cache(maxsize=2)
def _biharmonic_operator(height: int, width: int) -> csr_matrix:
    rows, columns = (_second_differences(side) for side in (height, width))
    laplacian = kron(rows, identity(width)) + kron(identity(height), columns)
    return csr_matrix(laplacian @ laplacian)


def _second_differences(side: int) -> csr_matrix:
    """Of a line of pixels whose ends are mirrored: (side, side)."""
    middle = -2.0 * np.ones(side)
    middle[[0, -1]] = -1.0
    return diags([np.ones(side - 1), middle, np.ones(side - 1)], [-1, 0, 1], format="csr")
