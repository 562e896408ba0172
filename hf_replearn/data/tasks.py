"""Several labelled tasks at once, each under a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hf_replearn.data.labelled import LabelledData, load_labelled
from hf_replearn.data.labels import LabelType
from hf_replearn.data.toy_tasks import TOYS
from hf_replearn.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Asked(NamedTuple):
    """A task as `--tasks` names it: NAME=DATASET or NAME=DATASET#LABEL_COLUMN."""

    name: str
    dataset: str
    column: str | None


def read_tasks(told: Sequence[str]) -> list[Asked]:
    """What `--tasks` asks for. Raises InputError for what is not of that form, and for one task alone."""
    told = [part for text in told for part in TOYS.get(text, (text,))]
    found = []
    for text in told:
        name, equals, rest = text.partition("=")
        dataset, _, column = rest.partition("#")
        if not equals or not dataset or not NAME.fullmatch(name):
            raise InputError(
                f"--tasks {text!r:.80}: give NAME=DATASET, such as rte=path/to/rte, or NAME=DATASET#LABEL_COLUMN; or "
                f"{' or '.join(TOYS)}"
            )
        found.append(Asked(name, dataset, column or None))
    again = [asked.name for place, asked in enumerate(found) if asked.name in [one.name for one in found[:place]]]
    if again:
        raise InputError(f"--tasks has two tasks called {again[0]!r}: give each a name of its own")
    if len(found) < 2:
        raise InputError(f"--tasks {' '.join(told)} is one task: give two at least, or use `hf-replearn finetune`")
    return found


def load_tasks(
    asked: Sequence[Asked], *, tested: dict[str, Sequence[str]], types: dict[str, LabelType], **about
) -> dict[str, LabelledData]:
    """The data of each task. tested: task -> the splits that may be tested on, where they are not the usual ones.

    types: task -> what its labels are, where their type does not say it. about: as of `load_labelled`.
    Raises InputError, which names the task, for whatever the user has to mend, and where
    some tasks are of images and others of texts.
    """
    found = {}
    for name, kind in types.items():
        if name not in [task.name for task in asked] or kind not in ("classes", "numbers"):
            raise InputError(f"--label_types {name!r:.80}: {kind!r:.80}: give a task and 'classes' or 'numbers'")
    for task in asked:
        splits = {"evaluate_on": tested[task.name]} if task.name in tested else {}
        try:
            kind = types.get(task.name)
            found[task.name] = load_labelled(task.dataset, label_column=task.column, label_type=kind, **splits, **about)
        except InputError as error:
            raise InputError(f"the task {task.name}: {_of_several(str(error), task.name)}") from error
    kinds = {name: "images" if data.inputs == ["image"] else "texts" for name, data in found.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{name} of {kind}" for name, kind in kinds.items())
        raise InputError(f"one trunk reads images or texts, and --tasks has both: {told}")
    return found


def _of_several(message: str, task: str) -> str:
    """What is said of the settings of one task, as it is of several."""
    message = re.sub(r"--label_type (\w+)", lambda found: f"--label_types \"{{'{task}': '{found[1]}'}}\"", message)
    return message.replace("--label_column", f"--tasks {task}=DATASET#COLUMN")
