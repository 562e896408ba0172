"""The card of a fine-tuned network: what it is, how to use it, what it scores, beside what it must beat."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_replearn.sharing.card import score_tables, shown_place, templates
from hf_replearn.sharing.measured import FINETUNED, Measured, finetuned
from hf_replearn.sharing.metadata import chosen
from hf_replearn.sharing.names import hub_type, in_words
from hf_replearn.sharing.paths import local_paths, without_paths
from hf_replearn.sharing.reading import read_json
from hf_replearn.sharing.readme import read_readme, write_readme

SHOWN = "answers.json"  # of some questions, of a network that answers them, and from which odds on it says nothing


def write_finetuned_card(folder: str | Path, *, repo_id: str | None = None) -> None:
    """Writes the card of `folder/model` into its README.md, from `folder/scores.json`.

    repo_id: where it will be pushed. Raises InputError for a README.md that cannot be written into.
    """
    facts, place = read_json(Path(folder, FINETUNED)), Path(folder, "model")
    full, measured = facts["settings"], finetuned(facts)
    first = next(iter(measured.rows))
    mine = [run for run in facts["runs"] if run["row"] == first and run["seed"] == full["seed"]]
    kept = max(mine, key=lambda run: run["labels"])
    known = local_paths(full)
    report = Measured(**{spec.name: without_paths(getattr(measured, spec.name), known) for spec in fields(measured)})
    base = None if Path(str(full["model"])).exists() else full["model"]
    answers = read_json(Path(folder, SHOWN)) if full.get("task") == "questions" else {}
    tag = "image-classification" if (place / "preprocessor_config.json").exists() else "text-classification"
    tag = "question-answering" if answers else tag
    readme = read_readme(place)
    name = repo_id.split("/")[-1] if repo_id else report.title
    readme.update(_metadata(report, kept, facts, name=name, tag=tag, base=base))
    scores = [
        (metric.replace("_", " "), f"{value:.3f}", report.protocols[facts["names"][metric]].partition(";")[0] + ".")
        for metric, value in kept["scores"].items()
        if " layer " not in metric and value is not None
    ]
    body = (
        templates()
        .get_template("finetuned_template.md")
        .render(
            report=report,
            title=name,
            model=report.settings["model"],
            labels=kept["labels"],
            seed=kept["seed"],
            scores=scores,
            tag=tag,
            location=repo_id or shown_place(place),
            tables=score_tables(report),
            answers=answers,
            license=readme.metadata.get("license_name") or readme.metadata.get("license"),
            base=base,
        )
    )
    write_readme(place, readme, body)


def _metadata(report: Measured, kept: dict, facts: dict, *, name: str, tag: str, base: str | None) -> dict[str, Any]:
    """The front matter; `model-index` holds the scores of the network that was kept."""
    from huggingface_hub import EvalResult, ModelCardData

    ours, results = chosen(report.settings), []
    for metric, value in kept["scores"].items():
        if " layer " in metric or value is None:
            continue
        name_of_it = facts["names"][metric]
        sentence = report.protocols[name_of_it]
        results.append(
            EvalResult(
                task_type=tag,
                dataset_type="imagefolder" if tag == "image-classification" else "text",
                dataset_name=report.data,
                metric_type=hub_type(name_of_it, sentence),
                metric_name=in_words(f"{name_of_it}@{100 * kept['label_fraction']:g}%", sentence),
                metric_value=round(value, 4),
            )
        )
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=tag,
        base_model=base,
        tags=list(dict.fromkeys(["hf_replearn", "fine-tuned", *ours.pop("tags", [])])),
        model_name=name,
        eval_results=results or None,
        **ours,
    ).to_dict()
