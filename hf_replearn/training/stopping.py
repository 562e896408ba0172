"""A run that is told to stop: SIGTERM of a scheduler, SIGINT of Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading


class StopSignals:
    """`with StopSignals() as signals`: `signals.received` instead of dying. A second SIGINT stops at once.

    Python only lets the main thread catch signals; elsewhere none are.
    """

    def __init__(self):
        self.received: signal.Signals | None = None

    def __enter__(self) -> StopSignals:
        self.earlier, self.process = {}, os.getpid()
        if threading.current_thread() is threading.main_thread():
            self.earlier = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if os.getpid() == self.process and os.environ.get("LOCAL_RANK", "0") == "0":
            more = " (Ctrl-C again stops now, without saving)" if number == signal.SIGINT else ""
            line = f"\ntold to stop: stopping after this step, which is saved{more}\n"
            os.write(2, line.encode())  # a print may be what was interrupted, and cannot be entered again


class Undisturbed:
    """Wraps a loader's `worker_init_fn`: schedulers and Ctrl-C signal all processes of a run, and a worker that died
    of it would take the run along before it has saved. Workers end when their process does, or ends them once it has
    set `over`: at its exit Python waits for them, having sent SIGTERM."""

    def __init__(self, inner, over):
        """over: a number that processes share, such as multiprocessing.RawValue("b", 0)."""
        self.inner, self.over = inner, over

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.inner is not None:
            self.inner(worker)

    def _receive(self, number: int, frame) -> None:
        if self.over.value:
            os._exit(0)
