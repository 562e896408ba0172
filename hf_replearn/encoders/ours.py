"""Folders that hold something else than a network to load: what a run of this package leaves besides its encoder, and
adapters."""

from __future__ import annotations

import importlib
import json
from importlib.util import find_spec
from pathlib import Path

from transformers import PreTrainedConfig

from hf_replearn.errors import InputError


def refuse_checkpoint(name: str, setting: str = "--model") -> None:
    """Raises InputError where `name`, given by `setting`, holds encoder and head in our own format, or an adapter of
    PEFT, which would be left out in silence: what to give instead is said."""
    folder = Path(name)
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{setting} {name} holds an adapter of PEFT for {_base_model(folder)}, which is no network by itself: "
            "merge the two (peft: merge_and_unload, then save_pretrained, with the tokenizer) and give what that writes"
        )
    if (folder / "dual_encoder.json").is_file():
        raise InputError(
            f"{setting} {name} holds two encoders and what joins them: give {name}/image_encoder or "
            f"{name}/text_encoder; both together are judged by evaluate --zero_shot or --task retrieval"
        )
    if (folder / "manifest.json").is_file():
        raise InputError(
            f"{setting} {name} is a checkpoint to go on training from: `hf-replearn export --checkpoint {name} "
            f"--output_dir NEW` writes its encoder, for {setting} NEW"
        )
    if folder.name == "pretraining" and (folder.parent / "config.json").is_file():
        raise InputError(f"{setting} {name} holds encoder and head: the encoder alone is in {folder.parent}")
    found = [path for path in folder.glob("checkpoint-*") if (path / "manifest.json").is_file()]
    if found and not (folder / "config.json").exists():
        newest = max(found, key=lambda path: path.stat().st_mtime)
        raise InputError(
            f"{setting} {name} is of a run that has not ended: run its command again, or take the encoder of a "
            f"checkpoint: `hf-replearn export --checkpoint {newest} --output_dir NEW`"
        )


def register_own(checkpoint: str) -> None:
    """Makes the classes of an encoder of ours, fitted by a method of this package, known to transformers: the code that
    lies beside its weights is not run, since the same is here."""
    try:
        kind = PreTrainedConfig.get_config_dict(checkpoint)[0].get("model_type")
    except OSError:  # whoever loads it says what is wrong
        return
    if isinstance(kind, str) and kind.isidentifier() and find_spec(f"hf_replearn.methods.{kind}") is not None:
        importlib.import_module(f"hf_replearn.methods.{kind}")


def _base_model(folder: Path) -> str:
    try:
        told = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return str(told["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        return "a base model"
