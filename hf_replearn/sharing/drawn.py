"""Pictures for the card and for trackers, which show no page: of nearest neighbours, and of images side by side."""

from __future__ import annotations

import base64
import io
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

RIGHT, WRONG, UNKNOWN = "#1f9345", "#d1242f", "0.8"


def draw_neighbours(neighbours: dict[str, Any], row: str, path: str | Path) -> None:
    """Draws each query and, beside it, its nearest neighbours by the encoder `row`, framed by whether they are of its
    class. neighbours: as in a report, with pictures."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from PIL import Image

    lines = [[query, *found] for query, found in zip(neighbours["queries"], neighbours[row], strict=True)]
    columns, wide, high = max(map(len, lines)), 1.1, 1.3  # of a panel, in inches
    figure = Figure(figsize=(wide * columns, high * len(lines) + 0.2))
    limits = {"xlim": (0, columns), "ylim": (len(lines), -0.2 / high)}
    axes = figure.add_axes((0, 0, 1, 1), **limits, autoscale_on=False)  # one for all, which is ten times as fast
    axes.set_axis_off()
    for line, y in zip(lines, range(len(lines)), strict=True):
        for x, example in enumerate(line):
            data = base64.b64decode(example["image"].partition(",")[2])
            image = Image.open(io.BytesIO(data)).convert("RGB")
            shape = image.height / image.width
            width, height = (part * 0.46 for part in (min(1.0, 1 / shape), min(1.0, shape) * wide / high))
            corner = x + 0.5 - width, y + 0.45 - height
            extent = (corner[0], corner[0] + 2 * width, corner[1] + 2 * height, corner[1])
            axes.imshow(image, interpolation="nearest", extent=extent, aspect="auto")
            axes.text(x + 0.5, y + 0.49 + height, example["label"][:16], fontsize=7, ha="center", va="top")
            same = RIGHT if example["label"] == line[0]["label"] else WRONG
            colour, thick = (same, 2) if x and line[0]["label"] else (UNKNOWN, 0.6)
            axes.add_patch(Rectangle(corner, 2 * width, 2 * height, fill=False, edgecolor=colour, linewidth=thick))
    for x, title in enumerate(("query", "nearest first")[:columns]):
        axes.text(x + 0.04, -0.02, title, fontsize=9)
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    os.replace(partial, path)


def draw_grid(filters: Tensor, path: str | Path, *, columns: int = 10) -> None:
    """Draws filters, or atoms, line by line, each on a scale of its own around grey, which is 0.

    filters: (K, C, H, W), of any device; of one channel they are grey.
    """
    import torch
    from matplotlib.figure import Figure

    filters = filters.detach().float().cpu()
    filters = filters[:, :3] if filters.shape[1] > 2 else filters[:, :1].expand(-1, 3, -1, -1)
    largest = filters.abs().flatten(1).amax(1).clamp(min=1e-12)[:, None, None, None]
    count, _, height, width = filters.shape
    lines, gap = -(-count // columns), max(1, height // 8)
    canvas = torch.ones(lines * (height + gap) + gap, columns * (width + gap) + gap, 3)
    for place, filter_ in enumerate(0.5 + filters / largest / 2):
        y, x = (
            gap + number * (side + gap) for number, side in zip(divmod(place, columns), (height, width), strict=True)
        )
        canvas[y : y + height, x : x + width] = filter_.permute(1, 2, 0)
    figure = Figure(figsize=(7, 7 * canvas.shape[0] / canvas.shape[1]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas.numpy(), interpolation="nearest")
    axes.set_axis_off()
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    os.replace(partial, path)


def draw_columns(columns: dict[str, Tensor], path: str | Path, *, width: float = 1.3) -> None:
    """Draws images beside one another, a line for each image and a column for each title.

    columns: title -> (B, C, H, W) float in [0, 1], of any device; of one channel they are grey. width: of one, in inch.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    lines, half = len(next(iter(columns.values()))), 0.47  # of an image, in images
    titles = [textwrap.fill(title, int(14 * width)) for title in columns]  # characters of 9 points in an inch
    head = (0.2 * max(title.count("\n") + 1 for title in titles) + 0.1) / width
    figure = Figure(figsize=(width * len(columns), width * (lines + head)))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, len(columns)), ylim=(lines, -head), autoscale_on=False)
    axes.set_axis_off()
    for column, (title, images) in enumerate(zip(titles, columns.values(), strict=True)):
        shown = images.detach().float().cpu().clamp(0, 1).permute(0, 2, 3, 1)
        shown = shown[..., :3] if shown.shape[-1] > 2 else shown[..., :1].expand(*shown.shape[:3], 3)
        left = column + 0.5 - half
        for line, image in enumerate(shown):
            top = line + 0.5 - half
            extent = (left, left + 2 * half, top + 2 * half, top)
            axes.imshow(image.numpy(), interpolation="nearest", extent=extent, aspect="auto")
            axes.add_patch(Rectangle((left, top), 2 * half, 2 * half, fill=False, edgecolor=UNKNOWN, linewidth=0.6))
        axes.text(column + 0.5, -0.03, title, fontsize=9, linespacing=1.1, ha="center")
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    os.replace(partial, path)


def draw_points(points: Any, labels: list[int], names: list[str], path: str | Path) -> None:
    """Draws points (N, 2) in the colours of their classes, up to twenty, each with its name at the middle of its
    points."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    figure = Figure(figsize=(6.2, 5.6))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"].colors
    groups = {
        name: points[[place for place, label in enumerate(labels) if label == number]]
        for number, name in enumerate(names)
    }
    for colour, own in zip(colours, groups.values(), strict=False):
        axes.scatter(own[:, 0], own[:, 1], s=14, color=colour, linewidths=0, alpha=0.8)
    for colour, (name, own) in zip(colours, groups.items(), strict=False):
        if len(own):
            middle = sorted(own[:, 0])[len(own) // 2], sorted(own[:, 1])[len(own) // 2]
            text = axes.annotate(name[:20], middle, ha="center", va="center", fontsize=10, weight="bold")
            text.set(color=colour, path_effects=[withStroke(linewidth=3, foreground="white")])
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=UNKNOWN, linewidth=0.6)
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    os.replace(partial, path)


def draw_lines(
    lines: list[tuple[str, Tensor]], path: str | Path, *, titles: dict[int, str] | None = None, width: float = 0.9
) -> None:
    """Draws lines of images, each with its name on the left.

    lines: (name, images (B, C, H, W) float in [0, 1], of any device), of one size; of one channel they are grey.
    titles: column -> what stands above it. width: of an image, in inch.
    """
    import torch
    from matplotlib.figure import Figure

    height, across = lines[0][1].shape[2:]
    gap, columns = max(1, across // 20), max(len(images) for _, images in lines)
    canvas = torch.ones(len(lines) * (height + gap) - gap, columns * (across + gap) - gap, 3)
    for line, (_, images) in enumerate(lines):
        shown = images.detach().float().cpu().clamp(0, 1).permute(0, 2, 3, 1)
        shown = shown[..., :3] if shown.shape[-1] > 2 else shown[..., :1].expand(*shown.shape[:3], 3)
        for column, image in enumerate(shown):
            top, left = line * (height + gap), column * (across + gap)
            canvas[top : top + height, left : left + across] = image
    names = ["\n".join(textwrap.fill(part, 16) for part in name.split("\n")) for name, _ in lines]
    left = 0.075 * max(len(part) for name in names for part in name.split("\n")) + 0.15
    head, inch = 0.25 if titles else 0.05, width / (across + gap)
    size = (left + canvas.shape[1] * inch + 0.05, head + canvas.shape[0] * inch + 0.05)
    figure = Figure(figsize=size)
    place = (left / size[0], 0.05 / size[1], canvas.shape[1] * inch / size[0], canvas.shape[0] * inch / size[1])
    axes = figure.add_axes(place)
    axes.imshow(canvas.numpy(), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for line, name in enumerate(names):
        axes.text(-3 * gap, line * (height + gap) + height / 2, name, ha="right", va="center", fontsize=9)
    for column, title in (titles or {}).items():
        axes.text(column * (across + gap) + across / 2, -2 * gap, title, ha="center", va="bottom", fontsize=9)
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    os.replace(partial, path)


def draw_episodes(episodes: list[list[dict[str, Any]]], path: str | Path, *, side: float = 0.7) -> None:
    """Draws episodes beside one another: a line for each class, with an image that is shown of it, and queries of it,
    framed by whether they are told right; in the corner of a wrong one is the class that it was taken for.

    episodes: of each its classes, {"shown": image, "asked": [(image, place of the class that it is told to be, image
    that is shown of that)]}; an image is (H, W, 3) uint8. side: of an image, in inch.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    lines = max(map(len, episodes))
    across = [1 + max(len(line["asked"]) for line in classes) for classes in episodes]
    widths = [count + 0.25 for count in across]  # of the images, with a gap behind the one that is shown
    gap, head = 0.5, 0.35
    total = sum(widths) + gap * (len(episodes) - 1)
    size = (side * total + 0.1, side * lines + head + 0.05)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0.05 / size[0], 0.05 / size[1], side * total / size[0], side * lines / size[1]))
    axes.set(xlim=(0, total), ylim=(lines, 0))
    axes.set_axis_off()

    def put(image, left: float, top: float, width: float, colour: str, thick: float) -> None:
        axes.imshow(image, extent=(left, left + width, top + width, top), interpolation="nearest", zorder=2)
        frame = Rectangle((left, top), width, width, fill=False, edgecolor=colour, linewidth=thick, zorder=3)
        axes.add_patch(frame)

    left = 0.0
    for classes, width in zip(episodes, widths, strict=True):
        axes.text(left + 0.04, -0.1, "shown", fontsize=8, va="bottom")
        axes.text(left + 1.29, -0.1, "asked", fontsize=8, va="bottom")
        for place, line in enumerate(classes):
            put(line["shown"], left + 0.04, place + 0.04, 0.92, UNKNOWN, 0.8)
            for column, (image, told, taken_for) in enumerate(line["asked"]):
                x, y, colour = left + 1.29 + column, place + 0.04, RIGHT if told == place else WRONG
                put(image, x, y, 0.92, colour, 1.8)
                if told != place:
                    put(taken_for, x + 0.54, y + 0.54, 0.38, colour, 1.2)
        left += width + gap
    axes.set(xlim=(0, total), ylim=(lines, 0), aspect="equal")
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    figure.savefig(partial, dpi=120, format="png")
    os.replace(partial, path)
