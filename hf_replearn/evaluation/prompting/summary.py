"""From the records of all draws and orders to means, intervals, and where their spread comes from."""

from __future__ import annotations

import itertools
import math
import textwrap

import numpy as np

from hf_replearn.evaluation.prompting.few_shot import Condition
from hf_replearn.evaluation.prompting.metrics import metrics_of
from hf_replearn.evaluation.prompting.tasks import Task
from hf_replearn.evaluation.repetitions import INTERVAL
from hf_replearn.evaluation.statistics import mean_half_width, t_half_width

SCALES = {"bleu": (0.0, 100.0), "chrf": (0.0, 100.0), "perplexity": (0.0, math.inf)}  # of all others: 0 to 1


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
            scores = _parts(chosen, metric)
            scale = SCALES.get(metric, (0.0, 1.0))
            found = {"mean": float(np.mean([value[metric] for value in values.values()]))}
            found |= spread({condition: value[metric] for condition, value in values.items()}, scores, scale=scale)
            summary.setdefault(metric, {})[shots] = found | {"effective_shots": float(effective)} | chance
    return summary


def _parts(runs: dict[Condition, list[dict]], metric: str) -> np.ndarray:
    """(conditions, documents): of the documents that were asked in all of them; fewer fit behind more examples."""
    by_document = [{record["document"]: record["scores"] for record in records} for records in runs.values()]
    common = sorted(set.intersection(*map(set, by_document)))
    return np.array([[scores[number].get(metric, np.nan) for number in common] for scores in by_document])


def spread(
    values: dict[Condition, float], scores: np.ndarray, *, scale: tuple[float, float] = (0.0, 1.0)
) -> dict[str, float]:
    """Standard deviations of a score, apart, and the half width of the 95 % interval around its mean.

    values: of each condition of one K. scores: (conditions, documents), each document's part; NaN where a score is of
    all documents together, as BLEU is. scale: its ends.
    test_se:  standard error for the choice of test documents, from each document's mean over conditions.
    draw_sd:  over draws of the examples, each averaged over its orders. order_sd: over orders, within a draw.
    mean_ci95 is of a bootstrap over documents and draws; of a score of all documents together, a t interval over draws,
    of three at least. Where it would say nothing there is none: see `statistics.stated`.
    """
    by_seed: dict[int, list[int]] = {}
    for number, condition in enumerate(values):
        by_seed.setdefault(condition.seed, []).append(number)
    each = np.array(list(values.values()))
    draws = np.array([each[numbers].mean() for numbers in by_seed.values()])
    found = {}
    if scores.shape[1] > 1 and not np.isnan(scores).any():
        found["test_se"] = float(scores.mean(axis=0).std(ddof=1) / scores.shape[1] ** 0.5)
        half = mean_half_width(np.array([scores[numbers].mean(axis=0) for numbers in by_seed.values()]))
    else:
        half = t_half_width(draws.tolist(), low=scale[0], high=scale[1])
    if len(draws) > 1:
        found["draw_sd"] = float(draws.std(ddof=1))
    if all(len(numbers) > 1 for numbers in by_seed.values()):
        found["order_sd"] = float(np.mean([each[numbers].var(ddof=1) for numbers in by_seed.values()]) ** 0.5)
    return found | ({} if half is None else {"mean" + INTERVAL: half})


def table(summaries: dict[str, dict[str, dict[int, dict[str, float]]]]) -> str:
    """Plain text: a line for each task and metric, a column for each K.

    summaries: {"copa": what `summarise` gives, "copa, linear probe": …}.
    """
    shots = sorted({k for summary in summaries.values() for by_shots in summary.values() for k in by_shots})

    def cell(found: dict[str, float] | None) -> str:
        if found is None or not math.isfinite(found["mean"]):
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
    notes = {
        "±": "± 95 % interval over test documents and draws of the examples",
        "(K =": "(K = …): as many examples as fitted",
    }
    return "\n".join([text, *(note for sign, note in notes.items() if sign in text)])


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
            low, high = np.clip([means - halves, means + halves], *SCALES.get(metric, (0.0, 1.0)))
            ax.fill_between(shots, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
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
        for metric, called in protocol_names(task, summaries).items():
            for shots, found in summaries.get(name, {}).get(metric, {}).items():
                key, half = f"{called}@{shots}", found.get("mean" + INTERVAL)
                rows.setdefault(row, {}).update({key: found["mean"]} | ({} if half is None else {key + INTERVAL: half}))
    return rows


def protocol_names(task: Task, summaries: dict[str, dict]) -> dict[str, str]:
    """Metric -> the name of its protocol in a report: prompt_copa, or prompt_copa_acc where there are several."""
    metrics = [metric for metric in summaries[task.task] if metric != "perplexity"]
    return {metric: f"prompt_{task.task}{f'_{metric}' * (len(metrics) > 1)}" for metric in metrics}


PROBE = ", linear probe"
