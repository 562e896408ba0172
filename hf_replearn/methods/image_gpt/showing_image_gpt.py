"""How well the colour of a pixel is told, and images that the network makes up, whole or from the upper half on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.sharing.report import OwnTask

SAMPLES = "samples.png"
HALVES = 8  # images that are completed
WAYS = ("completed", "again", "and again")
NATS, BITS = "nats per pixel", "bits per pixel"


def own_task(model: nn.Module, learnt: Iterable[Tensor], told: Iterable[Tensor]) -> OwnTask:
    """Nats per pixel of images held out, beside what frequencies of colours give that were counted on the training
    images. learnt, told: batches of images (B, 3, S, S), black at -1 and white at 1."""
    found, losses = [], []
    for images in told:
        losses += [model(images).loss.item()] * len(images)
        found.append(model.model.tokens(images).cpu())
    known = torch.cat([model.model.tokens(images).cpu() for images in learnt])
    baselines = frequencies(known, torch.cat(found), colours=len(model.model.palette))
    rows = {"this run": sum(losses) / len(losses), **baselines, "chance": math.log(len(model.model.palette))}
    return OwnTask(
        told="Which colour of the palette has a pixel, after all pixels above it and to its left? Nats can be compared "
        "for the same palette and size of images only.",
        rows={name: {NATS: value, BITS: value / math.log(2)} for name, value in rows.items()},
        smaller=[NATS, BITS],
    )


def frequencies(known: Tensor, told: Tensor, *, colours: int) -> dict[str, float]:
    """Nats per pixel of tokens `told` (M, T) by how often a colour stands in those `known` (N, T), and by how often it
    stands to the right of another; the first of a row by how often it begins one. Every count starts at one."""
    side = math.isqrt(known.shape[1])
    known, told = known.unflatten(1, (side, side)), told.unflatten(1, (side, side))

    def nats(counts: Tensor) -> Tensor:
        return (counts + 1).sum(-1, keepdim=True).log() - (counts + 1).log()

    alone = nats(known.flatten().bincount(minlength=colours).double())
    first = nats(known[:, :, 0].flatten().bincount(minlength=colours).double())
    pairs = (known[:, :, :-1] * colours + known[:, :, 1:]).flatten().bincount(minlength=colours**2)
    after = nats(pairs.view(colours, colours).double())
    beside = after[told[:, :, :-1], told[:, :, 1:]].sum() + first[told[:, :, 0]].sum()
    return {
        "after the pixel to the left (bigram)": beside.item() / told.numel(),
        "frequency of colours (unigram)": alone[told].mean().item(),
    }


def pictures(model: nn.Module, images: Tensor, folder: Path) -> dict[str, str]:
    """Completions of the upper halves of images (B, 3, S, S), and images without a beginning."""
    encoder = model.model
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        torch.manual_seed(0)
        tokens = encoder.tokens(images[:HALVES])
        half = tokens.shape[1] // 2
        completed = [go_on(encoder, tokens[:, :half]) for _ in WAYS]
        fresh = go_on(encoder, tokens[:, :0].expand(len(tokens), 0))
    lines = {
        "image": (images[: len(tokens)] / 2 + 0.5).clamp(0, 1),
        f"in {len(encoder.palette)} colours": encoder.colours(tokens),
        "given": with_grey(encoder.colours(tokens), from_row=images.shape[-1] // 2),
        **{way: encoder.colours(made) for way, made in zip(WAYS, completed, strict=True)},
        "made up": encoder.colours(fresh),
    }
    draw_samples({name: pixels.cpu() for name, pixels in lines.items()}, folder / SAMPLES)
    return {
        SAMPLES: "Images, the same in the palette's colours, the upper half that is given, and how the network goes "
        "on, three times, each colour drawn with the probability that it gives; below, images made up from nothing."
    }


def go_on(encoder: nn.Module, tokens: Tensor) -> Tensor:
    """(B, n) -> (B, T): whole images that begin with these tokens, each further one drawn with its probability."""
    network, positions = encoder.network, encoder.network.config.n_positions
    start = nn.functional.pad(tokens, (1, 0), value=network.config.vocab_size - 1)
    return network.generate(start, max_length=positions + 1, do_sample=True, top_k=0, use_cache=True)[:, 1:]


def with_grey(images: Tensor, *, from_row: int) -> Tensor:
    """The images with all rows from one on in a light grey."""
    images = images.clone()
    images[:, :, from_row:] = 0.85
    return images


def draw_samples(lines: dict[str, Tensor], path: Path) -> None:
    """lines: name -> images (B, 3, S, S) in 0...1, the same B."""
    from matplotlib.figure import Figure

    columns = len(next(iter(lines.values())))
    width, height = 0.95 * columns + 1.25, 0.98 * len(lines) + 0.1
    figure = Figure(figsize=(width, height))
    grid = figure.subplots(len(lines), columns, squeeze=False)
    figure.subplots_adjust(left=1.2 / width, right=0.995, top=0.995, bottom=0.005, wspace=0.05, hspace=0.05)
    for axes, (name, images) in zip(grid, lines.items(), strict=True):
        for panel, image in zip(axes, images, strict=True):
            panel.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set(color="0.8", linewidth=0.6)
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, labelpad=6)
    figure.savefig(path, dpi=130)
