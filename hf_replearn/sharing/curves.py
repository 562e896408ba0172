"""The picture of a run's loss for its card."""

from __future__ import annotations

import os
from pathlib import Path

from hf_replearn.sharing.page import read_log, series

FILE = "curves.png"
SHOWN = {"loss": "training", "held_out_loss": "held-out text"}


def write_curves(folder: str | Path) -> Path | None:
    """Draws the losses in `folder/log.jsonl` into `folder/curves.png`; None where there are no two points to draw."""
    log = read_log(folder)
    curves = {name: points for name in SHOWN if len(points := series(log, name)) > 1}
    if not curves:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), label=SHOWN[name], linewidth=1.5, marker="o" if len(points) < 30 else "")
    axes.set(xlabel="step", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there is no step 2.5
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False)
    path = Path(folder, FILE)
    partial = path.with_name(f".{FILE}.partial")
    figure.savefig(partial, dpi=150, format="png")
    os.replace(partial, path)
    return path
