"""Code of somebody who has not installed this package.

Each piece runs in a process of its own in which hf_replearn cannot be imported. They are forked from a process that has
imported once what loads models: that takes longer than most pieces.
"""

import multiprocessing
import os
import sys
import traceback
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["transformers.models.auto.modeling_auto", "timm", "sentence_transformers"])


class Hidden:
    """A finder of modules that says of hf_replearn that it is not there."""

    def find_spec(self, name, *_):
        if name.split(".")[0] == "hf_replearn":
            raise ImportError("this process is without hf_replearn")


def run(code: str, *arguments, folder: Path) -> str:
    """What it printed. arguments: its sys.argv[1:]. folder: where it runs, and where what it prints is kept."""
    process = PROCESSES.Process(target=_run, args=(code, list(map(str, arguments)), str(folder)))
    process.start()
    process.join(300)
    assert process.exitcode == 0, (folder / "errors_elsewhere.txt").read_text()[-3000:]
    return (folder / "printed_elsewhere.txt").read_text()


def _run(code: str, arguments: list[str], folder: str) -> None:
    os.chdir(folder)
    for stream, name in ((1, "printed"), (2, "errors")):
        os.dup2(os.open(f"{name}_elsewhere.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    assert not any(name.split(".")[0] == "hf_replearn" for name in sys.modules)
    sys.meta_path.insert(0, Hidden())
    sys.argv = ["-c", *arguments]
    try:
        exec(code, {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
