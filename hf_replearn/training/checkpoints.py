"""Sealed checkpoints: one is used only if every byte of it is as it was saved.

A save ends with `manifest.json`: size and SHA-256 of every file, and what the run depended on. It is written last, and
only when all the rest has reached the disk. Directories are never renamed while they are written (on shared file
systems that is a race): what has no manifest is no checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.files import PARTIAL, sync, write_whole

MANIFEST = "manifest.json"
UNFINISHED = "checkpoint-is-incomplete.txt"  # transformers' own mark, which it does not read
NOTE = "why_not_used.txt"


def seal(checkpoint: str | Path, circumstances: dict[str, Any]) -> None:
    """Writes the manifest of a directory whose files are complete. `circumstances`: JSON values."""
    checkpoint = Path(checkpoint)
    files = {path.relative_to(checkpoint).as_posix(): path for path in sorted(checkpoint.rglob("*")) if path.is_file()}
    left_over = {name for name in files if name in (MANIFEST, NOTE) or name.endswith(PARTIAL)}
    content = {
        "files": {name: _described(path) for name, path in files.items() if name not in left_over},
        "circumstances": circumstances,
    }
    for folder in {path.parent for path in files.values()} | {checkpoint, checkpoint.parent}:
        sync(folder)
    write_whole(checkpoint / MANIFEST, _sealed(content))


def problem(checkpoint: str | Path) -> str | None:
    """Why a checkpoint must not be used; None when every file is as it was saved."""
    checkpoint = Path(checkpoint)
    if (checkpoint / UNFINISHED).exists():
        return f"its save was cut short ({UNFINISHED})"
    try:
        files = read_manifest(checkpoint)["files"]
    except FileNotFoundError:
        return f"its save was cut short (no {MANIFEST})"
    except ValueError:
        return f"{MANIFEST} is damaged"
    for name, saved in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != saved["size"]:
            return f"{name} has {path.stat().st_size} bytes instead of {saved['size']}"
        if _digest(path) != saved["sha256"]:
            return f"{name} is damaged: its bytes are not those that were saved"
    return None


def read_manifest(checkpoint: str | Path) -> dict[str, Any]:
    """`files` and `circumstances`. Raises FileNotFoundError without one, ValueError when a bit of it has changed."""
    data = Path(checkpoint, MANIFEST).read_bytes()
    try:
        content = json.loads(data)
        content.pop("seal")
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{MANIFEST} is none of ours") from error
    if _sealed(content).encode() != data:
        raise ValueError(f"{MANIFEST} has changed")
    return content


def checkpoints(folder: str | Path) -> list[Path]:
    """All checkpoint directories of a run, good or not, the newest first."""
    found = [path for path in Path(folder).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in found if path.is_dir()), key=step_of, reverse=True)


def step_of(checkpoint: str | Path) -> int:
    return int(Path(checkpoint).name.rpartition("-")[2])


def newest(folder: str | Path) -> Path | None:
    """The newest checkpoint that verifies. Newer ones that do not are set aside with the reason, and warned of."""
    for checkpoint in checkpoints(folder):
        reason = problem(checkpoint)
        if reason is None:
            return checkpoint
        place = set_aside(checkpoint, reason)
        warnings.warn(f"{checkpoint} is not used: {reason}. It is kept as {place}", stacklevel=2)
    return None


def set_aside(checkpoint: Path, reason: str) -> Path:
    """Notes the reason in the directory and returns where it now is; nothing is deleted.

    A save that was cut short stays, to be done again. What was once sealed is evidence of a failing disk or memory: it
    gets another name, so that the run, which comes to the same step again, does not write over it.
    """
    if (checkpoint / MANIFEST).exists():
        number = 1
        while (place := checkpoint.with_name(f"damaged-{checkpoint.name}{f'-{number}' * (number > 1)}")).exists():
            number += 1
        checkpoint = checkpoint.rename(place)
    (checkpoint / NOTE).write_text(reason + "\n")
    return checkpoint


def rotate(folder: str | Path, *, keep: int, newest: str | Path) -> None:
    """Removes what is older than the `keep` newest sealed checkpoints up to `newest`, which must verify."""
    older = [path for path in checkpoints(folder) if step_of(path) <= step_of(newest)]
    sealed = [path for path in older if (path / MANIFEST).exists()]
    removed = older[older.index(sealed[keep - 1]) + 1 :] if len(sealed) >= keep else []
    if removed and (reason := problem(newest)) is not None:
        raise OSError(f"it does not hold what was written: {reason}")
    for path in removed:
        (path / MANIFEST).unlink(missing_ok=True)  # first: from here on it is no checkpoint
        shutil.rmtree(path)


def check_room(folder: str | Path, *, checkpoint: int, keep: int) -> None:
    """Raises InputError when there is no room for `keep` checkpoints of so many bytes, one more while it is written,
    and what is shared at the end. A quota and a largest file size do not show as free bytes: they are asked for."""
    there = sum(_bytes(path) for path in checkpoints(folder))
    needed = max(checkpoint, (keep + 2) * checkpoint - there)
    free = shutil.disk_usage(folder).free
    asked = f"--output_dir {folder} needs {_shown(needed)} ({needed} bytes) for checkpoints and the result"
    if needed > free:
        raise InputError(f"{asked}, and {_shown(free)} ({free} bytes) are free: make room, or lower --save_total_limit")
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if largest != resource.RLIM_INFINITY and largest < checkpoint:
        raise InputError(f"{asked}, but a file may have {_shown(largest)} at most ({largest} bytes, `ulimit -f`)")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, checkpoint)
    except OSError as error:
        raise InputError(f"{asked}; {_shown(free)} ({free} bytes) are free, but: {error.strerror}") from error


def _sealed(content: dict[str, Any]) -> str:
    text = json.dumps(content, indent=1, sort_keys=True)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(content | {"seal": seal}, indent=1, sort_keys=True) + "\n"


def _described(path: Path) -> dict[str, Any]:
    digest = _digest(path)
    sync(path)
    return {"size": path.stat().st_size, "sha256": digest}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
