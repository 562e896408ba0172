"""Settings of a run: default in the dataclass < YAML file (`--config`) < command line, all strictly checked.

Imports nothing heavy, so that `--help` of every command is instant.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import math
import sys
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

import yaml

from hf_replearn.errors import InputError, one_line_endings

S = TypeVar("S")


def setting(
    default: Any,
    help: str,
    *,
    section: str,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    positional: bool = False,
) -> Any:
    """A dataclass field with its help text and bounds; a default of `...` makes it required.

    positional: given on the command line by its place, without a flag.
    """
    metadata = {"help": help, "section": section, "bounds": (at_least, at_most), "positional": positional}
    return field(default=MISSING if default is ... else default, metadata=metadata)


def run(main: Callable[[S], None], settings_class: type[S], argv: list[str] | None = None, *, prog: str = "") -> None:
    """The frame of every command: parse, run, and end with one line and the exit code of what went wrong."""
    with one_line_endings([spec.name for spec in fields(settings_class)]):
        main(parse(settings_class, sys.argv[1:] if argv is None else argv, prog=prog, description=main.__doc__))


def parse(settings_class: type[S], argv: list[str], *, prog: str = "", description: str | None = None) -> S:
    """Settings from the command line. Raises InputError; `--help` and `--print_config` print and exit with 0."""
    parser = _parser(settings_class, prog, description)
    given, unknown = parser.parse_known_args([_underscored(argument) for argument in argv])
    if unknown:
        raise InputError(_unknown(unknown[0], settings_class, prefix="--"))
    given = vars(given)
    config, print_config = given.pop("config", None), given.pop("print_config", False)
    values = read_yaml(config, settings_class) if config else {}
    types = typing.get_type_hints(settings_class)
    values |= {name: convert(text, types[name], f"--{name}") for name, text in given.items()}
    for spec in fields(settings_class):
        if spec.default is MISSING and spec.name not in values:
            raise InputError(f"--{spec.name} is required: {spec.metadata['help']}")
        low, high = spec.metadata["bounds"]
        for number in _numbers(values.get(spec.name)):
            if not low <= number <= high:
                raise InputError(f"--{spec.name} must be {_bounds(low, high)}, got {number:g}")
    settings = settings_class(**values)
    if print_config:
        print(to_yaml(settings), end="")
        sys.exit(0)
    return settings


def read_yaml(path: str, settings_class: type) -> dict[str, Any]:
    """The settings in a YAML file, each converted to its field's type (so that `1e-3` is a float)."""
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.load(file, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"--config {path} must hold `setting: value` lines")
    types = typing.get_type_hints(settings_class)
    for key in content:
        if key not in types:
            raise InputError(f"{path}: {_unknown(str(key), settings_class)}")
    return {key: convert(value, types[key], f"{path}: {key}") for key, value in content.items()}


def to_yaml(settings: Any) -> str:
    """Every resolved setting, in the order of the dataclass."""
    return yaml.safe_dump(as_dict(settings), sort_keys=False, allow_unicode=True)


def as_dict(settings: Any) -> dict[str, Any]:
    """The settings as plain JSON and YAML values."""
    values = {spec.name: getattr(settings, spec.name) for spec in fields(settings)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def changed(settings: Any) -> list[str]:
    """The names of the settings that differ from their defaults."""
    return [spec.name for spec in fields(settings) if getattr(settings, spec.name) != spec.default]


def command_line(settings: Any) -> list[str]:
    """The flags that give these settings, whichever files and flags they came from."""
    values = {name: getattr(settings, name) for name in changed(settings)}
    places = [spec.name for spec in fields(settings) if spec.metadata["positional"]]
    words = {name: list(value) if _is_texts(value) else [_shown(value)] for name, value in values.items()}
    flags = [word for name in words if name not in places for word in (f"--{name}", *words[name])]
    return [word for name in places for word in words.get(name, [])] + flags


def convert(value: Any, kind: Any, name: str) -> Any:
    """`value`, a string of the command line or a YAML value, as `kind`; InputError names what it should have been."""
    if typing.get_origin(kind) in (UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not NoneType]
        return None if value is None or value in ("none", "null") else convert(value, options[0], name)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise InputError(f"{name} must be one of {', '.join(typing.get_args(kind))}, got {value!r}")
        return value
    try:
        if typing.get_origin(kind) is tuple:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(_CONVERTERS[typing.get_args(kind)[0]](item) for item in items)
        return _CONVERTERS[typing.get_origin(kind) or kind](value)
    except (ValueError, SyntaxError, TypeError, KeyError):
        raise InputError(f"{name} must be {_name(kind)}, got {value!r}") from None


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _numbers(value: Any) -> tuple:
    if _is_texts(value):
        return ()
    return value if isinstance(value, tuple) else (value,) if isinstance(value, int | float) else ()


def _bounds(low: float, high: float) -> str:
    return f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(float(value)):
        raise ValueError(value)
    return int(float(value))


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def _to_bool(value: Any) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]


def _to_str(value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(value)
    return str(value)


def _to_dict(value: Any) -> dict:
    value = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError(value)
    return value


_CONVERTERS = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str, dict: _to_dict}


def _name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    names |= {dict: "a mapping such as {'img_size': 64}"}
    names |= {tuple[int, ...]: "whole numbers with commas between, such as 1,2,4"}
    names |= {tuple[float, ...]: "numbers with commas between, such as 0.01,0.1,1", tuple[str, ...]: "texts"}
    return names[kind]


def _unknown(name: str, settings_class: type, prefix: str = "") -> str:
    bare = name.lstrip("-").partition("=")[0]
    known = [spec.name for spec in fields(settings_class)] + ["config", "print_config"]
    nearest = difflib.get_close_matches(bare, known, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{nearest[0]}?" if nearest else "see --help"
    return f"unknown setting {prefix}{bare}: {hint}"


def _underscored(argument: str) -> str:
    """`--batch-size=8` and `--batch_size=8` are the same flag."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise InputError(message)


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} is given twice")
        return super().construct_mapping(node, deep)


def _parser(settings_class: type, prog: str, description: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=prog or None,
        usage="%(prog)s [--config FILE] [--setting value ...]",
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=120),
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; the command line overrides it")
    parser.add_argument("--print_config", action="store_true", help="print the resolved settings and exit")
    types, groups = typing.get_type_hints(settings_class), {}
    for spec in fields(settings_class):
        section = spec.metadata["section"]
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        kind = types[spec.name]
        default = "required" if spec.default is MISSING else f"default: {_shown(spec.default)}"
        arguments = {"nargs": "?", "const": "true"} if bool in (kind, *typing.get_args(kind)) else {}
        if kind == tuple[str, ...]:  # --model A --model B, or --model A B
            arguments = {"nargs": "*" if spec.metadata["positional"] else "+", "action": "extend"}
        groups[section].add_argument(
            spec.name if spec.metadata["positional"] else f"--{spec.name}",
            metavar=_metavar(kind),
            help=f"{spec.metadata['help']} ({default})".replace("%", "%%"),
            **arguments,
        )
    return parser


def _shown(value: Any) -> str:
    return (
        ",".join(map(str, value))
        if isinstance(value, tuple)
        else str(value).lower()
        if value in (None, True, False)
        else str(value)
    )


def _metavar(kind: Any) -> str:
    options = [option for option in typing.get_args(kind) if option not in (NoneType, Ellipsis)]
    if typing.get_origin(kind) is Literal:
        return "|".join(options)
    if typing.get_origin(kind) in (UnionType, typing.Union):
        return _metavar(options[0])
    return {
        int: "N", float: "X", bool: "BOOL", str: "TEXT", tuple[int, ...]: "N,N", tuple[float, ...]: "X,X", dict: "DICT",
        tuple[str, ...]: "TEXT",
    }[kind]  # fmt: skip


@dataclass(kw_only=True)
class RunSettings:
    """What every command has that computes something."""

    output_dir: str = setting(..., "folder for all that the run writes", section="run")
    seed: int = setting(
        42, "of the weights, the order of the data and random draws", section="run", at_least=0, at_most=2**32 - 1
    )
    use_cpu: bool = setting(False, "stay on the CPU even where there is a GPU", section="run")


@dataclass(kw_only=True)
class SharedRunSettings(RunSettings):
    """What a run has whose result is a network that can be shared."""

    push_to_hub: bool = setting(False, "upload the result to the Hugging Face Hub at the end", section="run")
    hub_model_id: str | None = setting(None, "repository to push to; none: your name and the folder's", section="run")
    hub_private_repo: bool = setting(False, "make the repository private", section="run")
