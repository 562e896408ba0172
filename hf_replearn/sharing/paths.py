"""What is shared does not tell where it lay: a local path is shown as its last part."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePath
from typing import Any

LOCAL = re.compile(r"(/|~|\.\.?/|[A-Za-z]:[\\/]).*\S")
IN_TEXT = re.compile(r"(?<![\w.~/:\\-])(?:~|/)(?:[\w.@+-]+/)+[\w.@+-]+")  # two parts at least, no address of the web
AS_THEY_ARE = ("samples", "said", "neighbours", "bibtex")  # of the data: a path in it is no path of this machine


def local_paths(settings: Any) -> set[str]:
    """The values in `settings`, however deep, that are paths from the root, from home, or up and down from here."""
    if isinstance(settings, dict):
        settings = [value for key, value in settings.items() if key not in AS_THEY_ARE]
    if isinstance(settings, list | tuple):
        return set().union(*map(local_paths, settings))
    local = isinstance(settings, str) and "\n" not in settings and LOCAL.fullmatch(settings)
    return {settings} if local and last_part(settings) else set()


def last_part(path: str) -> str:
    """`images` of /home/me/images/ or C:\\data\\images."""
    return PurePath(path.replace("\\", "/").rstrip("/")).name


def without_paths(value: Any, known: Collection[str], *, guess: bool = True) -> Any:
    """`value` with the last part in the place of each path that is known, and, to `guess`, that looks like one."""
    if isinstance(value, dict):
        skipped = AS_THEY_ARE if guess else ()
        return {k: v if k in skipped else without_paths(v, known, guess=guess) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item, known, guess=guess) for item in value]
    if not isinstance(value, str):
        return value
    for path in sorted(known, key=len, reverse=True):
        value = re.sub(rf"(?<![\w/]){re.escape(path)}(?!\w)", lambda _, path=path: last_part(path), value)
    return IN_TEXT.sub(lambda found: last_part(found[0]), value) if guess else value
