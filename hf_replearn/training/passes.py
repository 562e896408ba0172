"""A fit in passes over the data that can be killed at any time: its state is sealed as that of a trainer is, and the
run that goes on from it ends with the same bits."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_replearn.errors import TrainingError
from hf_replearn.files import read_json_lines, write_whole
from hf_replearn.training.checkpoints import rotate, seal, step_of
from hf_replearn.training.launch import check_alone, check_launch

STATE, PROGRESS = "state.safetensors", "progress.json"


@dataclass(frozen=True)
class Process:
    """What of TrainingArguments is asked of one process, which does all, or of several that share a fit."""

    device: torch.device
    process_index: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        return self.process_index == 0

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process does what is inside before the others do it."""
        if not self.is_first:
            dist.barrier()
        yield
        if self.is_first and self.world_size > 1:
            dist.barrier()


def on_cpus() -> Process:
    """This process, of as many as were launched, which get to know one another. Raises InputError where others were
    asked for than there are."""
    found = Process(torch.device("cpu"))
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        state = PartialState(cpu=True)
        found = Process(torch.device("cpu"), state.process_index, state.num_processes)
    check_launch(found)
    return found


def alone(*, use_cpu: bool) -> Process:
    """Where a fit is done. Raises InputError where several processes were launched: a fit is of one."""
    check_alone()
    device = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    return Process(device or torch.device("cpu"))


@dataclass
class Passes:
    """The passes of one fit.

    fit:           `begin`, `go_on`, `has_converged`, `passes`, see `pretraining.recipe.fitted.FittedMethod`.
    write:         (state, folder) writes the encoder as it is by then, so that a checkpoint can be exported.
    circumstances: what the state depends on. save_steps: passes between two checkpoints; keep: how many are kept.
    writes:        of several processes, all of which do every pass, the first writes what there is to write.
    """

    fit: Any
    examples: Any
    folder: Path
    write: Callable[[dict[str, Tensor], Path], None]
    circumstances: dict[str, Any]
    seed: int
    save_steps: int
    keep: int
    device: torch.device
    writes: bool = True
    done: int = 0
    seconds: float = 0.0

    def run(self, checkpoint: str | None) -> dict[str, Tensor]:
        """The state after the last pass. checkpoint: to go on from; None: from the start.

        Raises TrainingError where the state comes to be not finite: nothing of it is saved.
        """
        self.begun = time.perf_counter()
        state = self._start(checkpoint)
        while self.done < self.fit.passes and not (self.done and self.fit.has_converged(state)):
            self.done += 1
            measured = self.fit.go_on(state, self.examples, self._generator(self.done))
            bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
            if bad:
                raise TrainingError(
                    f"pass {self.done}: {', '.join(bad)} came to be not finite: lower the learning rate, if there is "
                    "one, or look for numbers in the data that are far larger than the others"
                )
            self._log(measured)
            if self.done % self.save_steps == 0:
                self._save(state)
        if not Path(self.folder, f"checkpoint-{self.done}").exists():
            self._save(state)
        self.seconds += time.perf_counter() - self.begun
        return state

    def _start(self, checkpoint: str | None) -> dict[str, Tensor]:
        self._keep_log(0 if checkpoint is None else step_of(checkpoint))
        if checkpoint is None:
            return self.fit.begin(self.examples, self._generator(0))
        self.done = step_of(checkpoint)
        self.seconds = json.loads(Path(checkpoint, PROGRESS).read_text())["seconds"]
        loaded = load_file(Path(checkpoint, STATE), device=str(self.device))
        # Into memory of their own: where the file lies in memory, numbers do not begin at multiples of 64 bytes, and
        # sums over them are then rounded in another order.
        return {name: tensor.clone() for name, tensor in loaded.items()}

    def _generator(self, number: int) -> torch.Generator:
        """Of the random numbers of one pass, whichever passes were done in this process."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + number)

    def _log(self, measured: dict[str, float]) -> None:
        if not self.writes:
            return
        line = {"step": self.done, **measured, "seconds": self.seconds + time.perf_counter() - self.begun}
        with Path(self.folder, "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _keep_log(self, step: int) -> None:
        path = Path(self.folder, "log.jsonl")
        if self.writes and path.exists():
            kept = [entry for entry in read_json_lines(path)[0] if entry["step"] <= step and step]
            write_whole(path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def _save(self, state: dict[str, Tensor]) -> None:
        if not self.writes:
            return
        place = Path(self.folder, f"checkpoint-{self.done}")
        place.mkdir(exist_ok=True)
        self.write(state, place)
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, place / STATE)
        (place / PROGRESS).write_text(json.dumps({"seconds": self.seconds + time.perf_counter() - self.begun}))
        seal(place, self.circumstances)
        rotate(self.folder, keep=self.keep, newest=place)

    def summary(self, *, examples: int) -> dict[str, Any]:
        """What the fit took, for a report. examples: of a pass."""
        path = Path(self.folder, "log.jsonl")
        losses = [entry["loss"] for entry in (read_json_lines(path)[0] if path.exists() else []) if "loss" in entry]
        cores = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
        return {
            "steps": self.done,
            "examples": self.done * examples,
            "seconds": self.seconds,
            "examples_per_second": self.done * examples / max(self.seconds, 1e-9),
            "final_loss": losses[-1] if losses else None,
            "hardware": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else cores,
        }
