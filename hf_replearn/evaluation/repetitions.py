"""Scores of the same measurement with several seeds: their means, intervals, table and picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from hf_replearn.evaluation.statistics import t_half_width

SIGNED = ("matthews_correlation", "pearson", "spearman")  # in -1…1, all other metrics in 0…1
INTERVAL = "_ci95"  # as in k_shot: "x_ci95" is the half width of the 95 % interval around "x"


def mean_and_interval(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> tuple[float, float | None]:
    """The mean over seeds and half its 95 % t interval; None where there are too few for one (see `t_half_width`)."""
    return float(np.mean(values)), t_half_width(values, low=low, high=high)


def summarise(runs: Sequence[dict], *, names: dict[str, str]) -> dict[str, dict[str, float]]:
    """Means and intervals over seeds, {row: {"finetune_sst2@1%": 0.8, "finetune_sst2@1%_ci95": 0.01}}.

    runs:  {"row", "label_fraction", "scores"} each; a score is called as its metric, or "accuracy layer 3". None, which
           stands for NaN, makes the mean NaN.
    names: metric -> what the summary calls it.
    """
    values, key_metric = {}, {}
    for run in sorted(runs, key=lambda run: run["label_fraction"]):
        for score, value in run["scores"].items():
            metric, _, layer = score.partition(" ")
            key = f"{names[metric]}@{100 * run['label_fraction']:g}%{layer and ' ' + layer}"
            key_metric[key] = metric
            values.setdefault(run["row"], {}).setdefault(key, []).append(math.nan if value is None else value)
    rows: dict = {row: {} for row in dict.fromkeys(run["row"] for run in runs)}
    for row, scores in values.items():
        for key, found in scores.items():
            low = -1.0 if key_metric[key] in SIGNED else 0.0
            rows[row][key], half = mean_and_interval(found, low=low)
            rows[row] |= {} if half is None else {key + INTERVAL: half}
    return rows


def reasons(runs: Sequence[dict], *, names: dict[str, str]) -> dict[str, dict[str, str]]:
    """Why there is no mean: {row: {"finetune_sst2@1%": "seed 43: the loss is not finite"}}.

    runs: as `summarise` has them, with "seed" and, where it failed, "missing", {score: reason}. A mean of the other
          seeds would be one of those that went well.
    """
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        for score, reason in run.get("missing", {}).items():
            metric, _, layer = score.partition(" ")
            key = f"{names[metric]}@{100 * run['label_fraction']:g}%{layer and ' ' + layer}"
            known = found.setdefault(run["row"], {})
            known[key] = "; ".join(filter(None, (known.get(key), f"seed {run['seed']}: {reason}")))
    return found


def table(rows: dict[str, dict[str, float]]) -> str:
    """As plain text: a line for each metric, a column for each row."""

    def cell(scores: dict[str, float], metric: str) -> str:
        half = f" ± {scores[metric + INTERVAL]:.3f}" if metric + INTERVAL in scores else ""
        return f"{scores[metric]:.3f}{half}" if math.isfinite(scores.get(metric, math.nan)) else "–"

    metrics = dict.fromkeys(key for scores in rows.values() for key in scores if not key.endswith(INTERVAL))
    lines = [["", *rows]] + [[metric, *(cell(scores, metric) for scores in rows.values())] for metric in metrics]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    if "±" in text:
        return f"{text}\n± 95 % interval over seeds"
    return f"{text}\nno interval: one takes three seeds or draws at least, that do not all agree"


def draw_layers(rows: dict[str, dict[str, float]], *, name: str):
    """A matplotlib Figure of "name@1% layer 3", …, over layers: a line for each row and share of the labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for row, scores in rows.items():
        curves: dict = {}
        for key in scores:
            if match := re.fullmatch(rf"{re.escape(name)}@(.*) layer (\d+)", key):
                curves.setdefault(match[1], []).append((int(match[2]), scores[key], scores.get(key + INTERVAL, 0.0)))
        for number, (share, points) in enumerate(curves.items()):
            layers, means, halves = np.array(sorted(points)).T
            style = {"color": f"C{number}", "linestyle": "--" if row == "random weights" else "-", "marker": "o"}
            axes.plot(layers, means, label=f"{row}, {share}", **style)
            axes.fill_between(layers, means - halves, means + halves, color=f"C{number}", alpha=0.15, linewidth=0)
    axes.set(xlabel="layer", ylabel=name)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
