"""Pretraining from Python: the commands with datasets, and augmentations, that a notebook holds as objects."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from hf_replearn.cli import COMMANDS, nearest_command
from hf_replearn.data.objects import shown, source_of
from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import ImageMethod
from hf_replearn.pretraining.run import Run
from hf_replearn.settings import changed, from_values, short


def pretrain(method: str, *, dataset: Any, augment: Callable | None = None, **settings: Any) -> Run:
    """Trains an encoder as the command of that name does, and returns its run: a folder like any other.

        run = hf_replearn.pretrain("simclr", dataset=my_images, backbone="resnet18", max_steps=2000, output_dir="out")
        run.report                     # what the encoder is worth, beside its baselines
        timm.create_model(f"local-dir:{run}", pretrained=True)

    method:   a command that trains, such as "simclr" or "masked-lm"; underscores will do.
    dataset:  a path or Hub id; a datasets.Dataset; an object with a length and items, which are images or texts, maybe
              with a label, (image, label), or dicts of columns; or {"train": …, "test": …} of these.
    augment:  of a method that compares views: your own, a function of a uint8 batch (B, C, H, W) that returns
              (B, C, size, size), uint8 or floats in 0...1, called once for each view. Its random numbers are to be
              torch's: they are set by the step, so that a run that is stopped goes on as if it had not been.
    settings: as on the command line, with the same checks: max_steps=2000, shots=(1, 8), save_steps=100 …

    Raises InputError, in one line, for whatever is wrong with them, before anything is trained.
    """
    recipe, settings_class = _recipe(method)
    source = None if isinstance(dataset, str | os.PathLike) or _are_names(dataset) else source_of(dataset)
    values = {"dataset": dataset if source is None else shown(dataset)} | settings
    told = from_values(settings_class, values)
    given = {"source": source, "command": _call(method, told)}
    if isinstance(recipe.METHOD, ImageMethod):
        given["augment"] = augment
    elif augment is not None:
        raise InputError(f"augment: {method} does not learn from views of images")
    return recipe.main(told, **given)


def _recipe(method: str) -> tuple[Any, type]:
    """The module of a recipe that trains, and the class of its settings."""
    command = str(method).replace("_", "-")
    if command not in COMMANDS or COMMANDS[command][0] is None:
        raise InputError(f"unknown method {short(method)}: {nearest_command(command)}")
    module, settings_class, _ = COMMANDS[command]
    recipe = importlib.import_module(f"hf_replearn.recipes.{module}")
    if not hasattr(recipe, "METHOD"):
        raise InputError(f"{method} trains nothing from scratch: use the command `hf-replearn {command}`")
    return recipe, getattr(recipe, settings_class)


def _are_names(dataset: Any) -> bool:
    """Several sources of texts, which are one corpus."""
    return isinstance(dataset, list | tuple) and all(isinstance(name, os.PathLike) for name in dataset)


def _call(method: str, settings: Any) -> str:
    """What was called, for the report."""
    words = "".join(f", {name}={short(getattr(settings, name))}" for name in changed(settings))
    return f"hf_replearn.pretrain({method!r}{words})"
