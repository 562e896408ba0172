"""The evaluation of encoders and datasets that a notebook holds as objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hf_replearn.data.objects import shown, source_of
from hf_replearn.encoders.encoder import name_of
from hf_replearn.errors import InputError
from hf_replearn.evaluation.contestants import Asked, asked_for
from hf_replearn.evaluation.own_features import own_features, read_features
from hf_replearn.judging.evaluate import evaluate_encoders
from hf_replearn.settings import changed, from_values, short
from hf_replearn.sharing.report import Evaluation


def evaluate_given(settings_class: type, encoders: Any, *, dataset: Any, **settings: Any) -> Evaluation:
    """See `recipes.evaluation.evaluate`. settings_class: that of the command's settings."""
    given = {name: _resolved(name, what) for name, what in _named(encoders).items()}
    if "model" in settings:
        raise InputError("model: encoders are the first argument of evaluate")
    by_name = isinstance(dataset, str | os.PathLike)
    with _folder(settings.pop("output_dir", None)) as folder:
        values = {
            "model": tuple(what if isinstance(what, str) else f"({name})" for name, what in given.items()),
            "dataset": dataset if by_name else shown(dataset),
            "output_dir": folder,
        }
        told = from_values(settings_class, values | settings)
        if told.add_to_card and not isinstance(next(iter(given.values())), str):
            raise InputError("add_to_card is of the card of the first encoder, which must be a folder")
        asked = Asked(given)
        if told.runs or told.features:
            more = asked_for(replace(told, model=()))
            if twice := sorted(given.keys() & more.given.keys()):
                raise InputError(f"two encoders are called {twice[0]!r}: give other names")
            asked = Asked(given | more.given, more.optional, more.left_out)
        return evaluate_encoders(
            told, asked=asked, source=None if by_name else source_of(dataset), command=_call(told, list(asked.given))
        )


def _named(encoders: Any) -> dict[str, Any]:
    """Name -> encoder, of a mapping, a list, or a single one."""
    if isinstance(encoders, Mapping) and encoders.keys() != {"train", "test"}:
        found = {str(name): what for name, what in encoders.items()}
    else:
        several = encoders if isinstance(encoders, list) else [encoders]
        found = {}
        for what in several:
            name = "features" if _are_features(what) else name_of(what)
            if name in found:
                raise InputError(f"two encoders are called {name!r}: give a dict of names and encoders")
            found[name] = what
    if not found:
        raise InputError("there is no encoder to judge: give a dict of names and encoders")
    return found


def _resolved(name: str, what: Any) -> Any:
    """Features of the user's own, checked; a path as text; else what it is."""
    if isinstance(what, str | os.PathLike):
        path = os.fspath(what)
        return read_features(path, named=path) if Path(path).suffix == ".npz" else path
    if not _are_features(what):
        return what
    arrays = what if isinstance(what, Mapping) else dict(zip(("train", "test"), what, strict=True))
    return own_features(arrays, named=name, origin="features (arrays)")


def _are_features(what: Any) -> bool:
    """Whether it is a pair (train, test), or a mapping of these, of what is no function."""
    if isinstance(what, Mapping):
        return {"train", "test"} <= what.keys()
    return isinstance(what, tuple) and len(what) == 2 and not any(map(callable, what))


@contextmanager
def _folder(asked: Any) -> Iterator[Any]:
    """The folder to write to; where none is asked for, one that is gone afterwards."""
    if asked is not None:
        yield asked
        return
    with TemporaryDirectory(prefix="hf_replearn-") as folder:
        yield folder


def _call(settings: Any, names: list[str]) -> str:
    """What was called, for the report."""
    kept = [name for name in changed(settings) if name not in ("model", "dataset", "output_dir")]
    words = "".join(f", {name}={short(getattr(settings, name))}" for name in kept)
    encoders = ", ".join(f"{name!r}: …" for name in names)
    return f"hf_replearn.evaluate({{{encoders}}}, dataset={settings.dataset!r}{words})"
