"""From the records of all draws and orders to means, intervals, and where their spread comes from."""

from __future__ import annotations

import itertools
import textwrap

import numpy as np

from hf_replearn.evaluation.prompting.few_shot import Condition
from hf_replearn.evaluation.prompting.metrics import metrics_of
from hf_replearn.evaluation.prompting.tasks import Task
from hf_replearn.evaluation.repetitions import INTERVAL

Z = 1.959964


def summarise(task: Task, runs: dict[Condition, list[dict]]) -> dict[str, dict[int, dict[str, float]]]:
    """{metric: {K: {"mean", "mean_ci95", "effective_shots", and what `spread` gives}}}; of choices also "chance", what
    guessing gives."""
    summary: dict = {}
    for shots, group in itertools.groupby(sorted(runs), key=lambda condition: condition.shots):
        chosen = {condition: runs[condition] for condition in group}
        values = {condition: metrics_of(task, records) for condition, records in chosen.items()}
        effective = np.mean([len(record["shots"]) for records in chosen.values() for record in records])
        choices = [len(record.get("logprobs", ())) for records in chosen.values() for record in records]
        chance = {"chance": float(np.mean(1 / np.array(choices)))} if min(choices) > 1 else {}
        for metric in next(iter(values.values())):
            scores = np.array([[r["scores"].get(metric, np.nan) for r in records] for records in chosen.values()])
            found = {"mean": float(np.mean([value[metric] for value in values.values()]))}
            found |= spread({condition: value[metric] for condition, value in values.items()}, scores)
            summary.setdefault(metric, {})[shots] = found | {"effective_shots": float(effective)} | chance
    return summary


def spread(values: dict[Condition, float], scores: np.ndarray) -> dict[str, float]:
    """Standard deviations of a score, apart, and the half width of the 95 % interval around its mean.

    values: of each condition of one K. scores: (conditions, documents), each document's part; NaN where a score is of
    all documents together, as BLEU is.
    test_se:  standard error for the choice of test documents, from each document's mean over conditions.
    draw_sd:  over draws of the examples, each averaged over its orders. order_sd: over orders, within a draw.
    mean_ci95 adds the variances of the mean from the test set (normal) and from the draws (t); what there is only one
    of does not count. Documents and draws are crossed: part of the noise counts in both, so that it errs to the wide.
    """
    from scipy.special import stdtrit

    by_seed: dict[int, list[float]] = {}
    for condition, value in values.items():
        by_seed.setdefault(condition.seed, []).append(value)
    found, variance = {}, 0.0
    if scores.shape[1] > 1 and not np.isnan(scores).any():
        found["test_se"] = float(scores.mean(axis=0).std(ddof=1) / scores.shape[1] ** 0.5)
        variance += (Z * found["test_se"]) ** 2
    if len(by_seed) > 1:
        found["draw_sd"] = float(np.std([np.mean(values) for values in by_seed.values()], ddof=1))
        variance += stdtrit(len(by_seed) - 1, 0.975) ** 2 * found["draw_sd"] ** 2 / len(by_seed)
    if all(len(values) > 1 for values in by_seed.values()):
        found["order_sd"] = float(np.mean([np.var(values, ddof=1) for values in by_seed.values()]) ** 0.5)
    return found | ({"mean" + INTERVAL: float(variance**0.5)} if variance else {})


def table(summaries: dict[str, dict[str, dict[int, dict[str, float]]]]) -> str:
    """Plain text: a line for each task and metric, a column for each K.

    summaries: {"copa": what `summarise` gives, "copa, linear probe": …}.
    """
    shots = sorted({k for summary in summaries.values() for by_shots in summary.values() for k in by_shots})

    def cell(found: dict[str, float] | None) -> str:
        if found is None:
            return "–"
        half = f" ± {found['mean' + INTERVAL]:.3f}" if "mean" + INTERVAL in found else ""
        less = f" (K = {found['effective_shots']:.1f})" if "short" in found else ""
        return f"{found['mean']:.3f}{half}{less}"

    lines = [["", *(f"K = {k}" for k in shots)]]
    for name, summary in summaries.items():
        for metric, by_shots in summary.items():
            shown = {
                k: found | ({"short": 1} if found.get("effective_shots", k) < k else {})
                for k, found in by_shots.items()
            }
            lines.append([f"{name}, {metric}", *(cell(shown.get(k)) for k in shots)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return f"{text}\n± 95 % interval over test documents and draws of the examples; (K = …): as many as fitted"


def draw_curves(summaries: dict[str, dict[str, dict[int, dict[str, float]]]]):
    """A matplotlib Figure: score over K, a panel for each task and metric, its linear probe dashed, chance dotted. What
    is 0 at every K is only named.
    """
    from matplotlib.figure import Figure

    every = [(name, metric) for name, summary in summaries.items() if PROBE not in name for metric in summary]
    panels = [(name, metric) for name, metric in every if any(k["mean"] for k in summaries[name][metric].values())]
    panels = panels or every
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, (name, metric) in itertools.zip_longest(axes, panels, fillvalue=(None, None)):
        if name is None:
            ax.axis("off")
            continue
        for number, line in enumerate((name, name + PROBE)):
            points = summaries.get(line, {}).get(metric, {})
            shots = sorted(points)
            means = np.array([points[k]["mean"] for k in shots])
            halves = np.array([points[k].get("mean" + INTERVAL, 0.0) for k in shots])
            style = {"color": f"C{number}", "linestyle": "--" if number else "-", "marker": "o", "markersize": 3}
            ax.plot(shots, means, label="linear probe" if number else "prompt", **style)
            ax.fill_between(shots, means - halves, means + halves, color=f"C{number}", alpha=0.15, linewidth=0)
        if "chance" in (found := next(iter(summaries[name][metric].values()))):
            ax.axhline(found["chance"], color="0.4", linestyle=":", linewidth=1, label="chance")
        ax.set_xscale("symlog", base=2, linthresh=1)
        ax.set_title(f"{name}\n{metric}", fontsize="medium")
        ax.set(xlabel="K examples", xticks=sorted(summaries[name][metric]))
        ax.xaxis.set_major_formatter("{x:.0f}")
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    if nothing := [f"{name} ({metric})" for name, metric in every if (name, metric) not in panels]:
        text = textwrap.fill(f"0 at every K: {', '.join(nothing)}", 45 * columns)
        figure.supxlabel(text, fontsize="small", color="0.3")
    return figure


def rows_of(task: Task, summaries: dict[str, dict[str, dict[int, dict[str, float]]]]) -> dict[str, dict[str, float]]:
    """The lines of a task as rows of a report: {"": {"prompt_copa@4": 0.5, …}, "linear probe": …}.

    Of several metrics each has its name; those where less is more are left out.
    """
    rows: dict = {}
    for row, name in (("", task.task), ("linear probe", task.task + PROBE)):
        metrics = [metric for metric in summaries.get(name, {}) if metric != "perplexity"]
        several = len([metric for metric in summaries[task.task] if metric != "perplexity"]) > 1
        for metric in metrics:
            for shots, found in summaries[name][metric].items():
                key = f"prompt_{task.task}{'_' + metric if several else ''}@{shots}"
                half = found.get("mean" + INTERVAL)
                rows.setdefault(row, {}).update({key: found["mean"]} | ({} if half is None else {key + INTERVAL: half}))
    return rows


PROBE = ", linear probe"
