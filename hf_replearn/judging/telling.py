"""An evaluation in words: what was measured of whom, and what each score means."""

from __future__ import annotations

import re
import shlex
from typing import Any

from hf_replearn.evaluation.contestants import Asked
from hf_replearn.evaluation.draws import in_words
from hf_replearn.evaluation.examples import SUITES, Examples
from hf_replearn.evaluation.side_by_side import Judged
from hf_replearn.evaluation.suite import judged as in_full
from hf_replearn.judging.tuning import Tuned
from hf_replearn.representation import labels_of
from hf_replearn.settings import as_dict, command_line
from hf_replearn.sharing.page import properties_of
from hf_replearn.sharing.report import Evaluation, Task


def describe(
    settings: Any, examples: Examples, asked: Asked, origins: dict[str, dict[str, str]], command: str | None = None
) -> Evaluation:
    """The report of this evaluation, without its scores. origins: row -> facts of its encoder."""
    data, pairs = examples.data, examples.kind == "scores"
    return Evaluation(
        task=Task(
            name=data.name,
            hub_id=data.hub_id,
            unit="pair of sentences" if pairs else examples.modality,
            train=0 if pairs else len(examples.train),
            test=len(examples.test),
            classes=data.label_names,
            held_out=data.test_source,
            notes=data.notes + [f"not judged: {what}" for what in asked.left_out],
        ),
        encoders=origins,
        command=command or shlex.join(["hf-replearn", "evaluate", *command_line(settings)]),
        settings=as_dict(settings),
    )


def note(report: Evaluation, row: str, judged: Judged, tuned: Tuned) -> None:
    """What was measured of one encoder, and what was not, in the report."""
    untuned = {metric: None for metric in tuned.missing if " " not in metric}  # the others are of single layers
    report.rows[row] = judged.scores | untuned
    report.properties[row] = judged.properties
    report.missing[row] = judged.missing | tuned.missing


def explain(settings: Any, report: Evaluation, judged: dict[str, Judged], examples: Examples) -> dict[str, str]:
    """What every score means: of which examples it is."""
    data, train, test = examples.data, examples.train, examples.test
    plain = labels_of(test).ndim == 1 and data.label_names is not None
    how = {"seed": settings.seed, "classes": plain}
    things = "pairs" if data.label_names is None else "test examples"
    words = {
        "train": in_words(len(train), len(data.train), "labels", **how, every_class=True),
        "test": in_words(len(test), len(data.test), things, **how),
        "draws": SUITES[settings.suite].draws,
        "rate": settings.learning_rate,
        "queries": next((row.found["map"].shape[1] for row in judged.values() if "map" in row.found), 0),
        "alone": "",
    }
    if plain and (single := int((labels_of(test).bincount() == 1).sum())):
        words["alone"] = f" ({single} that are alone in their class cannot be found, and do not ask)"
    return in_full([*report.metrics, *properties_of(report)], **words)


def of_task(report: Evaluation, task: str, *, first: str) -> tuple[dict, dict[str, str], dict]:
    """Rows, protocols and what is missing of an evaluation as a card holds them: knn_sst2@20 for knn@20, and the first
    row's name. Fine-tuning with one seed has a name of its own, since `hf-replearn finetune` has several.
    """

    def named(metric: str) -> str:
        protocol, *parameters = re.split("(?=@|_ci95$)", metric, maxsplit=1)
        return "".join([f"{'finetune_once' if protocol == 'finetune' else protocol}_{task}", *parameters])

    # Principal components of these examples are not those of all that the run was trained on.
    some = f" ({report.task.train:,} {report.task.unit}s)" if report.task.train else ""
    others = [row + some if row.startswith("PCA of") else row for row in list(report.rows)[1:]]
    names = dict(zip(report.rows, [first, *others], strict=True))
    rows = {names[row]: {named(key): value for key, value in scores.items()} for row, scores in report.rows.items()}
    held_out = f" The test examples: {report.task.held_out} of {report.task.name}; frozen features pooled as "
    held_out += f"{next(iter(report.encoders.values()))['pooling']}." + "".join(f" {n}." for n in report.task.notes)
    known = {name: report.protocols[name] + held_out for name in dict.fromkeys(m.split("@")[0] for m in report.metrics)}
    missing = {
        names[row]: {named(key): why for key, why in found.items() if key in report.rows[row]}
        for row, found in report.missing.items()
    }
    return rows, {named(name): sentence for name, sentence in known.items()}, missing
