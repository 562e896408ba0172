"""The story of `evaluate --task episodes`: what any encoder of images is worth where each class has a few examples, by
the nearest mean, beside the same network from random weights and the images as they are."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import transformers
from accelerate import PartialState
from datasets import Dataset, Value
from torch import Tensor

from hf_replearn.data.episodes import Fixed, draw_from, load_classes, load_runs
from hf_replearn.data.inventory import LeftOut, write_skipped
from hf_replearn.data.sources import Source, with_column
from hf_replearn.encoders.load import channels_wanted
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.contestants import Asked, asked_for, find_contestants
from hf_replearn.evaluation.episodes import compare, in_scores, judge_features, nearest_mean, protocols, to_look_at
from hf_replearn.evaluation.own_features import OwnFeatures
from hf_replearn.evaluation.steps import FAILURES, at_work, reason
from hf_replearn.judging.task import task_of
from hf_replearn.judging.telling import of_task
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing.card import extend_card, extendable
from hf_replearn.sharing.drawn import draw_episodes
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import FILE as REPORT
from hf_replearn.sharing.report import Evaluation, Report, Task
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.folder import check_folder, claim_folder

EPISODES, PICTURE, DRAWN = "episodes", "episodes.png", 3
USED = {"model", "runs", "dataset", "files", "task", "image_column", "label_column", "label_type", "max_undecodable"}
USED |= {"value_range", "channels", "baselines", "add_to_card", "output_dir", "seed", "use_cpu"}
USED |= {"dataloader_num_workers"}  # settings that mean something
DRAWING = {"way", "shots", "queries", "episodes", "group_by", "held_out", "within_group"}  # where they are drawn
SHOTS = (1, 5)


@dataclass(frozen=True)
class Tests:
    """What encoders are judged by, as `find_contestants` asks for examples: images, and episodes of them.

    where: in words, where the classes come from; which: which episodes these are.
    """

    name: str
    hub_id: str | None
    rows: Dataset
    fixed: list[Fixed]
    where: str
    which: str
    taken: str
    notes: list[str]
    skipped: list[Any]

    images: ClassVar[bool] = True
    modality: ClassVar[str] = "image"
    kind: ClassVar[str] = "classes"

    @property
    def parts(self) -> tuple[Dataset]:
        return (self.rows,)

    @property
    def learn_from(self) -> Dataset:
        return self.rows

    @property
    def train(self) -> Dataset:
        return self.rows


def of_episodes(settings: Any) -> bool:
    """Whether encoders are to be judged in episodes. Raises InputError for settings of episodes where they are not."""
    if settings.task == EPISODES:
        return True
    if given := sorted((DRAWING - {"shots"}) & set(changed(settings))):
        raise InputError(f"--{given[0]} is of --task {EPISODES}: say that too, or leave it out")
    return False


def judge_in_episodes(
    settings: Any,
    *,
    asked: Asked | None = None,
    source: Source | None = None,
    command: str | None = None,
    show: bool = True,
) -> Evaluation | None:
    """What encoders of images are worth in episodes: report, page, card. Arguments, returns and errors as of
    `evaluate_encoders`."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Episodes, and who is judged by them
    if unused := [name for name in changed(settings) if name not in USED | DRAWING]:
        raise InputError(f"--{unused[0]} is not for --task {EPISODES}: leave it out")
    asked = asked_for(settings) if asked is None else asked
    out, state, card = Path(settings.output_dir), PartialState(cpu=settings.use_cpu), None
    with state.main_process_first():
        if state.is_main_process:
            check_folder(settings)
            card = extendable(settings.model[0]) if settings.add_to_card else None
        tests = open_tests(settings, asked, source)
    state.print(tests.taken, *tests.notes, sep="\n", flush=True)
    if own := [row for row, given in asked.given.items() if isinstance(given, OwnFeatures)]:
        raise InputError(f"features of {own[0]} are of train and test: --task {EPISODES} judges encoders")
    contestants = find_contestants(settings, tests, asked)
    contestants = {row: one for row, one in contestants.items() if not row.startswith("PCA of")}  # of all queries

    # 2. Features: each process computes its part of those of networks
    features, origins = {}, {}
    for row, contestant in contestants.items():
        if state.is_main_process or contestant.shared:
            [(found,)], origins[row] = contestant.represent(*tests.parts)
            features[row] = found.x
    if not state.is_main_process:
        return None
    claim_folder(settings)
    write_skipped(out / "skipped_examples.txt", tests.skipped)

    # 3. Scores, and whether they differ
    report = describe(settings, tests, asked, origins, command)
    found = {row: measure(report, row, x, tests.fixed) for row, x in features.items()}
    report.protocols = protocols(report.metrics, what=tests.which)
    whole = {row: shares for row, shares in found.items() if shares}
    report.comparisons = compare(whole, seed=settings.seed) if next(iter(found)) in whole else []
    report.save(out, page=False)
    first = next(iter(features))
    try_to_show(PICTURE, partial(draw, report, first, features[first], tests, out / PICTURE))
    report.save(out, page=False)
    if not any(found[row] for row in asked.given if row in found):
        raise TrainingError(f"nothing could be measured: {'; '.join(report.reasons())}")
    if show:
        print(f"\n{report.table()}\n", flush=True)
        page, _ = try_to_show("the page", partial(write_page, out))
        print(f"page: {page}" if page else f"report: {out / REPORT}")
    if card is not None:
        add_to_card(settings, card, report)
    return report


# ---- episodes


def open_tests(settings: Any, asked: Asked, source: Source | None) -> Tests:
    """The episodes that the settings name: those of the data, if it is of episodes, else drawn. Raises InputError."""
    channels = channels_wanted(settings.channels, asked.given.values())
    whole = load_runs(settings.dataset if source is None else source, files=settings.files)
    if whole is None:
        return drawn_tests(settings, source, channels)
    if given := sorted(DRAWING & set(changed(settings))):
        raise InputError(f"--{given[0]}: {settings.dataset!r} is of episodes already, and none are drawn: leave it out")
    rows, fixed, name, taken = whole
    rows = rows if channels is None else with_column(rows, "channels", [channels] * len(rows), Value("int64"))
    which = f"Mean over the {len(fixed):,} episodes of {name}, with {fixed.query.shape[1]} queries each, and its t "
    which += "interval over episodes."
    where = "episodes of the data itself: nothing is fitted to them"
    return Tests(name, None, rows, [fixed], where, which, taken, [], [])


def drawn_tests(settings: Any, source: Source | None, channels: int | None) -> Tests:
    """Episodes of the classes held out, by the rules of `hf-replearn episodes`."""
    data = load_classes(
        settings.dataset if source is None else source,
        files=settings.files,
        group_by=settings.group_by,
        held_out=settings.held_out,
        least=settings.way,
        image_column=settings.image_column,
        label_column=settings.label_column,
        label_type=settings.label_type,
        max_undecodable=settings.max_undecodable,
        value_range=settings.value_range,
        channels=channels,
    )
    if not data.held_out:
        raise InputError("--held_out 0 leaves no classes to be judged by: say a share, names, or all")
    shape = {"way": settings.way, "queries": settings.queries, "within_group": settings.within_group}
    fixed, notes = [], []
    for shots in settings.shots or SHOTS:
        try:
            drawn, said = draw_from(data, data.held_out, shots=shots, **shape)
        except InputError:
            if settings.shots or shots == SHOTS[0]:
                raise
            continue
        fixed.append(drawn.fixed(settings.episodes, shots=shots))
        notes += said
    rows = np.unique(np.concatenate([part.ravel() for one in fixed for part in (one.support, one.query)]))
    fixed = [
        replace(one, support=np.searchsorted(rows, one.support), query=np.searchsorted(rows, one.query))
        for one in fixed
    ]
    within = f", each of one {settings.group_by}," if settings.within_group else ""
    which = f"Mean over {settings.episodes:,} episodes{within} of {len(data.held_out):,} classes ({data.where}), with "
    which += f"{settings.queries} queries a class, and its t interval over episodes."
    skipped: list[LeftOut] = [*data.left_out, *data.skipped]
    notes = [*data.notes, *dict.fromkeys(notes)]
    return Tests(data.name, data.hub_id, data.images.select(rows), fixed, data.where, which, data.taken, notes, skipped)


# ---- scores


def describe(
    settings: Any, tests: Tests, asked: Asked, origins: dict[str, dict[str, str]], command: str | None
) -> Evaluation:
    """The report without its scores."""
    return Evaluation(
        task=Task(
            name=tests.name,
            hub_id=tests.hub_id,
            unit="image",
            train=0,
            test=len(tests.rows),
            classes=None,
            held_out=tests.where,
            notes=tests.notes + [f"not judged: {what}" for what in asked.left_out],
        ),
        encoders=origins,
        command=command or shlex.join(["hf-replearn", "evaluate", *command_line(settings)]),
        settings=as_dict(settings),
    )


def measure(report: Evaluation, row: str, x: Tensor, fixed: list[Fixed]) -> dict[str, np.ndarray]:
    """The scores of one row, put into the report; where its features are of no use, why there are none."""
    report.rows[row], report.missing[row], report.properties[row] = {}, {}, {}
    with at_work(f"episodes of {row}"):
        try:
            found = judge_features(x, fixed)
        except FAILURES as error:
            metrics = [f"nearest_mean@{one.name}" for one in fixed]
            report.rows[row], report.missing[row] = dict.fromkeys(metrics), dict.fromkeys(metrics, reason(error))
            return {}
    report.rows[row] = in_scores(found)
    return found


def draw(report: Evaluation, name: str, x: Tensor, tests: Tests, path: Path) -> None:
    """A picture of episodes with the answers of the first encoder, into the report."""
    draw_episodes(to_look_at(tests.rows, nearest_mean(x, tests.fixed[0]), tests.fixed[0], count=DRAWN), path)
    report.figures[path.name] = caption(name)


def caption(name: str) -> str:
    """What the picture shows of an encoder of this name."""
    return (
        f"Episodes: a line for each class, up to ten, with an image that is shown of it and queries, as {name} tells "
        "them by the nearest mean; in the corner of a wrong one is the class that it was taken for."
    )


def add_to_card(settings: Any, card: Report, report: Evaluation) -> None:
    """The scores, and the picture if the run has none of its own, into the report and card of the first model."""
    first, model = next(iter(card.rows), card.method.name), Path(settings.model[0])
    rows, told, missing = of_task(report, task_of(settings), first=first)
    figures = {}
    if PICTURE in report.figures and not (model / PICTURE).exists():
        shutil.copyfile(Path(settings.output_dir, PICTURE), model / PICTURE)
        figures = {PICTURE: caption(first)}
    extend_card(model, rows, protocols=told, missing=missing, figures=figures)
