"""Task files: lm-evaluation-harness's field names and meanings, strictly read, and the documents they make of data.

What is ours stands under one key, `replearn`. No code of a task file runs: templates are sandboxed, `!function` is
refused.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting import templates
from hf_replearn.evaluation.prompting.targets import BadTarget, find_target

OUTPUT_TYPES = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes"),
    "loglikelihood": ("acc", "perplexity"),
    "generate_until": ("exact_match", "bleu", "chrf"),
}
NORMALIZATIONS = {
    "sum": "acc", "token": "acc_token", "character": "acc_norm", "byte": "acc_bytes",
    "answer_context": "acc_answer_context",
}  # fmt: skip
GENERATION = {"until": [], "do_sample": False, "temperature": 1.0, "max_gen_toks": 256}
METRIC_KEYS = ("metric", "aggregation", "higher_is_better", "ignore_case", "ignore_punctuation")
PLAIN_NAME = re.compile(r"\w[\w.-]{0,99}")
LARGEST_FILE, LARGEST_CONTENT = 2**20, 100_000  # bytes of a task file; values in it, with aliases written out


class BadDocument(InputError):
    """A document that cannot be asked, where others may be."""


@dataclass(frozen=True)
class Extension:
    """What `replearn:` may hold.

    shots, seeds, orders: of the examples: how many, how many draws of them, how many orders of each draw.
    draw: "seed", one draw for all documents, whose prompt then begins alike; "document", GPT-3's new one for each.
    balanced: as many examples of each answer as there can be.
    normalization: of a choice's log-likelihood before the largest is taken: the plain sum (acc), per token (acc_token),
        per character (acc_norm), per UTF-8 byte (acc_bytes), or less that of the choice behind `answer_context` (GPT-3,
        section 2.4; acc_answer_context). That accuracy stands first, beside those of metric_list.
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
    """A task file. Fields are lm-evaluation-harness's, with its defaults; `folder` is where data paths start.

    reading: how a right answer names its choice, "text" or "place", as `decide_reading` found it out.
    """

    task: str
    dataset_path: str
    doc_to_text: str
    doc_to_target: str | int
    folder: str = "."
    reading: str | None = None
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
        """The first is the one that answers are taken by: that of the normalisation, if the file names one."""
        named = [entry["metric"] for entry in self.metric_list] or [OUTPUT_TYPES[self.output_type][0]]
        ours = NORMALIZATIONS[self.replearn.normalization]
        return list(dict.fromkeys(([ours] if ours != "acc" else []) + named))

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
            name: templates.compile_template(getattr(self, name))
            for name in names
            if isinstance(getattr(self, name), str)
        }

    def settings(self) -> dict[str, Any]:
        """What decides the prompts and scores, as plain values."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in ("folder", "reading", "tag", "task_alias", "metadata")
        }

    def columns(self, there: list[str]) -> dict[str, set[str]]:
        """Field -> the columns that it reads, of those that are there or not."""
        sources = {name: getattr(self, name) for name in self.templates}
        return {name: {source} if source in there else templates.columns_of(source) for name, source in sources.items()}

    def check_columns(self, columns: list[str]) -> None:
        """Raises InputError for a template that names a column that is not there."""
        for name, wanted in self.columns(columns).items():
            for column in sorted(wanted - set(columns)):
                raise InputError(
                    f"task {self.task}: {name} names a column {column!r} that is not there; "
                    f"the columns are {', '.join(columns)}"
                )

    def document(self, row: Mapping[str, Any], number: int) -> Document:
        """Renders a row. Raises BadDocument, which names it, where there is no question or right answer."""
        text, choices, target = self._rendered(row, number, "doc_to_text", "doc_to_choice", "doc_to_target")
        where = f"task {self.task}, document {number}"
        if text is None or text != text:  # null, or NaN
            raise BadDocument(f"{where}: its question, column {self.doc_to_text!r}, is missing")
        try:
            if choices is None:
                return Document(number, str(text), None, _answer(target))
            for place, choice in enumerate(choices):
                if not choice.strip():
                    raise BadTarget(f"choice {place} is empty")
            target = find_target(target, choices, reading=self.reading, column=self.doc_to_target in row)
        except BadTarget as error:
            raise BadDocument(f"{where}: {error}") from error
        return Document(number, str(text), tuple(choices), target)

    def told(self, row: Mapping[str, Any], number: int) -> tuple[Any, list[str]]:
        """The right answer as the data has it, and the choices. Raises BadDocument."""
        return self._rendered(row, number, "doc_to_target", "doc_to_choice")

    def describe(self, row: Mapping[str, Any], number: int) -> str:
        """The description in front of everything, which may be a template too."""
        return self._rendered(row, number, "description")[0] if self.description else ""

    def shot(self, document: Document) -> str:
        """An example in a prompt."""
        return document.text + self.target_delimiter + document.answer + self.fewshot_delimiter

    def _rendered(self, row: Mapping[str, Any], number: int, *names: str) -> list[Any]:
        """The fields for a row; choices as texts."""
        made = []
        with templates.bounded():
            for name in names:
                try:
                    made.append(self._choices(row) if name == "doc_to_choice" else self._render(name, row))
                except templates.FAILURES as error:
                    reason = f"task {self.task}, document {number}: {name} {templates.reason_of(error)}"
                    kind = InputError if isinstance(error, templates.FATAL) else BadDocument
                    raise kind(reason) from error
        return made

    def _render(self, name: str, row: Mapping[str, Any]) -> Any:
        source = getattr(self, name)
        if not isinstance(source, str):
            return source
        return row[source] if source in row else templates.render(self.templates[name], row)

    def _choices(self, row: Mapping[str, Any]) -> list[str] | None:
        if self.doc_to_choice is None:
            return None
        choices = self._render("doc_to_choice", row)
        choices = ast.literal_eval(choices) if isinstance(choices, str) else choices
        choices = list(choices.values()) if isinstance(choices, dict) else choices
        if not isinstance(choices, list | tuple) or len(choices) < 2 or None in choices:
            raise ValueError(f"must make a list of at least two choices, got {str(choices)[:100]}")
        return [str(choice) for choice in choices]


def _answer(target: Any) -> str:
    """The text that is right. A whole number is written as it is."""
    text = str(target) if isinstance(target, int) and not isinstance(target, bool) else target
    if not isinstance(text, str) or not text.strip():
        raise BadTarget(f"the answer must be a text, got {str(target)[:100]!r}")
    if re.fullmatch(r"\[.*,.*\]", text, flags=re.DOTALL):
        raise BadTarget(f"are these several right answers or one? {text[:100]!r}: give one, as a text")
    return text


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
        if Path(path).stat().st_size > LARGEST_FILE:
            raise InputError(f"task file {path}: is larger than {LARGEST_FILE:,} bytes: give its data as data_files")
        text = Path(path).read_text(encoding="utf-8-sig")
        _check_size(yaml.compose(text, Loader=_TaskLoader))
        content = yaml.load(text, Loader=_TaskLoader)  # noqa: S506 (a SafeLoader)
    except UnicodeDecodeError as error:
        raise InputError(f"task file {path}: is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"task file {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"task file {path}: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise InputError(f"task file {path}: lists stand in one another too deeply") from error
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


def _check(path: str | Path, prefix: str, content: Any, kind: type) -> None:
    """Names and types of the keys."""
    if not isinstance(content, dict):
        raise InputError(f"task file {path}: {prefix or 'it '}must hold `field: value` lines")
    hints = typing.get_type_hints(kind)
    known = [spec.name for spec in fields(kind) if spec.name not in ("folder", "reading", "replearn")]
    for key, value in content.items():
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}"
            raise InputError(f"task file {path}: {prefix}unknown key {key!r}: {hint}")
        if not isinstance(value, hints[key]) or (isinstance(value, bool) and hints[key] is not bool):
            shown = getattr(hints[key], "__name__", hints[key])
            raise InputError(f"task file {path}: {prefix}{key} must be {shown}, got {repr(value)[:100]}")


def _check_meaning(path: str | Path, task: Task) -> None:
    """Values that have the right type and no meaning."""

    def one_of(name: str, value: Any, allowed: Any) -> None:
        if value not in allowed:
            raise InputError(f"task file {path}: {name} must be one of {', '.join(allowed)}, got {repr(value)[:100]}")

    names = [task.task] + (task.tag if isinstance(task.tag, list) else [task.tag] * bool(task.tag))
    for field_name, name in zip(["task"] + ["tag"] * len(names), names, strict=False):
        if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
            raise InputError(
                f"task file {path}: {field_name} must be a plain name of letters, digits, '-', '_' and '.', "
                f"got {str(name)[:100]!r}"
            )
    one_of("output_type", task.output_type, OUTPUT_TYPES)
    _check_numbers(path, task)
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
    for metric in (entry["metric"] for entry in task.metric_list):
        one_of(f"a metric of {task.output_type}", metric, OUTPUT_TYPES[task.output_type])
    if (task.output_type == "multiple_choice") != (task.doc_to_choice is not None):
        raise InputError(f"task file {path}: doc_to_choice belongs to output_type multiple_choice, and only there")
    if task.replearn.calibration and not isinstance(task.doc_to_choice, list):
        raise InputError(f"task file {path}: replearn: calibration needs doc_to_choice to be a list of labels")
    if task.evaluation_split is None:
        raise InputError(f"task file {path}: it names no test_split and no validation_split")
    try:
        _ = task.templates
    except templates.FAILURES as error:
        raise InputError(f"task file {path}: not a template: {templates.reason_of(error)}") from error


def _check_numbers(path: str | Path, task: Task) -> None:
    """Values inside lists and mappings."""

    def whole(value: Any, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= 10**6

    ours, made = task.replearn, task.generation_kwargs
    until = made.get("until", [])
    wrong = {
        "metric_list": any(not isinstance(e, dict) or not isinstance(e.get("metric"), str) for e in task.metric_list),
        "num_fewshot": task.num_fewshot is not None and not whole(task.num_fewshot, 0),
        "replearn: shots": ours.shots is not None and (not ours.shots or any(not whole(k, 0) for k in ours.shots)),
        "replearn: seeds": ours.seeds is not None and not whole(ours.seeds, 1),
        "replearn: orders": not whole(ours.orders, 1),
        "generation_kwargs: max_gen_toks": not whole(made.get("max_gen_toks", 1), 1),
        "generation_kwargs: do_sample": not isinstance(made.get("do_sample", False), bool),
        "generation_kwargs: until": not isinstance(until, str | list) or any(
            not isinstance(text, str) or not text for text in ([until] if isinstance(until, str) else until)
        ),
        "generation_kwargs: temperature": not 0 < _number(made.get("temperature", 1.0)) < math.inf,
    }  # fmt: skip
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise InputError(
                f"task file {path}: {name} has a value that it cannot have: see recipes/tasks for examples"
            )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


class _TaskLoader(yaml.SafeLoader):
    """Safe YAML that refuses code and a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, str | int | float | bool):
                raise yaml.YAMLError(f"a list or mapping is no key, got {str(key)[:100]}")
        if len(set(keys)) < len(keys):
            raise yaml.YAMLError(f"{next(key for key in keys if keys.count(key) > 1)!r} is given twice")
        return super().construct_mapping(node, deep)


def _refuse_function(loader, node):
    raise yaml.YAMLError(
        f"!function {node.value} would run code that comes with the task, which is refused: use a template"
    )


_TaskLoader.add_constructor("!function", _refuse_function)


def _check_size(node: yaml.Node | None) -> None:
    """An alias costs nothing to read and, nested in others, the world to print."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 1  # what holds itself ends here
            parts = node.value if isinstance(node, yaml.CollectionNode) else ()
            pairs = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
            sizes[id(node)] += sum(map(size, pairs))
        return sizes[id(node)]

    if node is not None and size(node) > LARGEST_CONTENT:
        raise ValueError(f"its aliases stand for more than {LARGEST_CONTENT:,} values")
