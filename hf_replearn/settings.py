"""Settings of a run: default in the dataclass < YAML file (`--config`) < command line, all strictly checked.

Imports nothing heavy, so that `--help` of every command is instant.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import math
import os
import re
import reprlib
import sys
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar

import yaml

from hf_replearn.errors import InputError, one_line_endings
from hf_replearn.strict_yaml import as_data, as_text, read_mapping

S = TypeVar("S")


LARGEST = 1e9  # of a number for which nothing smaller is said
MOST_WORKERS = max(32, 4 * (os.cpu_count() or 1))  # processes that load examples, for one that computes
ENVIRONMENT = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "SLURM_STEP_NUM_TASKS")


def setting(
    default: Any,
    help: str,
    *,
    section: str,
    at_least: float = -LARGEST,
    above: float = -math.inf,
    at_most: float = LARGEST,
    positional: bool = False,
) -> Any:
    """A dataclass field with its help text and bounds; a default of `...` makes it required.

    at_least, at_most, above: bounds of a number, or of each of several; `above` excludes itself. The default is always
        allowed, so that -1 may say "off". A number is finite.
    positional: given on the command line by its place, without a flag.
    """
    bounds = Bounds(at_least, above, at_most)
    metadata = {"help": help, "section": section, "bounds": bounds, "positional": positional}
    return field(default=MISSING if default is ... else default, metadata=metadata)


@dataclass(frozen=True)
class Bounds:
    """What a number may be."""

    at_least: float
    above: float
    at_most: float

    def __contains__(self, number: float) -> bool:
        return self.at_least <= number <= self.at_most and number > self.above  # NaN is in no bounds

    def told(self, number: float) -> str:
        """What it must be, to somebody who gave `number`."""
        if not math.isfinite(number):
            return "a finite number"
        strict = self.above >= self.at_least
        low = f"above {_number(self.above)}" if strict else f"at least {_number(self.at_least)}"
        if self.at_most == LARGEST:
            return low if number < LARGEST else f"at most {_number(LARGEST)}"
        return (
            f"{low} and at most {_number(self.at_most)}"
            if strict
            else (f"between {_number(self.at_least)} and {_number(self.at_most)}")
        )


def run(main: Callable[[S], None], settings_class: type[S], argv: list[str] | None = None, *, prog: str = "") -> None:
    """The frame of every command: parse, run, and end with one line and the exit code of what went wrong."""
    warnings.formatwarning = _one_line_warning
    with one_line_endings([spec.name for spec in fields(settings_class)]):
        told = parse(
            settings_class,
            sys.argv[1:] if argv is None else argv,
            prog=prog,
            description=main.__doc__,
            examples=_examples(main),
        )
        check_environment()
        main(told)


def _one_line_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, line=None) -> str:
    """What a user is told, without the line of the program that tells it."""
    place = "" if category is UserWarning else f" ({category.__name__}, {filename}:{lineno})"
    return f"warning: {message}{place}\n"


def parse(
    settings_class: type[S],
    argv: list[str],
    *,
    prog: str = "",
    description: str | None = None,
    examples: str | None = None,
) -> S:
    """Settings from the command line. Raises InputError; `--help` and `--print_config` print and exit with 0."""
    parser = _parser(settings_class, prog, description, examples)
    given, unknown = parser.parse_known_args([_underscored(argument) for argument in argv])
    if unknown:
        flags = [word for word in unknown if word.startswith("-")]
        raise InputError(_unknown(flags[0], settings_class) if flags else f"unexpected word {short(unknown[0])}")
    given = vars(given)
    config, print_config = given.pop("config", None), given.pop("print_config", False)
    values = read_yaml(_expanded(config), settings_class) if config is not None else {}
    types = typing.get_type_hints(settings_class)
    values |= {name: convert(text, types[name], f"--{name}") for name, text in given.items()}
    missing = [spec for spec in fields(settings_class) if spec.default is MISSING and spec.name not in values]
    for spec in fields(settings_class):
        _check(spec, values.get(spec.name, spec.default))
    if print_config:
        _print_config(settings_class, values, missing)
        sys.exit(0)
    for spec in missing:
        if spec.metadata["positional"]:
            raise InputError(f"give {spec.metadata['help']}")
        raise InputError(f"--{spec.name} is required: {spec.metadata['help']}")
    return settings_class(**values)


def from_values(settings_class: type[S], values: Mapping[str, Any]) -> S:
    """Settings from Python values, under the names, with the conversions and checks of the command line.

    A path may be any os.PathLike; where several values may be given, one may stand by itself. Raises InputError.
    """
    types, told = typing.get_type_hints(settings_class), {}
    for name, value in values.items():
        if name not in types:
            raise InputError(_unknown(name, settings_class))
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        several = any(typing.get_origin(kind) is tuple for kind in (types[name], *typing.get_args(types[name])))
        if several and isinstance(value, int | float):
            value = (value,)
        told[name] = convert(value, types[name], f"--{name}")
    for spec in fields(settings_class):
        if spec.default is MISSING and spec.name not in told:
            raise InputError(f"--{spec.name} is required: {spec.metadata['help']}")
        _check(spec, told.get(spec.name, spec.default))
    return settings_class(**told)


def read_yaml(path: str, settings_class: type) -> dict[str, Any]:
    """The settings in a YAML file, each converted to its field's type (so that `1e-3` is a float)."""
    content = read_mapping(path, name=f"--config {short(path, quoted=False)}")
    types = typing.get_type_hints(settings_class)
    values = {}
    for key, node in content.items():
        if key not in types:
            raise InputError(f"{path}: {_unknown(key, settings_class, prefix='')}")
        mapping = dict in (types[key], *typing.get_args(types[key]))
        try:
            value = as_data(node) if mapping else as_text(node)
        except yaml.YAMLError as error:
            raise InputError(f"--config {path} is not valid YAML: {' '.join(str(error).split())}") from error
        values[key] = convert(value, types[key], f"{path}: {key}")
    return values


def check_environment() -> None:
    """Raises InputError for a launcher's variable that is no number, which libraries would meet with a traceback."""
    for name in ENVIRONMENT:
        value = os.environ.get(name, "0")
        if not value.isascii() or not value.removeprefix("-").isdigit():
            raise InputError(f"{name}={short(value)} in the environment is not a whole number: unset it")


def to_yaml(settings: Any) -> str:
    """Every resolved setting, in the order of the dataclass."""
    return _dumped({spec.name: getattr(settings, spec.name) for spec in fields(settings)})


def as_dict(settings: Any) -> dict[str, Any]:
    """The settings as plain JSON and YAML values."""
    return _plain({spec.name: getattr(settings, spec.name) for spec in fields(settings)})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _dumped(values: dict[str, Any]) -> str:
    return yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True)


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


def convert(value: Any, kind: Any, name: str, *, words: tuple[str, ...] = ()) -> Any:
    """`value`, a string of the command line or a YAML value, as `kind`; InputError names what it should have been.

    words: what else it might have been, and is not.
    """
    if typing.get_origin(kind) in (UnionType, typing.Union):
        plain, words = _alternatives(kind)
        none = value is None or (isinstance(value, str) and value in ("none", "null"))
        if none and NoneType in typing.get_args(kind):
            return None
        return value if value in words else convert(value, plain, name, words=words)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise InputError(f"{name} must be one of {', '.join(typing.get_args(kind))}, got {short(value)}")
        return value
    try:
        if typing.get_origin(kind) is tuple:
            inner = typing.get_args(kind)[0]
            items = value if not isinstance(value, str) else [value] if inner is str else value.split(",")
            return tuple(_CONVERTERS[inner](item) for item in items)
        return _CONVERTERS[typing.get_origin(kind) or kind](value)
    except (ValueError, SyntaxError, TypeError, KeyError, OverflowError, RecursionError, MemoryError):
        raise InputError(f"{name} must be {' or '.join([_name(kind), *words])}, got {short(value)}") from None


def _alternatives(kind: Any) -> tuple[Any, tuple[str, ...]]:
    """The type of `int | Literal["auto"] | None` that is no word, and the words."""
    options = [option for option in typing.get_args(kind) if option is not NoneType]
    words = [word for option in options if typing.get_origin(option) is Literal for word in typing.get_args(option)]
    plain = [option for option in options if typing.get_origin(option) is not Literal]
    return (plain[0], tuple(words)) if plain else (options[0], ())


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _check(spec: Any, value: Any) -> None:
    """Raises InputError for a value out of its bounds, or a text that is empty or can be no name of anything."""
    if value is spec.default or value == spec.default:
        return
    bounds = spec.metadata["bounds"]
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, int | float) and not isinstance(item, bool) and item not in bounds:
            raise InputError(f"--{spec.name} must be {bounds.told(item)}, got {_number(item)}")
        if isinstance(item, str) and not item.strip():
            way_on = "give" if spec.default is MISSING else "leave it out, or give"
            raise InputError(f"--{spec.name} is empty: {way_on} {spec.metadata['help']}")
        if isinstance(item, str) and "\0" in item:
            raise InputError(f"--{spec.name} holds a NUL character: {short(item)}")
    if value == ():
        raise InputError(f"--{spec.name} is an empty list: leave it out, or give {spec.metadata['help']}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 1e15 else f"{value:.10g}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


def short(value: Any, *, quoted: bool = True) -> str:
    """As repr, but never longer than a line, however deep or long the value is."""
    text = _SHORT.repr(value)
    return text if quoted else text[1:-1]


def _to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError(value)
    try:
        return int(value) if isinstance(value, str) else int(str(value))
    except ValueError:
        if float(value) != int(float(value)):
            raise
        return int(float(value))  # 1e6


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(value)
    return float(value)


def _to_bool(value: Any) -> bool:
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]


def _to_str(value: Any) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError(value)
    return _expanded(str(value))


def _expanded(text: str) -> str:
    """`~/out` below the home folder: shells leave it as it is in `--output_dir=~/out`, and YAML has no shell."""
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def _to_dict(value: Any) -> dict:
    value = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError(value)
    json.dumps(value, allow_nan=False)  # raises for what neither recipe.yaml nor a report could hold
    return value


_CONVERTERS = {int: _to_int, float: _to_float, bool: _to_bool, str: _to_str, dict: _to_dict}


def _name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    names |= {dict: "a mapping such as {'img_size': 64}"}
    names |= {tuple[int, ...]: "whole numbers with commas between, such as 1,2,4"}
    names |= {tuple[float, ...]: "numbers with commas between, such as 0.01,0.1,1", tuple[str, ...]: "texts"}
    return names[kind]


def _unknown(name: str, settings_class: type, prefix: str = "--") -> str:
    bare = name.lstrip("-").partition("=")[0]
    known = [spec.name for spec in fields(settings_class)] + ["config", "print_config"]
    nearest = [name for name in USUAL_NAMES.get(bare.lower(), "").split() if name in known]
    nearest = nearest or difflib.get_close_matches(bare, known, n=1, cutoff=0.6)
    hint = f"did you mean {prefix}{nearest[0]}?" if nearest else "see --help"
    return f"unknown setting {prefix}{short(bare, quoted=False)}: {hint}"


# What the field or other tools call a setting -> what it may be here. Only for the hint: nothing is taken for another.
USUAL_NAMES = {
    "batch_size": "per_device_train_batch_size", "b": "per_device_train_batch_size",
    "bs": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
    "lr": "learning_rate", "base_lr": "learning_rate", "wd": "weight_decay", "warmup": "warmup_steps",
    "warmup_ratio": "warmup warmup_steps", "warmup_epochs": "warmup_steps", "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs", "n_epochs": "num_train_epochs", "max_epochs": "num_train_epochs",
    "steps": "max_steps min_steps", "num_steps": "max_steps", "train_steps": "max_steps",
    "max_train_steps": "max_steps", "iterations": "max_steps", "minutes": "max_minutes", "time": "max_minutes",
    "tau": "temperature", "t": "temperature",
    "data": "dataset data_root", "data_dir": "dataset data_root", "data_path": "dataset data_root",
    "dataset_name": "dataset", "train_file": "dataset", "train_dir": "dataset", "corpus": "dataset",
    "input": "dataset", "task": "tasks dataset", "subset": "dataset_config", "dataset_config_name": "dataset_config",
    "model": "backbone init", "encoder": "model backbone", "checkpoint": "model resume",
    "arch": "backbone architecture",
    "model_name": "model backbone init", "model_name_or_path": "model backbone init", "pretrained": "model init",
    "model_type": "architecture backbone", "network": "model backbone", "resume_from_checkpoint": "resume",
    "workers": "dataloader_num_workers", "num_workers": "dataloader_num_workers", "j": "dataloader_num_workers",
    "out": "output_dir output", "out_dir": "output_dir", "outdir": "output_dir", "output": "output_dir",
    "output_path": "output_dir output", "save_dir": "output_dir", "log_dir": "output_dir", "o": "output_dir output",
    "device": "use_cpu", "cpu": "use_cpu", "no_cuda": "use_cpu", "fp16": "bf16 dtype", "precision": "bf16 dtype",
    "compile": "torch_compile", "img_size": "image_size", "resolution": "image_size", "size": "image_size",
    "max_seq_length": "sequence_length max_length", "seq_len": "sequence_length max_length",
    "block_size": "sequence_length", "context_length": "sequence_length", "mlm_probability": "mask_rate",
    "num_fewshot": "shots", "k": "shots", "k_shot": "shots", "fraction": "label_fraction", "metric": "metrics",
    "clip": "max_grad_norm", "grad_clip": "max_grad_norm", "accumulation": "gradient_accumulation_steps",
    "grad_accum": "gradient_accumulation_steps", "eval_batch_size": "per_device_train_batch_size",
    "repo": "hub_model_id", "repo_id": "hub_model_id", "hub_repo": "hub_model_id", "private": "hub_private_repo",
    "push": "push_to_hub", "logger": "report_to", "log_wandb": "report_to", "wandb": "report_to",
    "augment": "augmentation", "aug": "augmentation", "transform": "augmentation", "crop": "min_scale crop_pct",
    "jitter": "strength", "proj_dim": "projection_dim", "embedding_dim": "projection_dim", "template": "tasks",
    "labels": "label_column", "label": "label_column", "text": "text_column text_columns", "image": "image_column",
    "random_seed": "seed", "num_seeds": "seeds", "save_every": "save_steps", "eval_every": "eval_steps knn_steps",
    "log_every": "logging_steps", "cfg": "config", "c": "config", "config_file": "config",
}  # fmt: skip


def _print_config(settings_class: type, values: dict[str, Any], missing: list) -> None:
    """Every resolved setting as YAML; those that are required and were not given, as comments."""
    resolved = {spec.name: values.get(spec.name, spec.default) for spec in fields(settings_class)}
    for spec in missing:
        del resolved[spec.name]
        print(f"# {spec.name}: (required) {spec.metadata['help']}")
    print(_dumped(resolved), end="")


def _examples(main: Callable) -> str | None:
    """The command lines in the docstring of the file that `main` is in: its indented lines."""
    text = sys.modules[main.__module__].__doc__ or ""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return "examples:\n" + "\n".join(lines) if lines else None


def _underscored(argument: str) -> str:
    """`--batch-size=8` and `--batch_size=8` are the same flag."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        name = re.match(r"argument (--\w+)", message)
        if name and "expected" in message:
            raise InputError(f"{name[1]} needs a value (one that begins with - is written {name[1]}=-VALUE): {message}")
        raise InputError(message)


def _parser(settings_class: type, prog: str, description: str | None, examples: str | None) -> argparse.ArgumentParser:
    places = "".join(f"{spec.name} " for spec in fields(settings_class) if spec.metadata["positional"])
    parser = _Parser(
        prog=prog or None,
        usage=f"%(prog)s {places}[--config FILE] [--setting value ...]",
        description=description,
        epilog=examples,
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
            metavar=spec.name if spec.metadata["positional"] else _metavar(kind),
            help=f"{spec.metadata['help']} ({default})".replace("%", "%%"),
            **arguments,
        )
    return parser


def _shown(value: Any) -> str:
    return (
        ",".join(map(str, value)) or "none"
        if isinstance(value, tuple)
        else str(value).lower()
        if value in (None, True, False)
        else str(value)
    )


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    if typing.get_origin(kind) in (UnionType, typing.Union):
        plain, words = _alternatives(kind)
        return "|".join([_metavar(plain), *words])
    return {
        int: "N", float: "X", bool: "BOOL", str: "TEXT", tuple[int, ...]: "N,N", tuple[float, ...]: "X,X", dict: "DICT",
        tuple[str, ...]: "TEXT",
    }[kind]  # fmt: skip


@dataclass(kw_only=True)
class RunSettings:
    """What every command has that computes something."""

    output_dir: str = setting(..., "folder for all that the run writes", section="run")
    seed: int = setting(
        42, "of the weights, the order of the data and random draws", section="run", at_least=0, at_most=2**31 - 1
    )
    use_cpu: bool = setting(False, "stay on the CPU even where there is a GPU", section="run")


@dataclass(kw_only=True)
class ExampleSettings:
    """What every command has that reads images or texts, with or without labels, for an encoder."""

    dataset: str = setting(
        ...,
        "file or folder of parquet, arrow, json, csv or tsv, or of images in class folders; a Hub id, or toy (digits)",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.csv'; none: all of the one kind there is", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    text_columns: str | None = setting(None, "a column of texts, or a pair A,B; none: by name or type", section="data")
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    label_column: str | None = setting(None, "column of the labels; none: by name or type", section="data")
    label_type: Literal["classes", "numbers"] | None = setting(
        None, "what the labels are, classes or numbers to regress on; none: by their type", section="data"
    )
    max_undecodable: float = setting(
        0.01, "share of images that may fail to decode before the run stops", section="data", at_least=0, at_most=1
    )
    value_range: tuple[float, ...] | None = setting(
        None, "LOW,HIGH: levels of more than 8 bits that become black and white; none: 0,65535", section="data"
    )
    channels: int | None = setting(
        None, "that every image has; none: as many as the encoders read, RGB for 3", section="data", at_least=1,
        at_most=1000,
    )  # fmt: skip
    max_length: int | None = setting(
        None,
        "tokens kept of a text; none: 128, or what the model can take",
        section="data",
        at_least=2,
        at_most=1_000_000,
    )


@dataclass(kw_only=True)
class SoundFileSettings:
    """What every command has that reads sounds, besides the place of the data."""

    sampling_rate: int | None = setting(
        None, "samples a second (Hz) of sounds, which .npy does not tell; none: that of the files, or of the encoder",
        section="data", at_least=1,
    )  # fmt: skip
    stereo: Literal["refuse", "mean"] = setting(
        "refuse", "sounds of several channels: refuse them, or take the mean of the channels", section="data"
    )
    max_unusable: float = setting(
        0.01,
        "share of sounds that may be damaged, not finite or too short before the run stops",
        section="data",
        at_least=0,
        at_most=1,
    )


@dataclass(kw_only=True)
class CardSettings:
    """What only the owner of a model can say on its card."""

    license: str | None = setting(
        None, "license of the weights, for the card: the Hub's name, e.g. apache-2.0, or other:NAME", section="run"
    )
    language: tuple[str, ...] = setting((), "of the data, for the card: codes such as en de", section="run")
    tags: tuple[str, ...] = setting((), "further words by which the Hub finds the model, for the card", section="run")


@dataclass(kw_only=True)
class SharedRunSettings(CardSettings, RunSettings):
    """What a run has whose result is a network that can be shared."""

    push_to_hub: bool = setting(False, "upload the result to the Hugging Face Hub at the end", section="run")
    hub_model_id: str | None = setting(None, "repository to push to; none: your name and the folder's", section="run")
    hub_private_repo: bool = setting(False, "make the repository private", section="run")
