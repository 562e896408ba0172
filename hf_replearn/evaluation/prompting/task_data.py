"""The data of a task: its splits, from the Hub, from files beside the task, or from local copies of Hub sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting.tasks import Task

BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".arrow": "arrow"}
WORDS = {
    "keep_default_na": False,
    "na_values": [""],
}  # of csv: "NA" and "None" are words

READ_WITH = {"name", "data_files", "data_dir", "revision", "delimiter", "sep", "field", "encoding"}


def load_splits(task: Task, data_root: str | None = None) -> tuple[Any, Any]:
    """(documents to ask about, documents to take examples from), as datasets.

    data_root: folder with local copies of Hub sets, at the task's `local` path or else at its dataset_path.
    Raises InputError where data, a split or a column is missing, or a split is empty.
    """
    local = {"path": None} | (local if isinstance(local := task.replearn.local, dict) else {"path": local})
    if data_root is not None and (local["path"] or task.dataset_path not in BUILDERS.values()):
        splits = _read_copies(task, Path(data_root, local["path"] or Path(task.dataset_path, task.dataset_name or "")))
    else:
        splits, local = _read(task, *_source(task)), {}
    wanted = {task.evaluation_split, task.shots_split}
    for split in sorted(wanted):
        if split not in splits:
            raise InputError(f"task {task.task}: the data has no split {split!r}, only {', '.join(splits)}")
        if not len(splits[split]):
            raise InputError(f"task {task.task}: the split {split!r} is empty")
    splits = {split: _as_on_the_hub(task, splits[split], local) for split in wanted}
    for rows in splits.values():
        task.check_columns(rows.column_names)
    return splits[task.evaluation_split], splits[task.shots_split]


def _source(task: Task) -> tuple[str, dict]:
    """The builder and arguments of datasets.load_dataset."""
    inside = Path(task.folder, task.dataset_path)
    beside = inside.exists() and task.dataset_path not in BUILDERS.values()
    arguments = {"name": task.dataset_name} | (task.dataset_kwargs or {})
    if wrong := set(arguments) - READ_WITH:
        raise InputError(f"task {task.task}: dataset_kwargs: {min(map(str, wrong))} is not supported")
    if task.dataset_path == "csv":
        arguments = WORDS | arguments
    moved = {key: _move(task, key, arguments[key]) for key in ("data_files", "data_dir") if arguments.get(key)}
    return str(inside) if beside else task.dataset_path, arguments | moved


def _move(task: Task, key: str, files: Any) -> Any:
    """Paths of data files start at the task file; addresses with :// stay."""
    if isinstance(files, dict):
        return {str(split): _move(task, key, file) for split, file in files.items()}
    if isinstance(files, list):
        return [_move(task, key, file) for file in files]
    if not isinstance(files, str):
        raise InputError(f"task {task.task}: dataset_kwargs: {key} must be paths, got {str(files)[:100]!r}")
    return files if "://" in files else str(Path(task.folder, files))


def _read(task: Task, builder: str, arguments: dict) -> dict[str, Any]:
    """All splits. Whatever the reader raises is the fault of the data, or of the task file."""
    try:
        return datasets.load_dataset(builder, **arguments)
    except Exception as error:
        causes = [error, error.__cause__ or error.__context__]
        said = ", ".join(
            dict.fromkeys(" ".join(str(each or "").split()) or type(each).__name__ for each in causes if each)
        )
        files = f" ({str(arguments['data_files'])[:200]})" if "data_files" in arguments else ""
        raise InputError(f"task {task.task}: the data cannot be read{files}: {said[:300]}") from error


def _read_copies(task: Task, folder: Path) -> dict[str, Any]:
    """A file for each split that the task needs, each read by its own suffix."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix in BUILDERS and path.name[0] not in "._":
            found.setdefault(path.stem, []).append(path)
    if not found:
        raise InputError(f"task {task.task}: --data_root has no {folder} with files such as test.parquet")
    splits = {}
    for split in found.keys() & {task.evaluation_split, task.shots_split}:
        [first, *more] = found[split]
        if more:
            raise InputError(f"task {task.task}: is {first} or {more[0]} the split {split!r}? Move one of them away")
        options = WORDS | {"sep": "\t" if first.suffix == ".tsv" else ","} if BUILDERS[first.suffix] == "csv" else {}
        splits |= _read(task, BUILDERS[first.suffix], {"data_files": {split: str(first)}, **options})
    return splits or dict.fromkeys(found)


def _as_on_the_hub(task: Task, rows: Any, local: dict) -> Any:
    """A local copy with the rows, column names and class numbers that the task is written for."""
    named = [*(local.get("where") or {}), *(local.get("rename") or {})]
    if missing := [column for column in named if column not in rows.column_names]:
        raise InputError(
            f"task {task.task}: replearn: local names a column {missing[0]!r} that is not there; "
            f"the columns are {', '.join(rows.column_names)}"
        )
    for column, value in (local.get("where") or {}).items():
        rows = rows.select(np.flatnonzero(np.array(rows[column][:]) == value))
    rows = rows.rename_columns(local.get("rename") or {})
    for column, names in (local.get("labels") or {}).items():
        numbers = [names.index(rows.features[column].int2str(number)) for number in rows[column][:]]
        rows = rows.remove_columns(column).add_column(column, numbers)
    return rows
