"""What is watched during pretraining: the log, the representation's health, and its kNN accuracy."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback

from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.steps import alone
from hf_replearn.files import read_json_lines, write_whole
from hf_replearn.representation import Features
from hf_replearn.training.trainer import COLLAPSED


class JSONLines(TrainerCallback):
    """Writes every log to `log.jsonl`, one JSON object a line; a resumed run goes on where its checkpoint was."""

    def __init__(self, folder: str):
        self.path = Path(folder, "log.jsonl")

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero and self.path.exists():
            entries, damaged = read_json_lines(self.path)  # a run that is killed may leave half a line
            if damaged > 1:
                warnings.warn(f"{self.path}: {damaged} lines are damaged, and left out from now on", stacklevel=2)
            kept = [entry for entry in entries if entry["step"] <= state.global_step]
            write_whole(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero:
            with self.path.open("a") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


class CollapseWarning(TrainerCallback):
    """Warns, once, when the representations of a batch have nearly become one point (`spread` in the log)."""

    def __init__(self, threshold: float = COLLAPSED):
        self.threshold, self.warned = threshold, False

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not self.warned and logs.get("spread", 1.0) < self.threshold and state.is_world_process_zero:
            self.warned = True
            warnings.warn(
                f"step {state.global_step}: the representation has collapsed (spread {logs['spread']}): every input "
                "gets nearly the same features. Lower the learning rate or raise the temperature.",
                stacklevel=2,
            )


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


class OnlineKNN(TrainerCallback):
    """kNN accuracy on labelled data every `steps` steps. It only watches: the labels never reach the loss.

    features: () -> (train, test) Features of the encoder as it is now.
    """

    def __init__(self, features: Callable[[], tuple[Features, Features]], *, steps: int, log: Callable[[dict], None]):
        self.features, self.steps, self.log = features, steps, log

    def on_step_end(self, args, state, control, **kwargs):
        due = state.global_step % self.steps == 0 or state.global_step == state.max_steps
        if due and state.is_world_process_zero:
            logs_too = control.should_log  # which an event of its own would take for done
            found, missing = alone(lambda: knn(*self.features(), k=20), metrics=["knn@20"])
            for metric, reason in missing.items():  # the training itself says whether it can go on
                warnings.warn(f"step {state.global_step}: no {metric}: {reason}", stacklevel=2)
            if found:
                self.log({name: round(value, 4) for name, value in found.items()})
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
