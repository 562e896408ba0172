"""The model card: a `Report` in Markdown, with the front matter that the Hub reads."""

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import FILE, INTERVAL, Report, family_and_task, finite


class Markdown(str):
    """Text that is Markdown already. Whatever else the template prints is escaped."""


def escape(value: Any) -> str:
    """Data text on one line, in which no character means anything to Markdown or HTML."""
    if isinstance(value, Markdown):
        return value
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", " ".join(str(value).split()))


def code_block(text: str, language: str) -> Markdown:
    """Data text as a fenced code block, the fence longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text.strip()}\n{fence}")


def score_table(report: Report) -> Markdown:
    """As `Report.table`, the best of a line in bold."""
    lines = [["", *map(escape, report.rows)], ["---"] * (1 + len(report.rows))]
    for metric in report.metrics:
        best = report.best(metric)
        cells = (f"**{report.cell(row, metric)}**" if row in best else report.cell(row, metric) for row in report.rows)
        lines.append([escape(metric), *cells])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def front_matter(report: Report, name: str, license: str | None) -> Markdown:
    """The metadata of the Hub; `model-index` holds the scores of the first row, the encoder itself."""
    from huggingface_hub import EvalResult, ModelCardData

    encoder, data = report.encoder, report.data
    dataset = " ".join(data.name.split())
    tasks = {metric: family_and_task(metric)[1] for metric in report.metrics}
    scores = finite(next(iter(report.rows.values()), {}))
    results = [
        EvalResult(
            task_type=encoder.pipeline_tag,
            dataset_type=task or data.hub_id or dataset,
            dataset_name=task or dataset,
            dataset_revision=None if task else data.revision,
            metric_type=metric,
            metric_value=round(scores[metric], 4),
            metric_args={"ci95": round(scores[metric + INTERVAL], 4)}
            if scores.get(metric + INTERVAL) is not None
            else None,
        )
        for metric, task in tasks.items()
        if scores.get(metric) is not None
    ]
    metadata = ModelCardData(
        library_name=encoder.library,
        pipeline_tag=encoder.pipeline_tag,
        license=license,
        base_model=encoder.base_model,
        datasets=data.hub_id,
        tags=["hf_replearn", "representation-learning", re.sub(r"\W+", "-", report.method.name.lower())],
        model_name=name,
        eval_results=results or None,
    )
    return Markdown(metadata.to_yaml())


def write_eval_results(report: Report, folder: str | Path) -> None:
    """Writes the scores of the encoder to `folder/.eval_results/hf_replearn.yaml`, which the Hub shows beside those of
    other models; only of data that is on the Hub, under its id.

    The protocol's sentence and the interval are the notes of a score. A metric is the task of its dataset.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    scores = finite(next(iter(report.rows.values()), {}))
    if report.data.hub_id is None:
        return
    entries = []
    for metric in report.metrics:
        if scores.get(metric) is None or family_and_task(metric)[1]:
            continue
        interval = scores.get(metric + INTERVAL)
        spread = "" if interval is None else f" 95 % interval: ± {interval:.4f}."
        entries.append(
            EvalResultEntry(
                dataset_id=report.data.hub_id,
                dataset_revision=report.data.revision,
                task_id=metric,
                value=round(scores[metric], 4),
                date=report.date,
                notes=report.protocols[metric.split("@")[0]] + spread,
            )
        )
    if entries:
        path = Path(folder, ".eval_results", "hf_replearn.yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True))


def card(report: Report, folder: str | Path, *, repo_id: str | None = None, license: str | None = None) -> str:
    """The text of README.md for the encoder in `folder`.

    repo_id: the repository it will be pushed to, "owner/name"; without one the card shows how to load the folder.
    license: the Hub's name of the license that you give the weights, e.g. "apache-2.0".
    Data text is escaped, so that a class or a folder named `<script>` or `{{ x }}` is shown as such.
    """
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    name = repo_id.split("/")[-1] if repo_id else Path(folder).resolve().name
    module, _, model_class = report.method.model_class.rpartition(".")
    environment = Environment(  # Markdown, not HTML: `finalize` escapes whatever is printed
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code_block"] = code_block
    environment.filters["python"] = lambda text: Markdown(json.dumps(text, ensure_ascii=False))
    environment.filters["yaml"] = lambda settings: yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    environment.filters["shell"] = shlex.join
    environment.filters["exp"] = math.exp
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment.get_template("card_template.md").render(
        report=report,
        title=name,
        metadata=front_matter(report, name, license),
        scores=score_table(report),
        protocols={name: report.protocols[name] for name in dict.fromkeys(m.split("@")[0] for m in report.metrics)},
        changed={name: value for name, value in report.settings.items() if name in report.changed},
        others=list(dict.fromkeys(task for _, task in map(family_and_task, report.metrics) if task)),
        command=shlex.split(report.command)[1],
        module=Markdown(module),
        model_class=Markdown(model_class),
        location=repo_id or str(folder),
        timm_location=f"hf-hub:{repo_id}" if repo_id else f"local-dir:{folder}",
    )


def extendable(folder: str | Path) -> Report:
    """The report of the run in `folder`, whose card is to get scores. Raises InputError where there is none."""
    if not Path(folder, FILE).exists():
        raise InputError(f"--add_to_card: --model {folder} is no folder with a {FILE}")
    return Report.load(folder)


def extend_card(
    folder: str | Path,
    rows: dict[str, dict[str, float | None]],
    *,
    protocols: dict[str, str],
    missing: dict[str, dict[str, str]] | None = None,
    figures: dict[str, str] | None = None,
) -> None:
    """Adds scores, and pictures that lie in `folder`, to the report, the page and the card of the run in it.

    The report is read anew: while these scores were measured, others may have come in.
    """
    report = extendable(folder)
    report.extend(rows, protocols=protocols, missing=missing)
    report.figures |= figures or {}
    report.save(folder)
    write_page(folder)
    repo_id = report.settings.get("hub_model_id") if report.settings.get("push_to_hub") else None
    path = Path(folder, "README.md")
    path.write_text(card(report, folder, repo_id=repo_id), encoding="utf-8")
    print(f"added to the card: {path}")
