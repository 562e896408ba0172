"""The folder of a run: it belongs to one run, and what is wrong with it is found out before training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings, as_dict, to_yaml

FILE = "recipe.yaml"
# How a run is carried out; all other settings decide what comes out of it.
INCIDENTAL = {
    "output_dir", "resume", "report_to", "push_to_hub", "hub_model_id", "hub_private_repo",
    "add_to_card", "logging_steps", "save_steps", "save_total_limit", "dataloader_num_workers",
}  # fmt: skip


def check_folder(settings: RunSettings) -> None:
    """Makes `output_dir`. Raises InputError when it cannot be written or holds something else than this run."""
    folder = Path(settings.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "not writable")
        earlier = folder / FILE
        if earlier.exists():
            _refuse_other_settings(folder, yaml.safe_load(earlier.read_text()), as_dict(settings))
        elif any(folder.iterdir()):
            raise InputError(f"--output_dir {folder} is not empty and holds no run ({FILE}): choose another folder")
    except OSError as error:
        raise InputError(f"--output_dir {folder}: {error.strerror}") from error


def claim_folder(settings: RunSettings) -> None:
    """Writes every resolved setting to `recipe.yaml`: from now on the folder is this run's."""
    Path(settings.output_dir, FILE).write_text(to_yaml(settings))


def _refuse_other_settings(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in sorted((then.keys() | now.keys()) - INCIDENTAL):
        if then.get(name) != now.get(name):
            raise InputError(
                f"--output_dir {folder} belongs to another run, with {name} {then.get(name)!r} instead of "
                f"{now.get(name)!r}: choose another folder, or the same settings to go on with it"
            )


def find_checkpoint(resume: str, folder: str) -> str | None:
    """The checkpoint to go on from: the newest in `folder` (`auto`), none (`never`), or the one named."""
    from transformers.trainer_utils import get_last_checkpoint

    if resume == "auto":
        return get_last_checkpoint(folder)
    if resume == "never":
        return None
    if not Path(resume, "trainer_state.json").exists():
        raise InputError(
            f"--resume {resume}: not a checkpoint folder; auto takes the newest of the run, never starts anew"
        )
    return resume
