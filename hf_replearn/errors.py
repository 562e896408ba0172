"""How a run ends other than well: one line that says what to do, and an exit code. What the program itself did not
expect keeps its traceback (exit code 1)."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

NO_ROOM = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the quota of the disk is used up: make room",
    errno.EROFS: "the disk can only be read: choose another folder",
}
LINE = 1000  # characters of a message at most


class InputError(ValueError):
    """Bad settings or data. The message is one line that names the offending value and what to do.

    Recipes end with exit code 2 and this line, without a traceback, before any training has started.
    """

    exit_code = 2


class TrainingError(RuntimeError):
    """The training cannot go on: a loss that is not finite, a checkpoint that cannot be written."""

    exit_code = 1


class Preempted(TrainingError):
    """Told to stop by SIGTERM or SIGINT, and saved: the same command goes on (75 is EX_TEMPFAIL of sysexits.h)."""

    exit_code = 75


class NotPushed(TrainingError):
    """All is on disk, but the Hub did not take it (69 is EX_UNAVAILABLE of sysexits.h)."""

    exit_code = 69


class Terminated(KeyboardInterrupt):
    """SIGTERM outside training, where nothing but this process's memory is lost. No `except Exception` stops it."""


@contextmanager
def one_line_endings(settings: Collection[str] = ()) -> Iterator[None]:
    """Ends the process with one line and an exit code where what goes wrong is not a fault of the program.

    settings: names of the command's settings, of which those that need memory are named when there is too little.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # no name of a file and no narrow terminal ends a run
    earlier, hook = None, sys.unraisablehook
    sys.unraisablehook = _signal_again
    if threading.current_thread() is threading.main_thread():
        earlier = signal.signal(signal.SIGTERM, _Terminate())
    try:
        yield
    except (InputError, TrainingError) as error:
        _end(f"{'stopped' if isinstance(error, Preempted) else 'error'}: {error}", error.exit_code)
    except KeyboardInterrupt as error:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # from here on one more is at once the end
        name, code = ("SIGTERM", Preempted.exit_code) if isinstance(error, Terminated) else ("Ctrl-C", 130)
        _end(f"stopped by {name}: what was written is kept; run the same command again to go on", code)
    except Exception as error:
        reason = no_room(error) or too_little_memory(error, settings) or damaged_data(error) or lost_process(error)
        if reason is None:
            raise
        _end(f"error: {reason}", TrainingError.exit_code)
    finally:
        sys.unraisablehook = hook
        if earlier is not None:
            signal.signal(signal.SIGTERM, earlier)


def no_room(error: BaseException) -> str | None:
    """What to do where an exception, or one that it came from, tells of a disk that takes nothing more; else None."""
    for cause in _causes(error):
        number = cause.errno if isinstance(cause, OSError) else None
        if found := re.search(r"\(os error (\d+)\)", str(cause)):  # of libraries in Rust
            number = int(found[1])
        if number in NO_ROOM:
            place = f" ({cause.filename})" if getattr(cause, "filename", None) else ""
            return f"{NO_ROOM[number]}, and run the same command again{place}"
    return None


def too_little_memory(error: BaseException, settings: Collection[str] = ()) -> str | None:
    """What to do where an exception, or one that it came from, tells of too little memory; else None."""
    for cause in _causes(error):
        named = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"  # torch's, of any device
        if named or "can't allocate memory" in str(cause):
            greedy = [f"--{name}" for name in NEED_MEMORY if name in settings]
            asked = re.search(r"(?i)(?:tried to|unable to) allocate ([\d.,]+ ?\w+)", str(cause))
            much = f" ({asked[1]} were asked for at once)" if asked else ""
            return f"out of memory{much}: lower {', '.join(greedy) or 'what is held at once'}"
    return None


def damaged_data(error: BaseException) -> str | None:
    """What to do where a stream, of which only the beginning is looked at, comes to a place that is not readable."""
    for cause in _causes(error):
        if found := re.search(rf"[^\n]*({'|'.join(DAMAGED)})[^\n]*", str(cause)):
            return (
                f"the data cannot be read any further ({found[0].strip()}): mend the file, or leave it out with --files"
            )
    return None


# What pyarrow, gzip, bz2, lzma and codecs say of damaged files.
DAMAGED = (
    "JSON parse error", "Compressed file ended before", "Not a gzipped file", "CRC check failed", "Invalid data stream",
    "Corrupt input data", "codec can't decode byte", "while decompressing data",
)  # fmt: skip


def lost_process(error: BaseException) -> str | None:
    """What is told where this process waited for one that has ended, which said why itself; else None."""
    gone = r"(?i)connection (closed|reset) by peer|remote (worker crashing|process exited)"  # gloo, NCCL
    lost = any(isinstance(cause, RuntimeError) and re.search(gone, str(cause)) for cause in _causes(error))
    return "another process of this run has ended: see its own message" if lost else None


NEED_MEMORY = (
    "per_device_train_batch_size", "image_size", "sequence_length", "max_length", "vocab_size", "train_examples",
    "test_examples", "limit", "dataloader_num_workers",
)  # fmt: skip


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _end(line: str, code: int) -> None:
    if not os.environ.get("LOCAL_RANK", "0").strip("0").isdigit():  # the first process of a machine, or the only one
        line = " ".join(line.split("\n")).replace("\r", " ")
        line = line if len(line) <= LINE else f"{line[: LINE // 2]} ... {line[-LINE // 2 :]}"
        print(line, file=sys.stderr, flush=True)
    sys.exit(code)


def _signal_again(lost: sys.UnraisableHookArgs) -> None:
    """A signal that came while an object was deleted is an exception that Python prints and forgets: it comes again."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        return sys.__unraisablehook__(lost)
    number = signal.SIGTERM if issubclass(lost.exc_type, Terminated) else signal.SIGINT
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()


class _Terminate:
    """Handles SIGTERM in the process that installed it. Children, which inherit it, end as they always would."""

    def __init__(self):
        self.process = os.getpid()

    def __call__(self, number: int, frame) -> None:
        if os.getpid() == self.process:
            raise Terminated
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
