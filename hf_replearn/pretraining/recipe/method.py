"""What every method has, whatever it learns from."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hf_replearn.sharing.report import Method


def found(path: str) -> Any:
    """What is at a dotted path, such as that of a function."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def later(path: str) -> Callable:
    """The function at a dotted path, which is imported when it is called: reading a recipe imports nothing heavy."""
    return lambda *given: found(path)(*given)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What every method has.

    facts:   the paper behind it, as the card states it. Its `model_class` is trained.
    command: of `hf-replearn`.
    STORY:   the module beside this one that tells its story, and writes what a checkpoint of it holds.
    """

    facts: Method
    command: str

    STORY: ClassVar[str]

    @property
    def model_class(self) -> type:
        """<Method>ForPreTraining."""
        return found(self.facts.model_class)
