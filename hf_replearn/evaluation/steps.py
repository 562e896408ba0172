"""Steps of an evaluation: each says that it is at work, and one that cannot be computed takes no other with it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from hf_replearn.errors import Preempted

NOT_A_NUMBER = "it is not a number"
MOMENT, BEAT = 1.0, 4.0  # seconds before the first sign of life, and between two
# What a computation ends with that its data do not allow; linear algebra's own errors are among them.
FAILURES = (ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError)


@contextmanager
def at_work(what: str | None) -> Iterator[None]:
    """Says what is being done where it takes more than a moment, and how long it has taken: `k-shot … 5 s … 9.2 s`.

    what: None says nothing.
    """
    if what is None:
        yield
        return
    start, done, said = time.monotonic(), threading.Event(), threading.Event()

    def speak() -> None:
        wait = MOMENT
        while not done.wait(wait):
            seconds = f" {time.monotonic() - start:.0f} s …" if said.is_set() else f"{what} …"
            print(seconds, end="", flush=True)
            said.set()
            wait = BEAT

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()
        if said.is_set():
            print(f" {time.monotonic() - start:.1f} s", flush=True)


def alone(
    compute: Callable[[], dict[str, Any]], *, metrics: Sequence[str], what: str | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """What `compute` finds, {metric: value or outcomes}, and {metric: reason} for those of `metrics` that it does not.

    A value that is not finite is no score, and is left out with that reason. A run that was told to stop stops.
    """
    with at_work(what):
        try:
            found = compute()
        except Preempted:
            raise
        except FAILURES as error:
            return {}, dict.fromkeys(metrics, reason(error))
    broken = {name for name, value in found.items() if not _finite(value)}
    missing = dict.fromkeys(sorted(broken), NOT_A_NUMBER)
    return {name: value for name, value in found.items() if name not in broken}, missing


def reason(error: Exception) -> str:
    """One line that says why something could not be computed."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _finite(value: Any) -> bool:
    if value is None:  # an interval that says nothing
        return True
    return bool(value.isfinite().all()) if isinstance(value, torch.Tensor) else math.isfinite(value)
