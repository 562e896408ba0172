"""What is only for show, after the result is saved: each part fails alone, with a word."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def try_to_show(what: str, make: Callable[[], T]) -> tuple[T | None, str | None]:
    """What `make` returns and None; or None and one line that says what could not be made and why, which is printed.

    Only for what is made after weights and report are saved: any fault of it, whosever, must not cost the run.
    """
    try:
        return make(), None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        note = f"{what} could not be made: {type(error).__name__}{f': {reason}' if reason else ''}"
        print(f"warning: {note}", file=sys.stderr, flush=True)
        return None, note
