"""The story of `evaluate` for vectors of words: similarity of words and analogies, beside vectors at random and vectors
that count neighbours in the same text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from hf_replearn.data.text import load_corpora
from hf_replearn.data.words import WordTask, is_of_words, number, word_tasks
from hf_replearn.encoders.words import WordVectors, is_words, read_words
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.sentences import paired_spearman
from hf_replearn.evaluation.statistics import holm, paired_test
from hf_replearn.evaluation.words import Outcome, judge_words, ppmi_svd, protocols, random_words
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing.card import extend_card, extendable
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import FILE as REPORT
from hf_replearn.sharing.report import Evaluation, Report, Task
from hf_replearn.sharing.show import try_to_show
from hf_replearn.strict_yaml import as_data, read_mapping
from hf_replearn.training.folder import FILE as RECIPE
from hf_replearn.training.folder import check_folder, claim_folder

USED = {"model", "dataset", "baselines", "add_to_card", "output_dir", "seed", "use_cpu"}  # settings that mean something
RANDOM = "random vectors"
BY_PARTS = "more by the parts of their words"  # what a note of pairs ends with


def of_words(settings: Any) -> bool:
    """Whether vectors of words are to be judged as such: by words, that is, not by texts.

    Raises InputError where the dataset is of words and only some of the models are, or where it may be of either.
    """
    kinds = {name: is_words(name) for name in settings.model}
    if not any(kinds.values()) or not is_of_words(settings.dataset):
        return False
    if not all(kinds.values()):
        words, other = (next(name for name, kind in kinds.items() if kind is wanted) for wanted in (True, False))
        raise InputError(f"--model {words} is of vectors of words, and {other} is not: judge them one after the other")
    return True


def judge_vectors(settings: Any, *, command: str | None = None, show: bool = True) -> Evaluation:
    """What vectors of words are worth, beside their baselines: report, page, card. Arguments as of `evaluate_encoders`.

    Raises InputError for whatever the user has to mend, before anything is computed; TrainingError where nothing could
    be measured of the vectors that were asked for.
    """
    # 1. Words and what they are judged by
    check_folder(settings)
    if unused := [name for name in changed(settings) if name not in USED]:
        raise InputError(f"--{unused[0]} is not for vectors of words: leave it out")
    card = extendable(settings.model[0]) if settings.add_to_card else None
    tasks = word_tasks(settings.dataset)
    asked = {name: read_words(name) for name in settings.model}
    first = next(iter(asked.values()))
    known = {name: [task.name for task in tasks if any_known(words, task)] for name, words in asked.items()}
    if not any(known.values()):
        raise InputError(f"--dataset {settings.dataset}: {', '.join(asked)} have no vector of any of its words")
    claim_folder(settings)

    # 2. Baselines
    report = describe(settings, tasks, command)
    rows, why = dict(asked), None
    if settings.baselines:
        counting, why = counted(settings, first)
        rows |= ({} if counting is None else counting) | {RANDOM: random_words(first, seed=settings.seed)}
    for name, words in rows.items():
        facts = {"words": f"{len(words.words):,}", "numbers of a vector": f"{words.vectors.shape[1]:,}"}
        report.encoders[name] = {"from": name if name in asked else "baseline"} | facts
    if why is not None:
        report.task.notes.append(f"not judged: vectors that count neighbours, {why}")

    # 3. Scores, and whether they differ
    outcomes = {name: measure(report, name, words, tasks, seed=settings.seed) for name, words in rows.items()}
    report.protocols = {name: text for task in tasks for name, text in protocols(task).items()}
    report.comparisons = compare(outcomes, tasks, seed=settings.seed)
    out = Path(settings.output_dir)
    report.save(out, page=False)
    if not any(report.rows[name] for name in asked):
        raise TrainingError(f"nothing could be measured: {'; '.join(report.reasons())}")
    if show:
        print(*report.task.notes, f"\n{report.table()}\n", sep="\n", flush=True)
        page, _ = try_to_show("the page", lambda: write_page(out))
        print(f"page: {page}" if page else f"report: {out / REPORT}")
    if card is not None:
        add_to_card(settings, card, report)
    return report


def any_known(words: WordVectors, task: WordTask) -> bool:
    """Whether a word of the task has a vector."""
    return any(word in words.places or word.lower() in words.places for item in task.words for word in item)


def describe(settings: Any, tasks: list[WordTask], command: str | None) -> Evaluation:
    """The report without its scores."""
    pairs = all(task.scores is not None for task in tasks)
    asked = "analogy" if all(task.scores is None for task in tasks) else "pair of words or analogy"
    return Evaluation(
        task=Task(
            name=", ".join(task.name for task in tasks),
            hub_id=None,
            unit="pair of words" if pairs else asked,
            train=0,
            test=sum(len(task.words) for task in tasks),
            classes=None,
            held_out="all of them: nothing is fitted to them",
        ),
        encoders={},
        command=command or shlex.join(["hf-replearn", "evaluate", *command_line(settings)]),
        settings=as_dict(settings),
    )


def counted(settings: Any, first: WordVectors) -> tuple[dict[str, WordVectors] | None, str | None]:
    """Vectors by PPMI and SVD of the text that the first model was trained on, or None and why there are none."""
    folder = settings.model[0]
    if not Path(folder, RECIPE).is_file() or first.tokenizer is None:
        return None, f"of {folder} it is not known which text it was trained on"
    given = {key: as_data(node) for key, node in read_mapping(str(Path(folder, RECIPE)), name=RECIPE).items()}
    if "window" not in given:
        return None, f"of {folder} it is not known which text it was trained on"
    print("counting neighbours in the text that it was trained on …", flush=True)
    try:
        corpus = load_corpora(
            given["dataset"],
            text_column=given["text_column"],
            config=given["dataset_config"],
            streaming=given["streaming"],
            files=given["files"],
        )
    except InputError as error:
        return None, f"the text that {folder} was trained on is not found: {error}"
    ids = number(corpus.train, first.tokenizer, settings.output_dir)
    width = first.vectors.shape[1]
    return {f"PPMI + SVD ({width})": ppmi_svd(ids, first, window=given["window"], seed=settings.seed)}, None


def measure(
    report: Evaluation, row: str, words: WordVectors, tasks: list[WordTask], *, seed: int
) -> dict[str, Outcome]:
    """The scores of one row, put into the report; of tasks whose words are not known, why there are none."""
    print(f"scores of {row} …", flush=True)
    report.rows[row], report.properties[row], report.missing[row] = {}, {}, {}
    outcomes = {}
    for task in tasks:
        try:
            outcome = judge_words(words, task, seed=seed)
        except InputError as error:
            metric = next(iter(protocols(task)))
            report.rows[row][metric], report.missing[row][metric] = None, str(error)
            continue
        outcomes[task.name] = outcome
        report.rows[row] |= outcome.scores
        report.properties[row] |= outcome.properties
        if len(outcomes) and row == next(iter(report.rows)):
            note = f"{task.name}: {outcome.known.sum():,} of {len(outcome.known):,} known to {row}"
            if words.ngrams is not None and task.scores is not None:
                note += f", {outcome.composed.sum():,} {BY_PARTS}"
            report.task.notes.append(note)
    return outcomes


def compare(outcomes: dict[str, dict[str, Outcome]], tasks: list[WordTask], *, seed: int) -> list[dict[str, Any]]:
    """Paired tests of the first row with every other one, on what both know, p corrected for their number (Holm)."""
    (_, first), *others = outcomes.items()
    tests = []
    for other, second in others:
        for task in (task for task in tasks if task.name in first and task.name in second):
            for metric in (name for name in first[task.name].found if name in second[task.name].found):
                a, b = first[task.name].found[metric], second[task.name].found[metric]
                both = first[task.name].known & second[task.name].known
                both = both if task.scores is None else ~np.isnan(a) & ~np.isnan(b)
                a, b = a[both], b[both]
                if task.scores is None:
                    tests.append({"metric": metric, "other": other} | paired_test(a, b, seed=seed))
                elif both.sum() > 2 and np.ptp(task.scores[both]):
                    test = paired_spearman(a, b, task.scores[both], seed=seed)
                    tests.append({"metric": metric, "other": other} | test)
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p"] = p
    return tests


def add_to_card(settings: Any, card: Report, report: Evaluation) -> None:
    """The scores, into the report and card of the first model."""
    own = next(iter(card.rows), card.method.name)
    names = dict(zip(report.rows, [own, *list(report.rows)[1:]], strict=True))
    rows = {names[row]: scores for row, scores in report.rows.items()}
    known = {task.partition(":")[0]: task.partition(": ")[2] for task in report.task.notes}
    told = {}
    for name in dict.fromkeys(metric.split("@")[0] for metric in report.metrics):
        of_task = next((text for task, text in known.items() if name.endswith(f"_{task}")), "")
        more = of_task.rpartition(", ")[2] if of_task.endswith(BY_PARTS) else ""
        here = f" Here {of_task.partition(' known')[0]} are known{', ' * bool(more)}{more}." if of_task else ""
        told[name] = report.protocols[name] + here
    missing = {names[row]: found for row, found in report.missing.items()}
    extend_card(settings.model[0], rows, protocols=told, missing=missing)
