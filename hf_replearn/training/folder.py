"""The folder of a run: it belongs to one run, and what is wrong with it is found out before training."""

from __future__ import annotations

import atexit
import errno
import fcntl
import tempfile
import warnings
from collections.abc import Collection
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hf_replearn.errors import InputError
from hf_replearn.files import PARTIAL, write_whole
from hf_replearn.settings import RunSettings, as_dict, short, to_yaml
from hf_replearn.strict_yaml import as_data, read_mapping
from hf_replearn.training.checkpoints import newest, problem, read_manifest, step_of

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from hf_replearn.training.settings import PretrainingSettings

FILE, LOCK = "recipe.yaml", ".lock"
# How a run is carried out; all other settings decide what comes out of it.
INCIDENTAL = {
    "output_dir", "resume", "report_to", "push_to_hub", "hub_model_id", "hub_private_repo",
    "license", "language", "tags",
    "add_to_card", "logging_steps", "save_steps", "save_total_limit", "dataloader_num_workers", "data_on_device",
    "allow_change", "on_nonfinite", "max_skipped", "knn_steps", "samples", "strict", "sts",
}  # fmt: skip
OWNERS = ("README.md", ".gitattributes", ".git")  # of a repository that was made before the run
NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini", "lost+found", ".gitkeep", ".gitignore"}  # of systems, not of a run
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of file systems without locks
_locks: dict[str, Any] = {}  # open files, by folder: a lock ends with its process, however that ends


def check_folder(settings: RunSettings, *, free: Collection[str] = ()) -> None:
    """Makes `output_dir`. Raises InputError when it cannot be written, holds something else than this run, or another
    process is at work in it. Settings with `allow_change` may let the run go on with others than it began with.

    free: names of settings that may always be others, such as the number of repetitions.
    """
    folder, allowed = Path(settings.output_dir), getattr(settings, "allow_change", None)
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--output_dir {folder} is a file: choose another name")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permissions do not tell of a read-only disk
            pass
        earlier = folder / FILE
        if earlier.exists():
            what = f"--output_dir {folder} belongs to another run,"
            then = _with_defaults(_read(earlier), as_dict(settings), settings)
            _refuse_changes(what, then, as_dict(settings), allowed, free)
        elif any(not _is_nobodys(path.name) for path in folder.iterdir()):
            raise InputError(f"--output_dir {folder} is not empty and holds no run ({FILE}): choose another folder")
        _lock(folder)
    except OSError as error:
        raise InputError(f"--output_dir {folder}: {error.strerror}") from error


def _is_nobodys(name: str) -> bool:
    if name in OWNERS or name.split(".")[0] == "LICENSE":  # a card and a license may be written before the run
        return True
    return name == LOCK or name.endswith(PARTIAL) or name.startswith("._") or name in NOBODYS


def _read(file: Path) -> dict[str, Any]:
    try:
        return {key: as_data(node) for key, node in read_mapping(str(file), name=str(file)).items()}
    except (InputError, yaml.YAMLError) as error:
        raise InputError(
            f"{' '.join(str(error).split())}: choose another folder, or put the file back, which the command of that "
            "run writes with --print_config"
        ) from error


def _with_defaults(then: dict[str, Any], now: dict[str, Any], settings: RunSettings) -> dict[str, Any]:
    """What an earlier version wrote, with the names of `now`: a setting that it did not have had no effect, as
    its default says. One that is no more is left out, with a warning."""
    if gone := sorted(then.keys() - now.keys() - INCIDENTAL):
        place = settings.output_dir
        warnings.warn(f"{place} was begun with what this version does not have: {', '.join(gone)}", stacklevel=3)
    defaults = {spec.name: spec.default for spec in fields(settings) if spec.default is not MISSING}
    defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
    return {name: then.get(name, defaults.get(name, value)) for name, value in now.items()}


def of_earlier_start(settings: RunSettings, name: str) -> Any:
    """The value that a setting had when this run was started before; None where it was not."""
    earlier = Path(settings.output_dir, FILE)
    return _read(earlier).get(name) if earlier.exists() else None


def claim_folder(settings: RunSettings) -> None:
    """Writes every resolved setting to `recipe.yaml`: from now on the folder is this run's."""
    write_whole(Path(settings.output_dir, FILE), to_yaml(settings))


def circumstances(settings: PretrainingSettings, *, data: str, processes: int) -> dict[str, Any]:
    """What the weights of a run depend on, as JSON values. data: fingerprint of the data to train on."""
    from hf_replearn.training.sharding import asked_layout

    chosen = {name: value for name, value in as_dict(settings).items() if name not in INCIDENTAL}
    if "bf16" in chosen:
        chosen["bf16"] = settings.in_bfloat16  # on another machine the default may be another
    return chosen | {"data": data, "processes": processes, "sharding": str(asked_layout(processes) or "none")}


def find_checkpoint(
    settings: PretrainingSettings, circumstances: dict[str, Any], *, args: TrainingArguments
) -> str | None:
    """The checkpoint to go on from: the newest good one (`auto`), none (`never`), or the one named, if it is good.

    The first process looks, and sets aside what is not good. Raises InputError where the checkpoint named is not good,
    or was made under other circumstances than these, unless that is allowed.
    """
    if settings.resume == "never":
        return None
    import torch
    from accelerate.utils import broadcast

    step = -1
    if args.process_index == 0:
        found = _look(settings)
        if found is not None:
            then = _with_defaults(read_manifest(found)["circumstances"], circumstances, settings)
            if then.get("bf16", False) is None:  # an earlier version, which did not write what the hardware decided
                then["bf16"] = circumstances["bf16"]
            _refuse_changes(f"{found} is from another run,", then, circumstances, settings.allow_change)
            step = step_of(found)
    if args.world_size > 1:
        step = int(broadcast(torch.tensor(step, device=args.device)))
    if step < 0:
        return None
    return str(Path(settings.output_dir, f"checkpoint-{step}")) if settings.resume == "auto" else settings.resume


def _look(settings: PretrainingSettings) -> Path | None:
    if settings.resume == "auto":
        return newest(settings.output_dir)
    named = Path(settings.resume)
    if not named.is_dir():
        raise InputError(
            f"--resume {named}: not a checkpoint folder; auto takes the newest of the run, never starts anew"
        )
    if (reason := problem(named)) is not None:
        raise InputError(f"--resume {named}: not a checkpoint folder that can be used: {reason}")
    return named


def _refuse_changes(
    what: str, then: dict[str, Any], now: dict[str, Any], allowed: bool | None, free: Collection[str] = ()
) -> None:
    """allowed: None where there is no setting to ask for it."""
    changes = [
        f"{name} {short(then.get(name))} instead of {short(now.get(name))}"
        for name in sorted((then.keys() | now.keys()) - INCIDENTAL - set(free))
        if then.get(name) != now.get(name)
    ]
    if changes and not allowed:
        choices = "choose another folder, or the same settings and data to go on with it"
        raise InputError(f"{what} with {', '.join(changes)}: {choices}{', or --allow_change' * (allowed is not None)}")
    if changes:
        warnings.warn(f"{what} with {', '.join(changes)}: it goes on, as --allow_change says", stacklevel=2)


def _lock(folder: Path) -> None:
    """Two runs at once in one folder would spoil each other."""
    key = str(folder.resolve())
    if key in _locks:
        return
    file = (folder / LOCK).open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            warnings.warn(f"{folder} is on a file system without locks: start no second run in it", stacklevel=2)
        else:
            file.close()
            raise InputError(f"--output_dir {folder}: another process is at work in it (it holds {LOCK})") from error
    atexit.register(file.close)
    _locks[key] = file
