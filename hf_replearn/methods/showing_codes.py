"""What methods with a code and a decoder show: images made again, what lies between two images.

B images, K numbers of a code
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from datasets import ClassLabel
from torch import Tensor, nn

from hf_replearn.evaluation.projection import tsne_of
from hf_replearn.sharing.drawn import draw_lines, draw_points

SHOWN, PAIRS, STEPS = 10, 3, 9  # images in a line; interpolations, and images of each
FEWEST = 30  # images of a map
MOST = 2**26  # numbers of the training images that are held, where their covariance is not


def look(images: Tensor, collator) -> Tensor:
    """Normalised images as levels from 0 to 1, on the CPU."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (collator.mean, collator.std))
    return images.float().cpu() * std + mean


def images_of(batches) -> Iterable[Tensor]:
    """The images that are to be made, as levels, on the CPU."""
    for views in batches:
        yield views["levels"].float().cpu()


def trained_on(batches, *, most: int = 10**9) -> Iterable[Tensor]:
    """Images that the network was trained on: all, or so many that they are dealt with in seconds."""
    numbers = batches.few(1)["levels"].numel()
    return images_of(batches.of_training(most if numbers <= 4096 else max(64, min(most, MOST // numbers))))


def on_the_way(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """So many in equal steps from one to the other, both included: (B, …), (B, …) -> (B, steps, …)."""
    share = torch.linspace(0, 1, steps, device=first.device).view(1, steps, *[1] * (first.ndim - 1))
    return torch.lerp(first.unsqueeze(1), last.unsqueeze(1), share)


def draw_between(decode: Callable[[Tensor], Tensor], levels: Tensor, code: Tensor, path: Path) -> str:
    """Pairs of images (B, C, S, S), with what the decoder makes of the codes between theirs (B, K), and what lies
    between their pixels. Returns what is seen."""
    pairs = min(PAIRS, len(levels) // 2)
    first, last = levels[: 2 * pairs : 2], levels[1 : 2 * pairs : 2]
    codes = on_the_way(code[: 2 * pairs : 2], code[1 : 2 * pairs : 2], STEPS)
    pixels = on_the_way(first, last, STEPS)
    lines = []
    for pair in range(pairs):
        ends = (first[pair : pair + 1], last[pair : pair + 1])
        lines.append(("codes", torch.cat([ends[0], decode(codes[pair]).float().cpu(), ends[1]])))
        lines.append(("pixels", torch.cat([ends[0], pixels[pair], ends[1]])))
    draw_lines(lines, path, titles={0: "image", 1: "decoded", STEPS: "decoded", STEPS + 1: "image"})
    return (
        "From one image to another in equal steps. Above, of their codes, which the decoder turns into images; below, "
        "of their pixels, which fade into one another."
    )


def draw_map(encode: nn.Module, batches, path: Path, *, what: str) -> dict[str, str]:
    """A map of the codes of the images, in the colours of their classes. what: the codes, in words. Returns {file: what
    is seen}; nothing where the images have not one class each, of up to twenty, or are few."""
    kind = batches.rows.features.get("label")
    if not isinstance(kind, ClassLabel) or not 2 <= kind.num_classes <= 20 or len(batches) < FEWEST:
        return {}
    points = tsne_of(torch.cat([encode(views["pixel_values"]).float().cpu() for views in batches]))
    draw_points(points, batches.rows["label"][:], kind.names, path)
    return {
        path.name: f"A map of {what} of {len(batches):,} images by t-SNE, coloured by their classes, which the "
        "training did not see. Images that are near have codes that are near; how far groups are means nothing."
    }
