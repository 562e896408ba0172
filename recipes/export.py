"""The encoder of a checkpoint, in its library's own format: of a run that was stopped, or of the middle of one. And any
encoder as an ONNX file.

    hf-replearn export --checkpoint out/mine/checkpoint-500 --output_dir out/mine_500
    hf-replearn evaluate --model out/mine_500 --dataset path/to/images --output_dir out/report
    hf-replearn export --model out/mine --format onnx --output_dir out/mine_onnx

A checkpoint holds encoder and head in this package's own format, to go on training; other commands and libraries read
what this one writes. The encoder of a finished run is in its --output_dir already. `model.onnx` takes batches of any
size (`pixel_values`; of texts `input_ids`, `attention_mask` and maybe `token_type_ids`, of any length) and gives
`features` (B, D), pooled; before it is kept, its features are compared with PyTorch's. Beside it lies the processor
that makes its inputs, as AutoImageProcessor or AutoTokenizer load it.
"""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import run, setting


@dataclass(kw_only=True)
class ExportSettings:
    checkpoint: str | None = setting(None, "folder that a pretraining run saved: OUT/checkpoint-N", section="run")
    model: str | None = setting(
        None, "with --format onnx: a finished run, or the folder or Hub id of any encoder", section="run"
    )
    format: Literal["native", "onnx"] = setting(
        "native", "native: of the encoder's own library; onnx: a file that runs without PyTorch", section="run"
    )
    pooling: Literal["mean", "cls", "last"] | None = setting(
        None,
        "of the texts of an ONNX file: mean of all tokens, the first, or the last; none: as a folder for "
        "sentence-transformers says, else mean",
        section="run",
    )
    output_dir: str = setting(..., "new folder for the encoder", section="run")


def main(settings: ExportSettings) -> None:
    """The encoder of a checkpoint, in its library's own format, or any encoder as an ONNX file."""
    if (settings.checkpoint is None) == (settings.model is None):
        raise InputError("give --checkpoint, of a run, or --model, a finished run or any encoder")
    if settings.model is not None and settings.format != "onnx":
        raise InputError(f"--model {settings.model} is in its library's own format already: give --format onnx")
    out = Path(settings.output_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--output_dir {out} is there already: choose a new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as unfinished:
            which = write(settings, Path(unfinished, "whole"))
            if out.exists():
                out.rmdir()
            Path(unfinished, "whole").rename(out)
    except OSError as error:
        raise InputError(f"--output_dir {out} cannot be written: {error.strerror or error}") from error
    print(f"encoder{which}: {out}")


def write(settings: ExportSettings, folder: Path) -> str:
    """All that is asked for, into a new folder; returns which step it is of, in words."""
    from hf_replearn.encoders.to_onnx import check_onnx

    if settings.format == "onnx":
        check_onnx()
    which = ""
    if settings.checkpoint is not None:
        from hf_replearn.training.checkpoints import read_manifest, step_of

        checkpoint = Path(settings.checkpoint)
        method = find_method(checkpoint)
        folder.mkdir(parents=True)
        story = importlib.import_module(f"hf_replearn.pretraining.{method.STORY}")
        story.export(method, checkpoint, read_manifest(checkpoint)["circumstances"], folder)
        which = f" of step {step_of(checkpoint)}"
    if settings.format == "onnx":
        write_onnx(settings.model or str(folder), folder, pooling=settings.pooling)
    return which


def write_onnx(model: str, folder: Path, *, pooling: str | None) -> None:
    """`model.onnx` and the processor that makes its inputs."""
    import transformers

    from hf_replearn.encoders.encoder import find_encoder
    from hf_replearn.encoders.load import modality_of
    from hf_replearn.encoders.to_onnx import export_onnx

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    encoder = find_encoder(model, modality=modality_of(model), pooling=pooling)
    if model != str(folder):
        folder.mkdir(parents=True)
        encoder.preprocess.processor.save_pretrained(folder)
        if encoder.modality == "image":
            encoder.config.save_pretrained(folder)  # where timm's processor finds size and normalisation
    difference = export_onnx(encoder, folder / "model.onnx")
    print(
        f"features (B, {encoder.widths[-1]}), pooled by {encoder.pooling}: PyTorch's to {difference:.0e} of the largest"
    )


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
    config = PreTrainedConfig.get_config_dict(checkpoint)[0]
    name = (config.get("recipe") or config.get("model_type", "")).removeprefix("replearn-")
    try:
        return importlib.import_module(f"hf_replearn.recipes.{name.replace('-', '_')}").METHOD
    except ImportError as error:
        raise InputError(f"{what} has a {MANIFEST}, but is of no method that is known here: {name!r}") from error


if __name__ == "__main__":
    run(main, ExportSettings, prog="export")
