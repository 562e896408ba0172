"""Processes forked from one that has imported everything: a run takes two seconds instead of fifteen."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState


@dataclass
class Processes:
    """The processes of a run, by rank, and where what they print goes."""

    ids: list[int]
    log: Path

    def wait(self, timeout: float = 600) -> list[int]:
        """Exit codes, negative for signals. Kills what is left after `timeout` seconds and raises TimeoutError."""
        codes: dict[int, int] = {}
        until = time.monotonic() + timeout
        while len(codes) < len(self.ids):
            for process in set(self.ids) - codes.keys():
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    codes[process] = os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                for process in set(self.ids) - codes.keys():
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                raise TimeoutError(f"still running after {timeout} s:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.01)
        return [codes[process] for process in self.ids]

    def printed(self) -> str:
        return self.log.read_text()


def start(main: Callable[[], None], log: Path, *, processes: int = 1) -> Processes:
    """Calls main() in so many processes, each told its rank as torchrun does."""
    port = _free_port()
    if processes > 1:
        vars(PartialState()).clear()  # which remembers, from a run in this process, that it is alone
    sys.stdout.flush()
    sys.stderr.flush()
    ids = []
    for rank in range(processes):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                _redirect(log)
                if processes > 1:
                    _as_rank(rank, processes, port)
                main()
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                for worker in multiprocessing.active_children():  # as at the end of every process but this
                    worker.terminate()
                os._exit(code)
        ids.append(process)
    return Processes(ids, log)


def _redirect(log: Path) -> None:
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))  # and not pytest's
    warnings.showwarning = lambda message, *where: print(f"warning: {message}", file=sys.stderr)


def _as_rank(rank: int, processes: int, port: int) -> None:
    """What torchrun tells a process."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
