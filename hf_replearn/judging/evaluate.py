"""The story of `evaluate`: what representations are worth, side by side."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.labelled import balanced_subset
from hf_replearn.data.sources import Source
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.contestants import Asked, Contestant, Layers, asked_for, find_contestants
from hf_replearn.evaluation.examples import SUITES, Examples, open_examples
from hf_replearn.evaluation.kept import Kept
from hf_replearn.evaluation.side_by_side import (
    Judged,
    Protocol,
    check_labels,
    compare,
    judge_encoder,
    nothing_measured,
    over_layers,
)
from hf_replearn.evaluation.steps import at_work
from hf_replearn.judging.desiderata import asked_of
from hf_replearn.judging.pictures import draw
from hf_replearn.judging.task import task_of
from hf_replearn.judging.telling import describe, explain, note, of_task
from hf_replearn.judging.tuning import Tuned, tune_network
from hf_replearn.representation import labels_of
from hf_replearn.sharing.card import extend_card, extendable
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import Evaluation, Report
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.folder import check_folder, claim_folder

KEPT = ".measured"  # folder of what was computed, until the page is there


def evaluate_encoders(
    settings: Any,
    *,
    asked: Asked | None = None,
    source: Source | None = None,
    command: str | None = None,
    show: bool = True,
) -> Evaluation | None:
    """What representations are worth, side by side: any encoders of images, texts or sounds, on any labelled
    dataset.

    settings: of `hf-replearn evaluate`. asked, source: the encoders and the dataset, where these are objects and not
              those that the settings name. command: what the report says was called; none: the command line.
    show:     whether the table is printed, and the page written.
    Returns what is in report.json; None in all processes but the first.
    Raises InputError for whatever the user has to mend, before anything is computed; TrainingError where of the
    encoders that were asked for nothing could be measured.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Data. What can be wrong with the input is found out here, before anything is computed.
    asked = asked_for(settings) if asked is None else asked
    out, state, card = Path(settings.output_dir), PartialState(cpu=settings.use_cpu), None
    with state.main_process_first():
        if state.is_main_process:
            check_folder(settings)
            card = find_card(settings)
        about = {"processes": state.num_processes, "encoders": asked.given.values(), "source": source}
        examples = open_examples(settings, **about)
    protocol = choose_protocol(settings, examples)
    labels = labels_of(examples.train).numpy()
    draws = {share: balanced_subset(labels, share, seed=settings.seed) for share in settings.finetune}

    # 2. Encoders, and what they must beat
    contestants = find_contestants(settings, examples, asked)
    state.print(*(f"left out: {what}" for what in asked.left_out), sep="\n", end="\n" * bool(asked.left_out))

    # 3. Features: each process computes its part of those of networks
    features, origins = compute_features(contestants, examples, state)
    if not state.is_main_process:
        return None
    protocol = replace(protocol, device=choose_device(features, state.device))
    claim_folder(settings)
    write_skipped(out / "skipped_examples.txt", examples.data.skipped)

    # 4. How well each test example does with them: what is computed is kept, and found again by a second start
    report, judged, kept = describe(settings, examples, asked, origins, command), {}, Kept(out / KEPT)
    for row, layers in features.items():
        tuned = Tuned()
        if contestants[row].checkpoint is not None:
            tuned = tune_network(settings, row, contestants[row], examples, draws=draws, layers=layers, kept=kept)
        judged[row] = judge(report, row, layers, examples, protocol=protocol, tuned=tuned, kept=kept)

    # 5. What every score means, whether the encoders differ, and all of it on disk
    report.protocols = explain(settings, report, judged, examples)
    if protocol.kind != "several":
        with at_work("paired tests"):
            report.comparisons = compare(judged, labels_of(examples.test), kind=protocol.kind, seed=settings.seed)
    report.desiderata = asked_of(report, contestants, asked, examples, seed=settings.seed)
    report.save(out, page=False)
    if show:
        print(f"\n{report.table()}\n", flush=True)

    # 6. Pictures, the page, the card of the first model
    if protocol.kind == "classes":
        last = {row: layers[-1] for row, layers in features.items()}
        draw(report, last, judged, examples.test, points=SUITES[settings.suite].points, seed=settings.seed)
        report.save(out, page=False)
    if show:
        page, _ = try_to_show("the page", partial(write_page, out))
        print(f"page: {page}" if page else f"report: {out / 'report.json'}")
    kept.forget()
    if card is not None:
        add_to_card(settings, card, report)
    if why := nothing_measured({row: found for row, found in judged.items() if contestants[row].asked}):
        raise TrainingError(f"of {', '.join(asked.given)} nothing could be measured: {why}")
    return report


def choose_protocol(settings: Any, examples: Examples) -> Protocol:
    """How every encoder is judged. Raises InputError for labels that this cannot be computed with."""
    scope = SUITES[settings.suite]
    asked = Protocol(
        kind=examples.kind,
        shots=settings.shots,
        draws=scope.draws,
        neighbours=scope.neighbours,
        queries=scope.queries,
        seed=settings.seed,
    )
    labels = labels_of(examples.train), labels_of(examples.test)
    return replace(asked, shots=check_labels(asked, *labels, names=examples.data.label_names))


def compute_features(
    contestants: dict[str, Contestant], examples: Examples, state: PartialState
) -> tuple[dict[str, Layers], dict[str, dict[str, str]]]:
    """Row -> features of each layer, and row -> facts of its encoder. The first process has all, others take part."""
    features, origins = {}, {}
    for row, contestant in contestants.items():
        if state.is_main_process or contestant.shared:
            with at_work(None if contestant.shared else f"features of {row}"):
                features[row], origins[row] = contestant.represent(*examples.parts)
    return features, origins


def choose_device(features: dict[str, Layers], device: torch.device) -> str:
    """Where classifiers are fitted and neighbours found: on a GPU in whose free memory each encoder's features have
    room eight times over (copies on other axes, one for each cost), else on the CPU."""
    if device.type != "cuda":
        return "cpu"
    largest = max(sum(part.x.nbytes for part in parts) for layers in features.values() for parts in layers)
    free, _ = torch.cuda.mem_get_info(device)
    return str(device) if 8 * largest < free else "cpu"


def judge(
    report: Evaluation, row: str, layers: Layers, examples: Examples, *, protocol: Protocol, tuned: Tuned, kept: Kept
) -> Judged:
    """The scores of one encoder, and of each of its layers where there are several, put into the report."""
    print(f"scores of {row} …", flush=True)
    labels = labels_of(examples.test)
    judged = judge_encoder(row, layers, labels, protocol=protocol, tuned=tuned.outcomes, kept=kept)
    note(report, row, judged, tuned)
    if protocol.kind == "classes" and len(layers) > 1:
        found, missing = over_layers(row, layers, protocol=protocol, kept=kept)
        report.layers[row] = found | tuned.by_layer
        report.missing[row] |= missing
    return judged


def find_card(settings: Any) -> Report | None:
    """The report of the first model, where scores are to be added to it. Raises InputError where they cannot be."""
    if settings.add_to_card and not settings.model:
        raise InputError("--add_to_card is of the card of the first --model, and none is given")
    return extendable(settings.model[0]) if settings.add_to_card else None


def add_to_card(settings: Any, card: Report, report: Evaluation) -> None:
    """The scores, into the report and card of the first model."""
    rows, protocols, missing = of_task(report, task_of(settings), first=next(iter(card.rows), card.method.name))
    first = next(iter(report.rows))
    lines = [line | {"values": {first: line["values"][first]}} for line in report.desiderata]
    extend_card(settings.model[0], rows, protocols=protocols, missing=missing, desiderata=lines)
