"""Whatever a user or a machine can cause ends in one line; what the program did not expect keeps its traceback."""

import errno
import signal
import time
from dataclasses import dataclass

import pytest

from hf_replearn.errors import InputError, NotPushed, Preempted, TrainingError, one_line_endings
from hf_replearn.settings import run, setting


@dataclass(kw_only=True)
class Settings:
    image_size: int = setting(8, "pixels", section="data")
    limit: int = setting(8, "examples", section="data")


def ending(capsys, error: BaseException, cause: BaseException | None = None) -> tuple[int, str]:
    """Exit code and what is printed when a command raises `error`."""

    def main(settings):
        raise error from cause

    with pytest.raises(SystemExit) as end:
        run(main, Settings, [])
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no images in 'empty'"), 2, "error: no images in 'empty'"),
        (InputError("two\nlines\r"), 2, "error: two lines"),
        (TrainingError("loss is NaN"), 1, "error: loss is NaN"),
        (Preempted("saved"), 75, "stopped: saved"),
        (NotPushed("push it later"), 69, "error: push it later"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/scores.json"),
            1,
            "error: the disk is full: make room, and run the same command again (out/scores.json)",
        ),
        (OSError(errno.EDQUOT, "over"), 1, "error: the quota of the disk is used up: make room, and run the same co"),
        (OSError(errno.EROFS, "ro"), 1, "error: the disk can only be read: choose another folder, and run the same c"),
        (RuntimeError("Error while serializing: No space left (os error 28)"), 1, "error: the disk is full"),
        (ValueError("Caught in a worker\nTraceback\npyarrow.lib.ArrowInvalid: JSON parse error: no value in row 7"), 1,
         "error: the data cannot be read any further (pyarrow.lib.ArrowInvalid: JSON parse error: no value in row 7)"),
        (EOFError("Compressed file ended before the end-of-stream marker was reached"), 1, "error: the data cannot be"),
        (RuntimeError("[gloo/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:25296. This is typic"), 1,
         "error: another process of this run has ended: see its own message"),
        (MemoryError(), 1, "error: out of memory: lower --image_size, --limit"),
        (
            MemoryError("Unable to allocate 7.28 TiB for an array"),
            1,
            "error: out of memory (7.28 TiB were asked for at once): lower --image_size, --limit",
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."), 1,
         "error: out of memory (99 bytes were asked for at once): lower --image_size"),
    ],
)  # fmt: skip
def test_one_line_and_an_exit_code(capsys, error, code, line):
    ended, printed = ending(capsys, error)
    assert ended == code
    assert printed.startswith(line)
    assert printed.count("\n") == 1


def test_the_reason_may_lie_behind_another_library_s_error(capsys):
    full = OSError(errno.ENOSPC, "No space left on device")
    code, printed = ending(capsys, RuntimeError("An error occurred while generating the dataset"), full)
    assert (code, "the disk is full" in printed) == (1, True)


def test_torch_s_out_of_memory_of_a_gpu(capsys):
    import torch

    code, printed = ending(capsys, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0"))
    assert (code, printed) == (
        1, "error: out of memory (20.00 MiB were asked for at once): lower --image_size, --limit\n"
    )  # fmt: skip


def test_a_long_value_does_not_fill_the_screen(capsys):
    _, printed = ending(capsys, InputError(f"--image_size {'9' * 100_000} is too large: lower it"))
    assert len(printed) < 1100
    assert printed.startswith("error: --image_size 999")
    assert printed.endswith("999 is too large: lower it\n")


def test_a_name_that_is_no_text_can_be_printed(capfd):
    assert (
        ending(capfd, InputError("image \udcff.jpg cannot be read"))[1] == "error: image \\udcff.jpg cannot be read\n"
    )


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOENT, "gone"), RuntimeError("a bug")])
def test_a_programming_error_keeps_its_traceback(error):
    def main(settings):
        raise error

    with pytest.raises(type(error)):
        run(main, Settings, [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_that_comes_while_an_object_is_deleted_is_not_lost(number, code, capsys):
    class Deleted:
        def __del__(self):
            signal.raise_signal(number)

    earlier, start = signal.signal(signal.SIGINT, signal.default_int_handler), time.monotonic()
    try:
        with pytest.raises(SystemExit) as end, one_line_endings():
            thing = Deleted()
            del thing
            time.sleep(20)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert end.value.code == code and time.monotonic() - start < 10
    assert capsys.readouterr().err.startswith("stopped by ")
