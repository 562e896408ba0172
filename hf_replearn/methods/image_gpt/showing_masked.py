"""How well hidden pixels are told, and images of which more and more is hidden."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.methods.image_gpt.showing_image_gpt import BITS, NATS, draw_samples, frequencies
from hf_replearn.sharing.report import OwnTask

TOLD = "told.png"
SHARE = 0.15  # of the pixels, hidden in training
SHARES = (SHARE, 0.5, 0.85)  # of the picture
SHOWN = 8  # images


def own_task(model: nn.Module, learnt: Iterable[Tensor], told: Iterable[Tensor]) -> OwnTask:
    """Nats per hidden pixel of images held out, beside what frequencies of colours give that were counted on the
    training images. learnt, told: batches of images (B, 3, S, S), black at -1 and white at 1."""
    found, losses, generator = [], [], torch.Generator().manual_seed(0)
    for images in told:
        losses += [model(images, hidden=hide(images, SHARE, generator)).loss.item()] * len(images)
        found.append(model.model.tokens(images).cpu())
    known = torch.cat([model.model.tokens(images).cpu() for images in learnt])
    baselines = frequencies(known, torch.cat(found), colours=len(model.model.palette))
    rows = {"this run": sum(losses) / len(losses), **baselines, "chance": math.log(len(model.model.palette))}
    return OwnTask(
        told=f"Which colour of the palette has a hidden pixel, {SHARE:.0%} of them, given all others? The baselines "
        "are of all pixels. Nats can be compared for the same palette and size of images only.",
        rows={name: {NATS: value, BITS: value / math.log(2)} for name, value in rows.items()},
        smaller=[NATS, BITS],
    )


def hide(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Positions (B, n) of so many pixels of images (B, 3, S, S)."""
    pixels = images.shape[-1] * images.shape[-2]
    drawn = torch.rand(len(images), pixels, generator=generator).argsort(1)[:, : round(share * pixels)]
    return drawn.to(images.device)


def pictures(model: nn.Module, images: Tensor, folder: Path) -> dict[str, str]:
    """Images (B, 3, S, S) of which more and more is hidden, and the likeliest colour of each hidden pixel."""
    encoder, images = model.model, images[:SHOWN]
    tokens, generator = encoder.tokens(images), torch.Generator().manual_seed(0)
    lines = {"image": (images / 2 + 0.5).clamp(0, 1), f"in {len(encoder.palette)} colours": encoder.colours(tokens)}
    blue = torch.tensor([0.55, 0.75, 1.0], device=images.device).view(3, 1, 1)  # not to be mixed up with greys
    head = encoder.network.get_output_embeddings()
    for share in SHARES:
        hidden = hide(images, share, generator)
        _, asked, _ = encoder.asked(tokens, hidden)
        likeliest = head(asked)[:, : len(encoder.palette)].argmax(1).view(hidden.shape)
        seen = (
            torch.ones_like(tokens, dtype=torch.bool).scatter(1, hidden, False).view(len(images), 1, *images.shape[2:])
        )
        lines[f"{share:.0%} hidden"] = torch.where(seen, encoder.colours(tokens), blue)
        lines["told" + " " * SHARES.index(share)] = encoder.colours(tokens.scatter(1, hidden, likeliest))
    draw_samples({name: pixels.cpu() for name, pixels in lines.items()}, folder / TOLD)
    return {
        TOLD: "Images, the same in the palette's colours, and three times what of them was seen (hidden pixels are "
        f"light blue) and each one's likeliest colour, all told at once. In training {SHARE:.0%} were hidden."
    }
