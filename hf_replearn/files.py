"""Text files that are whole at any time: what dies or finds the disk full leaves the old content or all of the new.
And logs of JSON lines, which grow line by line, so that a crash or a bad disk may damage some."""

from __future__ import annotations

import json
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


def read_json_lines(path: str | Path) -> tuple[list[dict], int]:
    """The JSON objects with a whole number `step`, one a line, and how many other lines there are. Raises OSError."""
    found, damaged = [], 0
    for line in Path(path).read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict) and type(entry.get("step")) is int:
            found.append(entry)
        else:
            damaged += bool(line.strip())
    return found, damaged
