"""Text files that are whole at any time: what dies or finds the disk full leaves the old content or all of the new."""

from __future__ import annotations

import os
from pathlib import Path

PARTIAL = ".partial"  # ends the name of a file that is being written


def write_whole(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, line ends as they are. A symbolic link stays one. Raises OSError, the old file intact."""
    path = Path(path).resolve()
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: str | Path) -> None:
    """Makes a file or folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
