"""JSON files of runs -> checked values: what is broken, or of another type than it should be, is one line."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import typing
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.sharing.readme import listed


def read_json(path: str | Path) -> Any:
    """What a JSON file holds. Raises InputError that names the file and the place."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: byte {error.start} is no UTF-8") from error
    except json.JSONDecodeError as error:
        what = "is empty" if not error.doc.strip() else f"is damaged: no JSON at line {error.lineno}: {error.msg}"
        raise InputError(f"{path} {what}") from error
    except (RecursionError, ValueError) as error:  # nested thousands deep; a number of thousands of digits
        raise InputError(f"{path} is damaged: {str(error)[:100]}") from error


def checked(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, a dataclass, a TypedDict or a type of their fields. Raises InputError that names the place.

    where: the file, and the place in it. A number that is null was NaN. Unknown fields are left out, with a word.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _fields(kind, value, where)
    if origin in (UnionType, typing.Union):
        options = [option for option in arguments if option is not NoneType]
        return None if value is None else checked(options[0], value, where)
    if origin is dict and isinstance(value, dict):
        return {key: checked(arguments[1], item, f"{where}, {key:.40}") for key, item in value.items()}
    if origin is list and isinstance(value, list):
        return [checked(arguments[0], item, f"{where}, {place}") for place, item in enumerate(value)]
    if kind is float and value is None:
        return math.nan
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return value
    if kind is int and number and value == value // 1:
        return int(value)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise InputError(f"{where}: {NAMES.get(origin or kind, kind)} was expected, and there is {json.dumps(value)[:60]}")


NAMES = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def _fields(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where}: an object was expected, and there is {json.dumps(value)[:60]}")
    types = typing.get_type_hints(kind)
    if dataclasses.is_dataclass(kind):
        plain = {spec.name for spec in dataclasses.fields(kind)}
        absent = dataclasses.MISSING
        required = {s.name for s in dataclasses.fields(kind) if s.default is absent and s.default_factory is absent}
    else:
        plain, required = set(types), set(kind.__required_keys__)
    if missing := sorted(required - value.keys()):
        raise InputError(f"{where}: {missing[0]} is missing")
    if unknown := sorted(value.keys() - plain):
        print(f"warning: {where}: unknown, and left out: {listed(unknown)} (of a newer version?)", file=sys.stderr)
    found = {key: checked(types[key], item, f"{where}, {key}") for key, item in value.items() if key in plain}
    try:
        return kind(**found)
    except ValueError as error:  # as of a score without a protocol
        raise InputError(f"{where}: {error}") from error
