"""How well places are told, and pairs of patches to try oneself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.methods.context_prediction.collating_context_prediction import AROUND, PLACES
from hf_replearn.methods.context_prediction.modeling_context_prediction import context_prediction
from hf_replearn.sharing.report import OwnTask

PAIRS = "pairs.png"
QUESTIONS, ACROSS = 12, 4
CENTRE, ASKED, RIGHT, WRONG = "#0b63ce", "#c9470b", "#1f9345", "#d1242f"


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """Loss and accuracy over the eight neighbours of each image."""
    logits = torch.cat([model(**views, return_loss=False).projections.float().cpu() for views in batches])
    right = logits.argmax(-1) == torch.arange(len(PLACES))
    return OwnTask(
        told="At which of eight places beside the centre of 3 x 3 patches was another one cut? All eight neighbours of "
        "one centre are asked for.",
        rows={
            "this run": {"loss (nats)": context_prediction(logits).item(), "accuracy": right.float().mean().item()},
            "chance": {"loss (nats)": math.log(len(PLACES)), "accuracy": 1 / len(PLACES)},
        },
        smaller=["loss (nats)"],
    )


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Pairs of patches as in the paper's Figure 1, in their colours; the network saw them as it was trained."""
    rows, collator = batches.rows, batches.collator
    chosen = [rows[place * len(rows) // QUESTIONS] for place in range(min(QUESTIONS, len(rows)))]
    batch = {name: value.to(batches.device) for name, value in collator(chosen).items()}
    generator = torch.Generator().manual_seed(0)
    crops, corners = collator.lay(batch, generator)
    logits = model(collator.defended(crops, corners, generator), return_loss=False).projections.float().cpu()
    draw_pairs(crops.cpu(), corners.cpu(), collator.grid.side, logits.softmax(-1), folder / PAIRS)
    return {
        PAIRS: "Where was the orange patch, seen from the blue one? First what is asked, on one whole image; then "
        "pairs of others, with the probabilities that the network gives to the eight places; then the key."
    }


def draw_pairs(crops: Tensor, corners: Tensor, side: int, probabilities: Tensor, path: Path) -> None:
    """crops: (B, C, size, size) in 0...1. corners: (B, 9, 2). probabilities: (B, 8, 8)."""
    from matplotlib.figure import Figure

    asked = [(3 * number + 2) % len(PLACES) for number in range(len(crops))]
    lines = -(-len(crops) // ACROSS)
    figure = Figure(figsize=(4.2 + 2.6 * ACROSS, 1.2 * lines + 0.9))
    example, questions = figure.add_gridspec(
        1, 2, width_ratios=[4.0, 2.6 * ACROSS], left=0.01, right=0.995, top=0.92, bottom=0.16, wspace=0.05
    )
    _draw_grid(figure.add_subplot(example), crops[0], corners[0], side)
    cells = questions.subgridspec(lines, 4 * ACROSS, width_ratios=[1, 1, 1, 0.25] * ACROSS, wspace=0.1, hspace=0.3)
    for number, place in enumerate(asked):
        line, across = divmod(number, ACROSS)
        centre, other, answer = (figure.add_subplot(cells[line, 4 * across + part]) for part in range(3))
        for panel, patch, colour in ((centre, 0, CENTRE), (other, 1 + place, ASKED)):
            top, left = corners[number, patch].tolist()
            panel.imshow(_rgb(crops[number])[top : top + side, left : left + side], interpolation="nearest")
            panel.spines[:].set(color=colour, linewidth=1.8)
        centre.set_title(f"question {number + 1}", fontsize=8, loc="left", pad=3)
        _draw_answer(answer, probabilities[number, place], place)
        for panel in (centre, other, answer):
            panel.set(xticks=[], yticks=[])
    told = [int(probabilities[number, place].argmax()) == place for number, place in enumerate(asked)]
    key = [f"{number + 1} {PLACES[place]}" for number, place in enumerate(asked)]
    half = -(-len(key) // 2)
    text = "Key:  " + ",  ".join(key[:half]) + ",\n" + ",  ".join(key[half:])
    text += f".   The network is right {sum(told)} times of {len(told)}; by guessing it would be once in eight."
    figure.text(0.012, 0.025, text, fontsize=8.5, color="0.35", linespacing=1.6)
    figure.savefig(path, dpi=130)


def _draw_grid(panel, crop: Tensor, corners: Tensor, side: int) -> None:
    """A whole image with its nine patches."""
    from matplotlib.patches import Rectangle

    panel.imshow(_rgb(crop), interpolation="nearest")
    for number, (top, left) in enumerate(corners.tolist()):
        centre = number == 0
        style = {"edgecolor": CENTRE if centre else ASKED, "linestyle": "-" if centre else "--"}
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, linewidth=1.6, **style))
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.set_title("one image, its centre\nand eight neighbours", fontsize=8, loc="left")


def _draw_answer(panel, probabilities: Tensor, place: int) -> None:
    """The eight places, the darker the likelier, the network's choice framed: green where it is right."""
    from matplotlib.patches import Rectangle

    best = int(probabilities.argmax())
    for number, (down, right) in enumerate(AROUND):
        shade = 1 - float(probabilities[number]) ** 0.5
        panel.add_patch(Rectangle((right, down), 0.9, 0.9, facecolor=(shade,) * 3, edgecolor="0.85", linewidth=0.5))
        panel.text(
            right + 0.45, down + 0.47, f"{100 * float(probabilities[number]):.0f}", ha="center", va="center",
            fontsize=6, color="white" if shade < 0.55 else "0.3",
        )  # fmt: skip
    down, right = AROUND[best]
    colour = RIGHT if best == place else WRONG
    panel.add_patch(Rectangle((right, down), 0.9, 0.9, fill=False, edgecolor=colour, linewidth=2))
    panel.add_patch(Rectangle((0, 0), 0.9, 0.9, facecolor=CENTRE, edgecolor="none", alpha=0.85))
    panel.set(xlim=(-1.08, 1.98), ylim=(1.98, -1.08), aspect="equal")
    panel.spines[:].set_visible(False)
    panel.set_title("network, %", fontsize=7, loc="left", pad=3, color="0.35")


def _rgb(image: Tensor):
    """(C, H, W) in 0...1 -> (H, W, 3): of two channels the first as grey, of more the first three."""
    shown = image[:3] if len(image) > 2 else image[:1].expand(3, -1, -1)
    return shown.clamp(0, 1).permute(1, 2, 0).numpy()
