"""Pictures of what an encoder of images and texts finds: captions of images, images of captions; and how near classes
are to prompts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_replearn.sharing.drawn import RIGHT, UNKNOWN, WRONG

if TYPE_CHECKING:
    from torch import Tensor

QUERIES, CAPTIONS, IMAGES = (
    4,
    4,
    6,
)  # images that ask for captions, and captions that ask for images; what each is given


def draw_found(shown: Any, path: Path) -> str:
    """Draws some images with the captions that are nearest, and some captions with the nearest images; returns what it
    shows, in words. shown: `task`, vectors of length 1 of its `images` and `texts`, and `picture` of an image, by its
    number."""
    from matplotlib.figure import Figure

    right = {tuple(pair) for pair in shown.task.right.tolist()}
    similarity = shown.images @ shown.texts.T
    asking = [place * len(shown.images) // QUERIES for place in range(min(QUERIES, len(shown.images)))]
    heights = 0.4 + 1.25 * len(asking), 0.4 + 1.85 * len(asking)
    figure = Figure(figsize=(8.6, sum(heights)), dpi=110)
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    grid = upper.subplots(len(asking), 2, width_ratios=(1, 5.6), squeeze=False)
    upper.subplots_adjust(hspace=0.12, wspace=0.06, left=0.02, right=0.98, bottom=0.02, top=1 - 0.45 / heights[0])
    upper.suptitle("images, and the captions nearest to each", fontsize=11, x=0.02, y=0.99, ha="left", va="top")
    for image, (picture, words) in zip(asking, grid, strict=True):
        _panel(picture, shown.picture(image), UNKNOWN)
        words.set_axis_off()
        for line, text in enumerate(similarity[image].topk(min(CAPTIONS, len(shown.texts))).indices.tolist()):
            told = textwrap.shorten(shown.task.texts[text], 80, placeholder=" …")
            told = f"{similarity[image, text]:.2f}  {told}".replace("$", r"\$")
            colour = RIGHT if (image, text) in right else WRONG
            words.text(0, 0.88 - 0.24 * line, told, color=colour, fontsize=10, va="center")
    firsts = [next(text for image, text in sorted(right) if image == asked) for asked in asking]
    lines = lower.subplots(len(firsts), min(IMAGES, len(shown.images)), squeeze=False)
    lower.suptitle("captions, and the images nearest to each", fontsize=11, x=0.02, y=0.99, ha="left", va="top")
    lower.subplots_adjust(hspace=0.3, wspace=0.08, left=0.02, right=0.98, bottom=0.02, top=1 - 0.7 / heights[1])
    for text, panels in zip(firsts, lines, strict=True):
        told = textwrap.shorten(shown.task.texts[text], 90, placeholder=" …").replace("$", r"\$")
        panels[0].set_title(told, fontsize=10, loc="left")
        for panel, image in zip(panels, similarity[:, text].topk(len(panels)).indices.tolist(), strict=True):
            _panel(panel, shown.picture(image), RIGHT if (image, text) in right else WRONG)
    figure.savefig(path, format="png")
    return (
        "Of the pairs held out: images with the captions that are nearest by cosine, and captions with the nearest "
        "images, best first; green are right answers, red others."
    )


def _panel(axes: Any, picture: Any, colour: str) -> None:
    axes.imshow(picture, interpolation="nearest" if max(picture.size) <= 64 else "antialiased")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=colour, linewidth=2.5 if colour != UNKNOWN else 0.6)


def draw_similarity(similarity: Tensor, names: Sequence[str], path: Path) -> str:
    """Draws the mean cosine of the images of each class, a row, with the prompts of each; returns what it shows."""
    from matplotlib.figure import Figure

    count, short = len(names), [textwrap.shorten(name, 22, placeholder="…") or name[:22] for name in names]
    side = 2.2 + 0.34 * min(count, 40)
    figure = Figure(figsize=(side + 1.2, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(similarity.numpy(), cmap="viridis")
    if count <= 40:
        axes.set_xticks(range(count), short, rotation=90, fontsize=8)
        axes.set_yticks(range(count), short, fontsize=8)
    axes.set(xlabel="prompts of the class", ylabel="images of the class")
    figure.colorbar(drawn, shrink=0.7, label="mean cosine")
    figure.savefig(path, format="png")
    return "Mean cosine of the images of each class, in a row, with the prompts of each class, in a column."
