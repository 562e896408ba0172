"""Task files: lm-evaluation-harness's field names and meanings, strictly read, and the documents they make of data.

What is ours stands under one key, `replearn`. No code of a task file runs: templates are sandboxed, `!function` is
refused.
"""

from __future__ import annotations

import ast
import difflib
import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hf_replearn.errors import InputError

OUTPUT_TYPES = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes"),
    "loglikelihood": ("acc", "perplexity"),
    "generate_until": ("exact_match", "bleu", "chrf"),
}
NORMALIZATIONS = ("sum", "token", "character", "byte", "answer_context")
GENERATION = {"until": [], "do_sample": False, "temperature": 1.0, "max_gen_toks": 256}
METRIC_KEYS = ("metric", "aggregation", "higher_is_better", "ignore_case", "ignore_punctuation")
SUFFIXES = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


@dataclass(frozen=True)
class Extension:
    """What `replearn:` may hold.

    shots, seeds, orders: of the examples: how many, how many draws of them, how many orders of each draw.
    draw: "seed", one draw for all documents, whose prompt then begins alike; "document", GPT-3's new one for each.
    balanced: as many examples of each answer as there can be.
    normalization: of a choice's log-likelihood before the largest is taken: the plain sum, per token, per character,
        per UTF-8 byte, or less that of the choice behind `answer_context` (GPT-3, section 2.4).
    calibration: also score with contextual calibration (Zhao et al. 2021); for choices that are the same everywhere.
    local: where --data_root has a copy, a folder, or {path, where: {column: value}, rename: {column: name}, labels:
        {column: names of the Hub's classes in their order}}.
    """

    shots: list | None = None
    seeds: int | None = None
    orders: int = 1
    draw: str = "seed"
    balanced: bool = False
    normalization: str = "sum"
    answer_context: str = "Answer:"
    calibration: bool = False
    local: str | dict | None = None


@dataclass(frozen=True)
class Document:
    """One example, rendered. number: its row in its split. target: a choice's number, or the text that is right."""

    number: int
    text: str
    choices: tuple[str, ...] | None
    target: int | str

    @property
    def answer(self) -> str:
        """As it stands in a prompt."""
        return self.choices[self.target] if isinstance(self.target, int) else self.target


@dataclass(frozen=True)
class Task:
    """A task file. Fields are lm-evaluation-harness's, with its defaults; `folder` is where data paths start."""

    task: str
    dataset_path: str
    doc_to_text: str
    doc_to_target: str | int
    folder: str = "."
    tag: str | list | None = None
    task_alias: str | None = None
    dataset_name: str | None = None
    dataset_kwargs: dict | None = None
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    description: str = ""
    doc_to_choice: str | list | dict | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    num_fewshot: int | None = None
    output_type: str = "generate_until"
    generation_kwargs: dict = field(default_factory=dict)
    metric_list: list = field(default_factory=list)
    fewshot_config: dict = field(default_factory=dict)
    metadata: dict | None = None
    replearn: Extension = Extension()

    @property
    def evaluation_split(self) -> str:
        """The test split or, without one, the validation split."""
        return self.test_split or self.validation_split

    @property
    def shots_split(self) -> str:
        """Where examples come from: as the harness decides it."""
        named = self.fewshot_config.get("split") or self.fewshot_split
        return named or self.training_split or self.validation_split or self.test_split

    @property
    def metrics(self) -> list[str]:
        """The first is the one that tables show."""
        return [entry["metric"] for entry in self.metric_list] or [OUTPUT_TYPES[self.output_type][0]]

    @property
    def generation(self) -> dict[str, Any]:
        """Generation settings with the harness's defaults."""
        given = GENERATION | self.generation_kwargs
        until = given["until"] or [self.fewshot_delimiter]
        return given | {"until": [until] if isinstance(until, str) else list(until)}

    @cached_property
    def templates(self) -> dict[str, Any]:
        """Field -> compiled template."""
        names = ("description", "doc_to_text", "doc_to_target", "doc_to_choice")
        return {
            name: _ENVIRONMENT.from_string(getattr(self, name))
            for name in names
            if isinstance(getattr(self, name), str)
        }

    def settings(self) -> dict[str, Any]:
        """What decides the prompts and scores, as plain values."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in ("folder", "tag", "task_alias", "metadata")
        }

    def check_columns(self, columns: list[str]) -> None:
        """Raises InputError for a template that names a column that is not there."""
        for name in self.templates:
            source = getattr(self, name)
            wanted = {source} if source in columns else meta.find_undeclared_variables(_ENVIRONMENT.parse(source))
            for column in sorted(wanted - set(columns)):
                raise InputError(
                    f"task {self.task}: {name} names a column {column!r} that is not there; "
                    f"the columns are {', '.join(columns)}"
                )

    def document(self, row: Mapping[str, Any], number: int) -> Document:
        """Renders a row. Raises InputError, which names the document, where there is no question or right answer."""
        where = f"task {self.task}, document {number}"
        try:
            text = str(self._render("doc_to_text", row))
            choices = self._choices(row)
            target = self._render("doc_to_target", row)
        except (TemplateError, ValueError, SyntaxError, TypeError, KeyError) as error:
            raise InputError(f"{where}: {' '.join(str(error).split())}") from error
        if choices is None:
            if not isinstance(target, str) or not target:
                raise InputError(f"{where}: the answer must be a text, got {target!r}")
            return Document(number, text, None, target)
        if isinstance(target, str):
            target = int(target) if target.isdigit() else choices.index(target) if target in choices else -1
        for choice in choices:
            if not choice.strip():
                raise InputError(f"{where}: choice {choices.index(choice)} is empty")
        if not isinstance(target, int) or not 0 <= target < len(choices):
            raise InputError(
                f"{where}: its label {self._render('doc_to_target', row)!r} is not one of the {len(choices)} choices"
            )
        return Document(number, text, tuple(choices), target)

    def describe(self, row: Mapping[str, Any]) -> str:
        """The description in front of everything, which may be a template too."""
        return self._render("description", row) if self.description else ""

    def shot(self, document: Document) -> str:
        """An example in a prompt."""
        return document.text + self.target_delimiter + document.answer + self.fewshot_delimiter

    def _render(self, name: str, row: Mapping[str, Any]) -> Any:
        source = getattr(self, name)
        if not isinstance(source, str):
            return source
        return row[source] if source in row else self.templates[name].render(**row)

    def _choices(self, row: Mapping[str, Any]) -> list[str] | None:
        if self.doc_to_choice is None:
            return None
        choices = self._render("doc_to_choice", row)
        choices = ast.literal_eval(choices) if isinstance(choices, str) else choices
        return [str(choice) for choice in (choices.values() if isinstance(choices, dict) else choices)]


def find_task(name: str, shipped: Path) -> Path:
    """The file of `path/to/task.yaml` or, in the folder of shipped tasks, of `copa` and `tasks/copa.yaml`."""
    if Path(name).is_file():
        return Path(name)
    inside = shipped / f"{Path(name).stem}.yaml"
    if inside.is_file() and name in (inside.stem, inside.name, f"tasks/{inside.name}"):
        return inside
    names = sorted(path.stem for path in shipped.glob("*.yaml"))
    nearest = difflib.get_close_matches(Path(name).stem, names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"shipped are {', '.join(names)}"
    raise InputError(f"--tasks {name}: there is no such file and no such task: {hint}")


def load_task(path: str | Path) -> Task:
    """Reads and checks a task file. Raises InputError with the file, the key and what it should be."""
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_TaskLoader)  # noqa: S506 (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"task file {path}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"task file {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"task file {path} must hold `field: value` lines")
    extension = content.pop("replearn", None) or {}
    _check(path, "replearn: ", extension, Extension)
    _check(path, "", content, Task)
    for name in ("task", "dataset_path", "doc_to_text", "doc_to_target"):
        if name not in content:
            raise InputError(f"task file {path}: {name} is missing")
    task = Task(**content, folder=str(Path(path).resolve().parent), replearn=Extension(**extension))
    _check_meaning(path, task)
    return task


def load_splits(task: Task, data_root: str | None = None) -> tuple[Any, Any]:
    """(documents to ask about, documents to take examples from), as datasets.

    data_root: folder with local copies of Hub sets, at the task's `local` path or else at its dataset_path.
    """
    import datasets

    where = f"task {task.task}"
    local = {"path": None} | (local if isinstance(local := task.replearn.local, dict) else {"path": local})
    if data_root is not None and (local["path"] or task.dataset_path not in SUFFIXES.values()):
        folder = Path(data_root, local["path"] or Path(task.dataset_path, task.dataset_name or ""))
        files = {path.stem: str(path) for path in sorted(folder.glob("*")) if path.suffix in SUFFIXES}
        if not files:
            raise InputError(f"{where}: --data_root has no {folder} with files such as test.parquet")
        builder, arguments = SUFFIXES[Path(next(iter(files.values()))).suffix], {"data_files": files}
    else:
        inside = Path(task.folder, task.dataset_path)
        builder, local = str(inside) if inside.exists() else task.dataset_path, {}
        arguments = _relative_files({"name": task.dataset_name} | (task.dataset_kwargs or {}), task.folder)
    try:
        splits = datasets.load_dataset(builder, **arguments)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{where}: the data cannot be read: {' '.join(str(error).split())[:300]}") from error
    for split in (task.evaluation_split, task.shots_split):
        if split not in splits:
            raise InputError(f"{where}: the data has no split {split!r}, only {', '.join(splits)}")
    splits = {split: _as_on_the_hub(splits[split], local) for split in {task.evaluation_split, task.shots_split}}
    for rows in splits.values():
        task.check_columns(rows.column_names)
    return splits[task.evaluation_split], splits[task.shots_split]


def _as_on_the_hub(rows: Any, local: dict) -> Any:
    """A local copy with the rows, column names and class numbers that the task is written for."""
    import numpy as np

    for column, value in (local.get("where") or {}).items():
        rows = rows.select(np.flatnonzero(np.array(rows[column][:]) == value))
    rows = rows.rename_columns(local.get("rename") or {})
    for column, names in (local.get("labels") or {}).items():
        numbers = [names.index(rows.features[column].int2str(number)) for number in rows[column][:]]
        rows = rows.remove_columns(column).add_column(column, numbers)
    return rows


def _relative_files(arguments: dict, folder: str) -> dict:
    """Paths of data files start at the task file; addresses with :// stay."""

    def move(files: Any) -> Any:
        if isinstance(files, dict):
            return {split: move(file) for split, file in files.items()}
        if isinstance(files, list):
            return [move(file) for file in files]
        return files if "://" in files else str(Path(folder, files))

    moved = {key: move(arguments[key]) for key in ("data_files", "data_dir") if arguments.get(key)}
    return arguments | moved


def _check(path: str | Path, prefix: str, content: Any, kind: type) -> None:
    """Names and types of the keys."""
    if not isinstance(content, dict):
        raise InputError(f"task file {path}: {prefix or 'it '}must hold `field: value` lines")
    hints = typing.get_type_hints(kind)
    known = [spec.name for spec in fields(kind) if spec.name not in ("folder", "replearn")]
    for key, value in content.items():
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
            raise InputError(f"task file {path}: {prefix}unknown key {key!r}: {hint}")
        if not isinstance(value, hints[key]) or (isinstance(value, bool) and hints[key] is not bool):
            shown = getattr(hints[key], "__name__", hints[key])
            raise InputError(f"task file {path}: {prefix}{key} must be {shown}, got {value!r}")


def _check_meaning(path: str | Path, task: Task) -> None:
    """Values that have the right type and no meaning."""

    def one_of(name: str, value: Any, allowed: Any) -> None:
        if value not in allowed:
            raise InputError(f"task file {path}: {name} must be one of {', '.join(allowed)}, got {value!r}")

    one_of("output_type", task.output_type, OUTPUT_TYPES)
    one_of("replearn: normalization", task.replearn.normalization, NORMALIZATIONS)
    one_of("replearn: draw", task.replearn.draw, ("seed", "document"))
    one_of("fewshot_config: sampler", task.fewshot_config.get("sampler", "default"), ("default", "first_n"))
    for name, given, allowed in (
        ("fewshot_config", task.fewshot_config, ("sampler", "split")),
        ("generation_kwargs", task.generation_kwargs, GENERATION),
        ("replearn: local", task.replearn.local, ("path", "where", "rename", "labels")),
        *(("metric_list", entry, METRIC_KEYS) for entry in task.metric_list),
    ):
        for key in given if isinstance(given, dict) else ():
            one_of(f"a key of {name}", key, allowed)
    for metric in task.metrics:
        one_of(f"a metric of {task.output_type}", metric, OUTPUT_TYPES[task.output_type])
    if (task.output_type == "multiple_choice") != (task.doc_to_choice is not None):
        raise InputError(f"task file {path}: doc_to_choice belongs to output_type multiple_choice, and only there")
    if task.replearn.calibration and not isinstance(task.doc_to_choice, list):
        raise InputError(f"task file {path}: replearn: calibration needs doc_to_choice to be a list of labels")
    if task.evaluation_split is None:
        raise InputError(f"task file {path}: it names no test_split and no validation_split")
    try:
        _ = task.templates
    except TemplateError as error:
        raise InputError(f"task file {path}: not a template: {error}") from error


class _TaskLoader(yaml.SafeLoader):
    """Safe YAML that refuses code and a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} is given twice")
        return super().construct_mapping(node, deep)


def _refuse_function(loader, node):
    raise yaml.YAMLError(
        f"!function {node.value} would run code that comes with the task, which is refused: use a template"
    )


_TaskLoader.add_constructor("!function", _refuse_function)
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_ENVIRONMENT.filters["regex_replace"] = lambda text, pattern, new, count=0: re.sub(pattern, new, text, count=count)
