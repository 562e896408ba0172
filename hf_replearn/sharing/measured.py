"""What `finetune` and `prompt` left, as a report: scores without an encoder of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.evaluation.repetitions import reasons, summarise
from hf_replearn.sharing.paths import last_part
from hf_replearn.sharing.reading import checked, read_json
from hf_replearn.sharing.report import FILE, INTERVAL, Evaluation, Report, Scores, load

FINETUNED, PROMPTED = "scores.json", "results.json"
PROBE = ", linear probe"  # ends the name of a task's line in a prompting's summary


@dataclass(kw_only=True)
class Measured(Scores):
    """data: name and, where it is known, number of the test examples."""

    title: str
    lead: str
    data: str
    command: str
    settings: dict[str, Any]


def load_any(folder: str | Path) -> Report | Evaluation | Measured:
    """What a run, an evaluation, fine-tuning or prompting left in `folder`. Raises InputError where none did."""
    if Path(folder, FILE).exists():
        return load(folder)
    for name, read in ((FINETUNED, finetuned), (PROMPTED, prompted)):
        path = Path(folder, name)
        if path.exists():
            facts = read_json(path)
            try:
                return read(checked(dict[str, Any], facts, str(path)))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
                raise InputError(f"{path} is not as `finetune` or `prompt` writes it: {what:.200}") from error
    what = "is no folder" if not Path(folder).is_dir() else f"has no {FILE}, {FINETUNED} or {PROMPTED}"
    raise InputError(f"{folder} {what}: give what pretraining, evaluate, finetune or prompt left")


def finetuned(facts: dict[str, Any]) -> Measured:
    """Of `scores.json`."""
    settings, names = facts["settings"], facts.get("names")
    task = facts.get("task") or last_part(str(settings["dataset"]))
    if names is None:  # of an older version
        metrics = dict.fromkeys(score.partition(" ")[0] for run in facts["runs"] for score in run["scores"])
        family = "linear_probe" if settings["mode"] == "linear" else "finetune"
        names = {metric: f"{family}_{task}" + f"_{metric}" * (len(metrics) > 1) for metric in metrics}
    runs = checked(list[dict[str, Any]], facts["runs"], FINETUNED)
    rows = summarise(runs, names=names)
    protocols = facts.get("protocols") or {
        name: f"{metric.replace('_', ' ').capitalize()} on {task}, settings as below." for metric, name in names.items()
    }
    model = last_part(str(settings["model"])) if Path(str(settings["model"])).is_absolute() else settings["model"]
    return Measured(
        title=f"{model} on {task}, {'a linear probe' if settings['mode'] == 'linear' else 'fine-tuned'}",
        lead="Learnt from shares of the labels, beside the same network from random weights and a plain model.",
        data=facts.get("data") or task,
        command=facts.get("command", ""),
        settings=settings,
        rows=checked(dict[str, dict[str, float | None]], rows, FINETUNED),
        protocols=protocols,
        missing=reasons(runs, names=names),
        versions=facts["versions"],
    )


def prompted(facts: dict[str, Any]) -> Measured:
    """Of `results.json`."""
    settings, rows, protocols, counts = facts["settings"], {}, {}, []
    model = last_part(str(facts["model"]["name"])) or str(settings["model"])
    for task, found in facts["tasks"].items():
        documents = len(found["runs"][0]["documents"]) if found.get("runs") else None
        counts.append(f"{task}" + (f" ({documents:,} documents)" if documents else ""))
        several = len([metric for metric in found["summary"][task] if metric != "perplexity"]) > 1
        for line, by_metric in found["summary"].items():
            row = "linear probe" if line.endswith(PROBE) else model
            for metric, by_shots in by_metric.items():
                if metric == "perplexity":  # of which less is more
                    continue
                protocol = f"prompt_{task}" + f"_{metric}" * several
                protocols[protocol] = (
                    f"{metric} on {f'{documents:,} documents of ' if documents else ''}{task} with K examples in the "
                    "prompt; mean over draws of the examples, interval over documents and draws. Linear probe: of the "
                    "frozen features, fitted to the same examples."
                )
                for shots, values in by_shots.items():
                    key, half = f"{protocol}@{shots}", values.get("mean" + INTERVAL)
                    scores = rows.setdefault(row, {})
                    scores |= {key: values["mean"]} | ({} if half is None else {key + INTERVAL: half})
    return Measured(
        title=f"{model}, prompted",
        lead="What a language model does when it is only shown examples in its prompt, and not trained on them.",
        data=", ".join(counts),
        command=facts.get("command", ""),
        settings=settings,
        rows=checked(dict[str, dict[str, float | None]], rows, PROMPTED),
        protocols=protocols,
        versions=facts["versions"],
    )
