"""What is watched during pretraining: the log, scores of a fixed sample, and the representation's health."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback

from hf_replearn.evaluation.health import diagnose
from hf_replearn.files import read_json_lines, write_whole
from hf_replearn.training.lanes import listed_in


class JSONLines(TrainerCallback):
    """Writes every log to `log.jsonl`, one JSON object a line; a resumed run goes on where its checkpoint was."""

    def __init__(self, folder: str):
        self.path = Path(folder, "log.jsonl")

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero and self.path.exists():
            entries, damaged = read_json_lines(self.path)  # a run that is killed may leave half a line
            if damaged > 1:
                warnings.warn(f"{self.path}: {damaged} lines are damaged, and left out from now on", stacklevel=2)
            resumed = state.global_step > 0  # what is there of a run that has to begin again is not of this one
            kept = [entry for entry in entries if resumed and entry["step"] <= state.global_step]
            write_whole(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


class HealthWarning(TrainerCallback):
    """Warns, once for each kind, of a representation that collapses or does not learn, and says which it is.

    directions: that the features of the sample can have, see `diagnose`.
    """

    def __init__(self, directions: int):
        self.directions, self.warned = directions, set()

    def on_log(self, args, state, control, logs=None, **kwargs):
        found = diagnose(state.log_history, directions=self.directions) if state.is_world_process_zero else None
        if found is not None and found[0] not in self.warned:
            self.warned.add(found[0])
            warnings.warn(f"step {state.global_step}: {found[1]}.", stacklevel=2)


class Estimate(TrainerCallback):
    """Says once, after some steps, how long the run will take, if that is long: before hours are spent."""

    def __init__(self, *, steps: int = 3, seconds: float = 20.0, long: float = 600.0):
        self.steps, self.seconds, self.long, self.begun, self.told = steps, seconds, long, None, False

    def on_step_end(self, args, state, control, **kwargs):
        now = (state.global_step, time.perf_counter())
        if self.begun is None:  # after the first step, which is slower than the others
            self.begun = now
        steps, seconds = (last - first for last, first in zip(now, self.begun, strict=True))
        if self.told or not steps or (steps < self.steps and seconds < self.seconds) or not state.is_world_process_zero:
            return
        self.told = True
        left = (state.max_steps - state.global_step) * seconds / steps
        if left > self.long:
            print(
                f"\n{state.max_steps - state.global_step:,} more steps will take about {_duration(left)} "
                f"({seconds / steps:.2g} s a step); fewer: --max_steps or --num_train_epochs; an end by the clock: "
                "--max_minutes",
                flush=True,
            )


def _duration(seconds: float) -> str:
    for unit, name in ((86400, "days"), (3600, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds / 60:.0f} minutes"


class Unusable(TrainerCallback):
    """Tells of the rows of a stream that could not be used, whenever the run is saved, as it is at its end.

    tell: called in the first process with those of all: what each is called, and why.
    """

    def __init__(self, tell: Callable[[list[list[str]]], None]):
        self.tell = tell

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.tell(listed_in(Path(args.output_dir, f"checkpoint-{state.global_step}")))


class SampleScores(TrainerCallback):
    """Scores of a fixed sample before training, every `steps` steps, and at the end. It only watches.

    measure:    () -> {name: value} of the model as it is; called in the first process alone, or
    everywhere: in every process, of which each holds a part of the model.
    """

    def __init__(
        self,
        measure: Callable[[], dict[str, float]],
        *,
        steps: int,
        log: Callable[[dict], None],
        everywhere: bool = False,
    ):
        self.measure, self.steps, self.log, self.everywhere = measure, steps, log, everywhere

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self._tell(state, control)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.steps == 0 or state.global_step == state.max_steps or control.should_training_stop:
            self._tell(state, control)

    def _tell(self, state, control) -> None:
        if state.is_world_process_zero or self.everywhere:
            logs_too = control.should_log  # which an event of its own would take for done
            found = self.measure()
            if found and state.is_world_process_zero:
                self.log(found)
            control.should_log = logs_too


class HeldOutLoss(TrainerCallback):
    """The loss on held-out rows every `steps` steps (0: never) and at the end.

    measure: () -> loss; called in every process.
    """

    def __init__(self, measure: Callable[[], float], *, steps: int, log: Callable[[dict], None]):
        self.measure, self.steps, self.log = measure, steps, log

    def on_step_end(self, args, state, control, **kwargs):
        at_end = state.global_step == state.max_steps or control.should_training_stop
        if at_end or (self.steps and state.global_step % self.steps == 0):
            loss, logs_too = self.measure(), control.should_log  # which an event of its own would take for done
            self.log({"held_out_loss": round(loss, 5), "held_out_perplexity": round(math.exp(min(loss, 100.0)), 3)})
            control.should_log = logs_too
