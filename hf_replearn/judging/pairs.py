"""The story of `evaluate` for encoders of images and texts together: captions and images that find one another, and
classes told by their names; beside chance, random weights and what needs no network."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_replearn.data.image_texts import UNSEEN, PairData, load_pairs
from hf_replearn.data.inventory import write_skipped
from hf_replearn.encoders.backbones import count_parameters
from hf_replearn.encoders.pair_encoder import PairEncoder, read_pair_encoder
from hf_replearn.errors import InputError
from hf_replearn.evaluation.draws import in_words
from hf_replearn.evaluation.examples import Examples, open_examples
from hf_replearn.evaluation.judged_pairs import JudgedPairs, judge_pairs
from hf_replearn.evaluation.pairs import embed_images
from hf_replearn.evaluation.statistics import holm, mean_half_width, paired_test
from hf_replearn.evaluation.zero_shot import check_templates, class_vectors, mean_similarity, names_in_words, told
from hf_replearn.representation import labels_of
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing.card import extend_card, extendable
from hf_replearn.sharing.drawn_pairs import draw_found, draw_similarity
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import FILE as REPORT
from hf_replearn.sharing.report import INTERVAL, Evaluation, Report, Task
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.folder import check_folder, claim_folder

RETRIEVAL, ZERO_SHOT = "retrieval", "zero_shot"
SHARED = {"model", "dataset", "files", "dataset_config", "image_column", "max_undecodable", "baselines", "output_dir"}
SHARED |= {"seed", "use_cpu", "dataloader_num_workers", "add_to_card"}  # settings that mean something here
USED = {
    RETRIEVAL: SHARED | {"task", "text_columns"},
    ZERO_SHOT: SHARED | {"zero_shot", "label_column", "label_type", "value_range", "test_examples", "suite"},
}
RANDOM, SHUFFLED, LARGEST, BARE = "random weights", "names shuffled", "largest class", "names alone"
FOUND, SIMILARITY = "found.png", "similarity.png"
EACH = 8  # templates at most that are judged by themselves too
NOTHING_FITTED = (
    "Accuracy on {test} of the class whose prompts are nearest (cosine): of each class the mean of the vectors of "
    "{count} prompt{s}, {shown}; the names of classes with spaces for underscores. Nothing is trained; interval by "
    "bootstrap over examples."
)


def of_pairs(settings: Any) -> bool:
    """Whether encoders of images and texts are to be judged. Raises InputError for both ways at once, and without a
    model."""
    asked = [name for name, given in (("--zero_shot", settings.zero_shot), ("--task retrieval", is_retrieval(settings)))
             if given]  # fmt: skip
    if settings.zero_shot and settings.task is not None:
        raise InputError(f"--zero_shot and --task {settings.task} are judged one after the other: leave one out")
    if asked and not settings.model:
        raise InputError(f"{asked[0]} is of encoders of images and texts, such as CLIP: give --model")
    return bool(asked)


def is_retrieval(settings: Any) -> bool:
    return settings.task == RETRIEVAL


def judge_images_and_texts(settings: Any, *, command: str | None = None, show: bool = True) -> Evaluation:
    """What encoders of images and texts are worth: report, page, card. Arguments as of `evaluate_encoders`.

    Raises InputError for whatever the user has to mend, before anything is computed.
    """
    kind = RETRIEVAL if is_retrieval(settings) else ZERO_SHOT
    check_folder(settings)
    if unused := [name for name in changed(settings) if name not in USED[kind]]:
        asked = "--task retrieval" if kind == RETRIEVAL else "--zero_shot"
        raise InputError(f"--{unused[0]} has no meaning with {asked}: leave it out")
    check_templates(settings.zero_shot)
    card = extendable(settings.model[0]) if settings.add_to_card else None
    encoders = {name: read_pair_encoder(name) for name in settings.model}
    device = "cuda" if torch.cuda.is_available() and not settings.use_cpu else "cpu"
    for encoder in encoders.values():
        encoder.model.to(device)
    report = (found_by_each_other if kind == RETRIEVAL else told_by_names)(settings, encoders)
    report.command = command or report.command
    out = Path(settings.output_dir)
    report.save(out, page=False)
    if show:
        print(*report.task.notes, f"\n{report.table()}\n", sep="\n", flush=True)
        page, _ = try_to_show("the page", partial(write_page, out))
        print(f"page: {page}" if page else f"report: {out / REPORT}")
    if card is not None:
        add_to_card(settings, card, report)
    return report


def with_random(settings: Any, encoders: dict[str, PairEncoder]) -> dict[str, PairEncoder]:
    """The encoders, and the first one from random weights where baselines are asked for."""
    if not settings.baselines:
        return encoders
    torch.manual_seed(settings.seed)
    return encoders | {RANDOM: next(iter(encoders.values())).untrained()}


# ---- captions and images


def found_by_each_other(settings: Any, encoders: dict[str, PairEncoder]) -> Evaluation:
    """The report of retrieval."""
    data = load_pairs(
        settings.dataset,
        files=settings.files,
        config=settings.dataset_config,
        image_column=settings.image_column,
        text_column=settings.text_columns,
        max_undecodable=settings.max_undecodable,
    )
    print(data.taken, *data.notes, sep="\n", flush=True)
    claim_folder(settings)
    write_skipped(Path(settings.output_dir, "skipped_pairs.txt"), [*data.left_out, *data.skipped])
    parts, sources = {"": data.test}, {"": data.test_source}
    if data.unseen is not None:
        parts[f"_{UNSEEN}"], sources[f"_{UNSEEN}"] = data.unseen, f"the split {UNSEEN!r}"
    judged, shown = judge_pairs(
        with_random(settings, encoders),
        parts,
        sources=sources,
        train=data.train if settings.baselines else None,
        seed=settings.seed,
        workers=settings.dataloader_num_workers,
    )
    report = describe(settings, encoders, judged, of_captions(data))
    drawn, _ = try_to_show(FOUND, partial(draw_found, shown, Path(settings.output_dir, FOUND)))
    report.figures = {FOUND: drawn} if drawn else {}
    return report


def of_captions(data: PairData) -> Task:
    return Task(
        name=data.name,
        hub_id=data.hub_id,
        unit="pair of image and caption",
        train=0,
        test=len(data.test) + (0 if data.unseen is None else len(data.unseen)),
        classes=None,
        held_out=data.test_source,
        notes=data.notes,
    )


# ---- classes by their names


def told_by_names(settings: Any, encoders: dict[str, PairEncoder]) -> Evaluation:
    """The report of zero-shot classification."""
    examples = open_examples(settings, processes=1, encoders=[])
    if not examples.images or examples.kind != "classes":
        raise InputError(
            f"--zero_shot tells one class of each image, and {settings.dataset!r} has "
            + ("several labels an image" if examples.images else "no images")
        )
    claim_folder(settings)
    write_skipped(Path(settings.output_dir, "skipped_examples.txt"), examples.data.skipped)
    labels, names = labels_of(examples.test), names_in_words(examples.data.label_names)
    right, shown = {}, {}
    for row, encoder in with_random(settings, encoders).items():
        images = embed_images(encoder, examples.test, workers=settings.dataloader_num_workers, told=row)
        classes = class_vectors(encoder.texts, names, settings.zero_shot)
        right[row] = told(images, classes) == labels
        if not shown:
            shown = {"images": images, "classes": classes}
            right |= by_other_prompts(settings, encoder, images, labels, names) if settings.baselines else {}
    right = {row: right[row] for row in (*encoders, *(row for row in right if row not in encoders))}
    if settings.baselines:
        right[LARGEST] = labels == labels.bincount().argmax()
    report = describe(settings, encoders, as_scores(right, examples, settings), of_classes(examples))
    report.confusion = {next(iter(encoders)): confusion(told(**shown), labels, len(names))}
    matrix = mean_similarity(**shown, labels=labels)
    path = Path(settings.output_dir, SIMILARITY)
    drawn, _ = try_to_show(SIMILARITY, partial(draw_similarity, matrix, names, path))
    report.figures = {SIMILARITY: drawn} if drawn else {}
    return report


def by_other_prompts(
    settings: Any, encoder: PairEncoder, images: Tensor, labels: Tensor, names: list[str]
) -> dict[str, Tensor]:
    """Which examples are told by each template alone, by the names alone, and by prompts of which each class has those
    of another."""
    templates = {template: (template,) for template in settings.zero_shot[:EACH] if len(settings.zero_shot) > 1}
    found = {
        f"“{name}” alone": told(images, class_vectors(encoder.texts, names, some)) for name, some in templates.items()
    }
    if settings.zero_shot != ("{}",):
        found[BARE] = told(images, class_vectors(encoder.texts, names, ("{}",)))
    classes = class_vectors(encoder.texts, names, settings.zero_shot)
    found[SHUFFLED] = told(images, classes.roll(1, dims=0))
    return {row: answers == labels for row, answers in found.items()}


def as_scores(right: dict[str, Tensor], examples: Examples, settings: Any) -> JudgedPairs:
    """right: row -> (N,) bool."""
    judged, templates = JudgedPairs(), settings.zero_shot
    for row, answers in right.items():
        outcome = answers.double().numpy()
        half = mean_half_width(outcome, seed=settings.seed)
        judged.rows[row] = {ZERO_SHOT: float(outcome.mean()), ZERO_SHOT + INTERVAL: half}
        judged.found[row] = {ZERO_SHOT: outcome}
    shown = ", ".join(f"“{template}”" for template in templates[:EACH]) + ", …" * (len(templates) > EACH)
    test = in_words(len(examples.test), len(examples.data.test), "test examples", seed=settings.seed)
    words = {"test": test, "count": len(templates), "s": "s" * (len(templates) > 1), "shown": shown}
    judged.protocols = {ZERO_SHOT: NOTHING_FITTED.format(**words)}
    return judged


def of_classes(examples: Examples) -> Task:
    data = examples.data
    return Task(
        name=data.name,
        hub_id=data.hub_id,
        unit="image",
        train=0,
        test=len(examples.test),
        classes=data.label_names,
        held_out=data.test_source,
        notes=data.notes,
    )


def confusion(answers: Tensor, labels: Tensor, count: int) -> list[list[int]]:
    """Examples of each class (lines) told as each class (columns)."""
    table = np.zeros((count, count), int)
    np.add.at(table, (labels.numpy(), answers.numpy()), 1)
    return table.tolist()


# ---- the report


def describe(settings: Any, encoders: dict[str, PairEncoder], judged: JudgedPairs, task: Task) -> Evaluation:
    """The report."""
    facts = {row: {"from": "baseline"} for row in judged.rows}
    for row, encoder in encoders.items():
        facts[row] = {"from": row, "parameters": f"{count_parameters(encoder.model):,}"}
    return Evaluation(
        task=task,
        encoders=facts,
        command=shlex.join(["hf-replearn", "evaluate", *command_line(settings)]),
        settings=as_dict(settings),
        rows=judged.rows,
        properties={row: {} for row in judged.rows},
        missing={row: judged.missing.get(row, {}) for row in judged.rows},
        protocols=judged.protocols,
        comparisons=compare(judged, seed=settings.seed),
    )


def compare(judged: JudgedPairs, *, seed: int) -> list[dict[str, Any]]:
    """Paired tests of the first row with every other one that was measured, p corrected for their number (Holm)."""
    (_, first), *others = judged.found.items()
    tests = [
        {"metric": metric, "other": other} | paired_test(outcome, found[metric], seed=seed)
        for other, found in others
        for metric, outcome in first.items()
        if metric in found
    ]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p"] = p
    return tests


def add_to_card(settings: Any, card: Report, report: Evaluation) -> None:
    """The scores, into the report and card of the first model, by the name of the dataset where it is another one."""
    own = next(iter(card.rows), card.method.name)
    suffix = "" if card.data.name == report.task.name else f"_{Path(report.task.name).stem}"

    def named(metric: str) -> str:
        protocol, at, k = metric.removesuffix(INTERVAL).partition("@")
        return f"{protocol}{suffix}{at}{k}" + INTERVAL * metric.endswith(INTERVAL)

    names = dict(zip(report.rows, [own, *list(report.rows)[1:]], strict=True))
    rows = {names[row]: {named(key): value for key, value in of.items()} for row, of in report.rows.items()}
    missing = {names[row]: {named(key): why for key, why in of.items()} for row, of in report.missing.items()}
    protocols = {named(key): text for key, text in report.protocols.items()}
    extend_card(settings.model[0], rows, protocols=protocols, missing=missing)
