"""The evaluation of encoders and datasets that a notebook holds as objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers

from hf_replearn.data.objects import shown, source_of
from hf_replearn.encoders.encoder import name_of
from hf_replearn.errors import InputError
from hf_replearn.evaluation.contestants import Asked, asked_for
from hf_replearn.evaluation.own_features import own_features, read_features
from hf_replearn.judging.episodes import judge_in_episodes, of_episodes
from hf_replearn.judging.evaluate import evaluate_encoders
from hf_replearn.settings import changed, from_values, short
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import Evaluation
from hf_replearn.sharing.show import try_to_show


def evaluate_given(settings_class: type, encoders: Any, *, dataset: Any, **settings: Any) -> Evaluation:
    """See `recipes.evaluation.evaluate`. settings_class: that of the command's settings."""
    if "model" in settings:
        raise InputError("model: encoders are the first argument of evaluate")
    given = {name: _resolved(name, what) for name, what in _named(encoders).items()}
    source = None if isinstance(dataset, str | os.PathLike) else source_of(dataset)
    asked_folder = settings.pop("output_dir", None)
    with _folder(asked_folder) as folder, _quiet():
        values = {
            "model": tuple(what if isinstance(what, str) else f"({name})" for name, what in given.items()),
            "dataset": dataset if source is None else shown(dataset),
            "output_dir": folder,
        }
        told = from_values(settings_class, values | settings)
        if told.add_to_card and not isinstance(next(iter(given.values())), str):
            raise InputError("add_to_card is of the card of the first encoder, which must be a folder")
        asked = _with_files(Asked(given), told)
        call = _call(told, list(asked.given))
        judge = judge_in_episodes if of_episodes(told) else evaluate_encoders
        report = judge(told, asked=asked, source=source, command=call, show=False)
        if asked_folder is not None and report is not None:
            try_to_show("the page", partial(write_page, folder))
    return report


def _with_files(asked: Asked, settings: Any) -> Asked:
    """Besides, those that `runs` and `features` of the settings name."""
    if not (settings.runs or settings.features):
        return asked
    more = asked_for(replace(settings, model=()))
    if twice := sorted(asked.given.keys() & more.given.keys()):
        raise InputError(f"two encoders are called {twice[0]!r}: give other names")
    return Asked(asked.given | more.given, more.optional, more.left_out)


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers says of networks that their heads are new, which is no news here; afterwards it is as it was."""
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


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
