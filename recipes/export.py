"""The encoder of a checkpoint, in its library's own format: of a run that was stopped, or of the middle of one.

    hf-replearn export --checkpoint out/mine/checkpoint-500 --output_dir out/mine_500
    hf-replearn evaluate --model out/mine_500 --dataset path/to/images --output_dir out/report

A checkpoint holds encoder and head in this package's own format, to go on training; other commands and libraries read
what this one writes. The encoder of a finished run is in its --output_dir already.
"""

from __future__ import annotations

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from hf_replearn.errors import InputError
from hf_replearn.settings import run, setting


@dataclass(kw_only=True)
class ExportSettings:
    checkpoint: str = setting(..., "folder that a pretraining run saved: OUT/checkpoint-N", section="run")
    output_dir: str = setting(..., "new folder for the encoder", section="run")


def main(settings: ExportSettings) -> None:
    """The encoder of a checkpoint, in its library's own format."""
    from hf_replearn.training.checkpoints import read_manifest, step_of

    checkpoint, out = Path(settings.checkpoint), Path(settings.output_dir)
    method = find_method(checkpoint)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--output_dir {out} is there already: choose a new folder")
    unfinished = out.with_name(f"{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        method.export(checkpoint, read_manifest(checkpoint)["circumstances"], unfinished)
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        raise InputError(f"--output_dir {out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(f"encoder of step {step_of(checkpoint)}: {out}")


def find_method(checkpoint: Path):
    """The method of the recipe that saved a checkpoint. Raises InputError where there is none that can be used."""
    from transformers import PreTrainedConfig

    from hf_replearn.training.checkpoints import MANIFEST, checkpoints, problem

    what = f"--checkpoint {checkpoint}"
    if not checkpoint.is_dir():
        raise InputError(f"{what}: there is no such folder")
    if found := checkpoints(checkpoint):
        raise InputError(f"{what} is the folder of a run: give one of its checkpoints, such as {found[0]}")
    if (reason := problem(checkpoint)) is not None:
        raise InputError(f"{what} is not a checkpoint that can be used: {reason}")
    name = PreTrainedConfig.get_config_dict(checkpoint)[0].get("model_type", "").removeprefix("replearn-")
    try:
        return importlib.import_module(f"hf_replearn.recipes.{name.replace('-', '_')}").METHOD
    except ImportError as error:
        raise InputError(f"{what} has a {MANIFEST}, but is of no method that is known here: {name!r}") from error


if __name__ == "__main__":
    run(main, ExportSettings, prog="export")
