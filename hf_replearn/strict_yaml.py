"""YAML files of ours, read strictly: a value is the text that stands there, until its setting says what type it has.

Plain YAML would read `dataset: 007` as 7, `1:30` as 90, `no` as false and `1e-3` as a text. And it can be built to fill
the memory: sizes, depth and aliases are looked at before anything is composed.
"""

from __future__ import annotations

from typing import Any

import yaml

from hf_replearn.errors import InputError

LONGEST, DEEPEST, MOST_ALIASES = 200_000, 30, 20  # characters, nested lists or mappings, uses of an anchor


def read_mapping(path: str, *, name: str) -> dict[str, yaml.Node]:
    """The top level of a YAML file, each value still a node. name: how messages call the file.

    Raises InputError for what is no file, no UTF-8, no YAML, no mapping of names, or made to fill the memory.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(LONGEST + 1)
        _check_size(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8 text (byte 0x{error.object[error.start]:02x}): save it as UTF-8"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{name} must hold `setting: value` lines")
    found: dict[str, yaml.Node] = {}
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{name} must hold `setting: value` lines")
        if key.value in found:
            raise InputError(f"{name} is not valid YAML: {key.value!r} is given twice")
        found[key.value] = value
    return found


def as_text(node: yaml.Node) -> Any:
    """A scalar as the text that stands in the file, null as None; a list of these; anything else as YAML has it.

    Raises yaml.YAMLError for what is no plain data.
    """
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
        return None
    if isinstance(node, yaml.ScalarNode) and node.tag.startswith("tag:yaml.org,2002:") and "python" not in node.tag:
        return node.value
    plain = isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq"
    if plain and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [as_text(item) for item in node.value]
    return as_data(node)


def as_data(node: yaml.Node) -> Any:
    """What YAML itself makes of a node, a mapping with a key given twice excepted. Raises yaml.YAMLError."""
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except (ValueError, TypeError, OverflowError) as error:
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} is given twice")
        return super().construct_mapping(node, deep)


def _check_size(text: str) -> None:
    if len(text) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST:,} characters")
    depth = aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # does not nest itself, as composing does
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > DEEPEST or aliases > MOST_ALIASES:
            raise ValueError(f"it is nested more than {DEEPEST} deep, or uses more than {MOST_ALIASES} aliases")
