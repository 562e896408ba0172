"""How well patches further on are told, and which ones the network expects."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.sharing.report import OwnTask

EXPECTED = "expected.png"
IMAGES, FIRST = 6, 6  # rows of the picture, and candidates in each
SEEN, ASKED, RIGHT, SAME = "#0b63ce", "#c9470b", "#1f9345", "#9a6700"


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """The loss beside that of guessing among all patches of a batch, and among those of the right image."""
    loss, chance, image, told = 0.0, 0.0, 0.0, 0
    for views in batches:
        count, patches = views["pixel_values"].shape[:2]
        loss += count * model(**views).loss.item()
        chance += count * math.log(count * patches)
        image, told = image + count * math.log(patches), told + count
    rows = {"this run": loss / told, "who knows the image, not the place": image / told, "chance": chance / told}
    return OwnTask(
        told="Which of all patches of a batch is the one further on? An image's own patches are among them. What is "
        "told of it in nats is the least that context and patch have in common (mutual information).",
        rows={name: {"loss (nats)": value, "told (nats)": chance / told - value} for name, value in rows.items()},
        smaller=["loss (nats)"],
    )


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Images of which the upper part is seen, and the patches that the network expects at a place below."""
    rows, collator = batches.rows, batches.collator
    count = min(len(rows), batches.batch, 64)
    batch = collator([rows[place * len(rows) // count] for place in range(count)])
    generator = torch.Generator().manual_seed(0)
    crops = collator.crops({name: value.to(batches.device) for name, value in batch.items()}, generator)
    pooled = model(collator.seen(crops, generator), return_loss=False).pooler_output
    patches, direction = model.grid(pooled), model.directions[0]
    predictions, candidates, right = direction(patches)
    size, nearest = patches.shape[-1], direction.ahead.start
    each = (size - nearest) * size  # predictions of an image, at the nearest distance
    asked = (
        torch.arange(min(IMAGES, count)) * each + (size - nearest - 1) * size + size // 2
    )  # the last row, its middle
    asked = asked.to(right.device)
    order = (predictions[asked] @ candidates.T).argsort(1, descending=True).cpu()
    corners = collator.corners(crops.shape[-1])
    draw_expected(
        crops.cpu(), corners, collator.side, order, right[asked].cpu(), path=folder / EXPECTED, seen=size - nearest
    )
    return {
        EXPECTED: "From the patches above the blue line the network is asked for the orange one, among "
        f"{len(candidates):,} patches of {count} images: first the right one, with its rank in the "
        "network's order, then those that it takes for likeliest. Green: the right one; ochre: others of its image."
    }


def draw_expected(
    crops: Tensor, corners: Tensor, side: int, order: Tensor, right: Tensor, *, path: Path, seen: int
) -> None:
    """crops: (B, C, size, size) in 0...1. corners: (R R, 2). order: (M, B R R) candidates, the likeliest first.
    right: (M,). seen: rows of patches in the context."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    each = len(corners)
    below = int(corners[(seen - 1) * math.isqrt(each), 0]) + side  # the first pixel that is not seen

    def patch(number: int):
        top, left = corners[number % each].tolist()
        return _rgb(crops[number // each])[top : top + side, left : left + side]

    figure = Figure(figsize=(1.25 * (FIRST + 2) + 0.3, 1.38 * len(order) + 0.35))
    grid = figure.subplots(
        len(order), FIRST + 2, squeeze=False, gridspec_kw={"width_ratios": [1.35, 1] + [0.9] * FIRST}
    )
    figure.subplots_adjust(
        left=0.01, right=0.99, top=1 - 0.36 / (1.38 * len(order) + 0.35), bottom=0.03, wspace=0.12, hspace=0.24
    )
    for line, (likeliest, number) in enumerate(zip(order, right.tolist(), strict=True)):
        whole, true, *first = grid[line]
        whole.imshow(_rgb(crops[number // each]), interpolation="nearest")
        whole.axhline(below - 0.5, color=SEEN, linewidth=1.6)
        top, left = corners[number % each].tolist()
        whole.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=ASKED, linewidth=1.8))
        true.imshow(patch(number), interpolation="nearest")
        true.spines[:].set(color=ASKED, linewidth=1.8)
        place = int((likeliest == number).nonzero()) + 1
        true.set_xlabel(f"ranked {place:,} of {len(likeliest):,}", fontsize=7, labelpad=2)
        for panel, candidate in zip(first, likeliest[:FIRST].tolist(), strict=True):
            panel.imshow(patch(candidate), interpolation="nearest")
            same = candidate // each == number // each
            colour = RIGHT if candidate == number else SAME if same else "0.8"
            panel.spines[:].set(color=colour, linewidth=1.8 if same else 0.6)
        for panel in grid[line]:
            panel.set(xticks=[], yticks=[])
    for panel, title in zip(grid[0], ("image", "asked for", "expected, likeliest first"), strict=False):
        panel.set_title(title, fontsize=8, loc="left")
    figure.savefig(path, dpi=130)


def _rgb(image: Tensor):
    """(C, H, W) in 0...1 -> (H, W, 3): of two channels the first as grey, of more the first three."""
    shown = image[:3] if len(image) > 2 else image[:1].expand(3, -1, -1)
    return shown.clamp(0, 1).permute(1, 2, 0).numpy()
