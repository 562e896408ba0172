"""Which choice is the right one: what the data says, "2", 2, True or "Business", as the number of a choice."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_replearn.errors import InputError

if TYPE_CHECKING:
    from hf_replearn.evaluation.prompting.tasks import Task

SCANNED = 10_000  # rows that tell how answers are to be read
WORDS = {True: ("true", "yes"), False: ("false", "no")}


class BadTarget(InputError):
    """An answer that is none of the choices, or missing."""


def find_target(told: Any, choices: Sequence[str], *, reading: str | None = None, column: bool = True) -> int:
    """The number of the right choice, as lm-evaluation-harness finds it. Raises BadTarget where there is none.

    told:    what doc_to_target makes of a row: a number is the choice's place, counted from 0; a text of a column is
             the choice that reads the same; digits that a template writes are a place. A list of one thing is that
             thing, and says by its type how it is meant: [1] a place, ['1'] a text.
    reading: "text" or "place" where all documents are to be read so; none: as told, or else the other way.
    column:  whether it is a column's value, not a template's text.
    """
    found, usual = _both_ways(told, choices, column=column)
    target = found[reading or usual]
    if target is None and reading is None:
        target = found["place" if usual == "text" else "text"]
    if target is None:
        if told is None or told in (-1, "", "-1") or told != told:
            raise BadTarget("it has no label")
        named = f"{', '.join(repr(choice[:30]) for choice in choices[:4])}{', …' * (len(choices) > 4)}"
        raise BadTarget(f"its label {_short(told)} is not one of the {len(choices)} choices ({named})")
    if choices.count(choices[target]) > 1:
        raise BadTarget(f"its right choice {choices[target][:100]!r} stands there twice")
    return target


def decide_reading(task: Task, rows: Any) -> Task:
    """The task with one reading of its answers for all documents: the first rows of `rows` tell which fits.

    Raises InputError, which names both readings, where both fit and lead to different choices. Answers 1 … 4 for the
    choices "1" … "4" are such a case if they are numbers, since a number is a place; of texts, as lm-evaluation-harness
    has it, the choice is right that reads the same.
    """
    if task.output_type != "multiple_choice" or _is_class_label(rows, task.doc_to_target):
        return replace(task, reading="place") if task.output_type == "multiple_choice" else task
    fits: Counter = Counter()
    kinds: Counter = Counter()
    differs = None
    for number in range(min(len(rows), SCANNED)):
        try:
            row = rows[number]
            told, choices = task.told(row, number)
            found, usual = _both_ways(told, choices, column=task.doc_to_target in row)
        except InputError:
            continue
        fits.update(way for way, target in found.items() if target is not None)
        kinds[usual] += any(target is not None for target in found.values())
        if None not in found.values() and found["text"] != found["place"]:
            differs = differs or (number, told, choices[found["text"]], choices[found["place"]])
    if not fits:
        return task
    [(usual, _)] = kinds.most_common(1)
    other = "place" if usual == "text" else "text"
    if fits[usual] and (fits[other] > fits[usual] or (usual == "place" and differs and fits[other] == fits[usual])):
        raise InputError(_two_readings(task, differs, fits))
    return replace(task, reading=usual if fits[usual] else other)


def _two_readings(task: Task, differs: tuple | None, fits: Counter) -> str:
    name = task.doc_to_target if isinstance(task.doc_to_target, str) else str(task.doc_to_target)
    name = name.strip("{} ") if re.fullmatch(r"\{\{[^{}]*\}\}|\w+", name) else "answer"
    example = ""
    if differs:
        number, told, text, place = differs
        example = f" (in document {number}, {_short(told)} is either {text!r} or {place!r})"
    return (
        f"task {task.task}: doc_to_target can be read in two ways{example}: the choice that reads the same (fits "
        f"{fits['text']} documents), or its place counted from 0 (fits {fits['place']}): write doc_to_target: "
        f'"[\'{{{{{name}}}}}\']" for the first, "[{{{{{name}}}}}]" for the second'
    )


def _both_ways(told: Any, choices: Sequence[str], *, column: bool) -> tuple[dict[str, int | None], str]:
    """{"text": the choice that reads the same, "place": the one at that place}, None for none, and the usual way."""
    if isinstance(told, str) and told not in choices and re.fullmatch(r"\[[^\[\]]*\]", told.strip()):
        with suppress(SyntaxError, ValueError):  # a text in brackets
            told = ast.literal_eval(told.strip())
    if isinstance(told, list):
        if len(told) != 1:
            raise BadTarget(f"{len(told)} right answers are not supported, give one, got {_short(told)}")
        found, _ = _both_ways(told[0], choices, column=True)
        way = "text" if isinstance(told[0], str) else "place"
        return {"text": None, "place": None} | {way: found[way]}, way
    texts = {told.strip()} if isinstance(told, str) else {str(told)}
    place = None
    if isinstance(told, bool):
        texts, place = set(WORDS[told]), int(told)
    elif isinstance(told, float) and told.is_integer():
        texts, place = {str(told), str(int(told))}, int(told)
    elif isinstance(told, int):
        place = told
    elif isinstance(told, str) and re.fullmatch("[0-9]+", told.strip()):
        place = int(told)
    plain = [choice.strip().lower() if isinstance(told, bool) else choice.strip() for choice in choices]
    text = next((number for number, choice in enumerate(plain) if choice in texts and told is not None), None)
    if isinstance(told, str) and told in choices:
        text = choices.index(told)
    by_text = isinstance(told, str) and (column or place is None)
    inside = place is not None and 0 <= place < len(choices)
    return {"text": text, "place": place if inside else None}, "text" if by_text else "place"


def _is_class_label(rows: Any, column: Any) -> bool:
    kind = getattr(rows, "features", {}).get(column) if isinstance(column, str) else None
    return getattr(kind, "names", None) is not None


def _short(told: Any) -> str:
    return repr(told)[:100]
