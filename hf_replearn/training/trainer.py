"""PretrainingTrainer: what transformers.Trainer lacks for representation learning."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerState

from hf_replearn.randomness import Place
from hf_replearn.training.cached_gradients import cached_gradient_step
from hf_replearn.training.throughput import peak_flops

Batch = dict[str, Tensor]


class PretrainingTrainer(Trainer):
    """Trainer whose collator has a second half on the training device, and whose loss may span a cached batch.

    make_optimizer: the optimizer of a model.
    views:          the collator's second half, (batch of the collator, Place) -> arguments of `model.forward`;
                    None: the collator's batch goes to the model as it is.
    micro_batch:    examples that go through the network at once. None: all of a batch. Otherwise the model's
                    `objective` sees the projections of the whole batch and its gradients are cached.
    schedule:       progress of the run in 0...1 -> factor on the learning rate; None: that of the arguments.
    max_minutes:    a time budget that ends the run, and is what the schedule's progress is a share of.
    targets:        how many items of the collator's batch have a loss: the loss is then the mean over those of all
                    micro-steps and processes, as if they were one batch. None: the mean of their means.
    flops:          of a training step per token, for the share of the device's peak in the log (MFU).

    Where the collator's batch has the `length` of each row, in tokens, the log has tokens.
    """

    def __init__(
        self,
        *args,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        views: Callable[[Batch, Place], Batch] | None = None,
        micro_batch: int | None = None,
        targets: Callable[[Batch], Tensor] | None = None,
        schedule: Callable[[float], float] | None = None,
        max_minutes: float | None = None,
        flops: float | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.make_optimizer, self.views, self.micro_batch = make_optimizer, views, micro_batch
        self.targets, self.schedule, self.max_minutes, self.flops = targets, schedule, max_minutes, flops
        self.add_callback(LastStep(self))
        self.spent = 0.0  # share of the time budget
        self.tokens: Tensor | int = 0  # of this process since the last log
        self.step_and_micro = (-1, 0)  # of the last micro-batch
        self.since: tuple[int, float] | None = None  # step and time of the last log
        self.representations = None  # of the last batch

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        """As Trainer's, but the checkpoint of a finished run is only loaded: Trainer would train one step more."""
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint, "trainer_state.json")))
            seconds = next((log["seconds"] for log in reversed(state.log_history) if "seconds" in log), 0.0)
            if state.global_step >= state.max_steps or seconds >= 60 * (self.max_minutes or math.inf):
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.make_optimizer(self.model if model is None else model)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        timed = self.max_minutes is not None
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer if optimizer is None else optimizer,
            lambda step: self.schedule(self.spent if timed else min((step + 0.5) / num_training_steps, 1.0)),
        )
        return self.lr_scheduler

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor | None:
        """What the sum of the losses is divided by."""
        if self.targets is None or not batch_samples:
            return super()._get_num_items_in_batch(batch_samples, device)
        return self.accelerator.reduce(sum(map(self.targets, batch_samples)).to(device))

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        inputs = super()._prepare_inputs(inputs)
        if "length" in inputs:
            self.tokens = self.tokens + inputs["length"].sum()
        if self.micro_batch is None and self.views is not None:
            step, micro_step = self.step_and_micro
            self.step_and_micro = self.state.global_step, micro_step + 1 if step == self.state.global_step else 0
            inputs = self.views(inputs, self._place(self.step_and_micro[1]))
        return inputs

    def _place(self, micro_step: int) -> Place:
        args = self.args
        return Place(args.seed, self.state.global_step, micro_step, args.process_index, args.world_size)

    def compute_loss(self, model: nn.Module, inputs: Batch, return_outputs: bool = False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        self.representations = outputs.get("pooler_output")
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch=None) -> Tensor:
        self.since = self.since or (self.state.global_step, time.perf_counter())
        if self.micro_batch is None:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)

        def project(batch: int) -> Tensor:
            part = {
                name: value[batch * self.micro_batch : (batch + 1) * self.micro_batch] for name, value in inputs.items()
            }
            with self.compute_loss_context_manager():
                outputs = model(**self.views(part, self._place(batch)), return_loss=False)
            self.representations = outputs.pooler_output
            return outputs.projections

        return cached_gradient_step(
            project,
            self.accelerator.unwrap_model(model).objective,
            batches=self.args.per_device_train_batch_size // self.micro_batch,
            model=model,
            backward=self.accelerator.backward,
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds seconds and tokens (of all parts of a resumed run), the speed, and the spread of the last batch."""
        if "loss" in logs:
            now = (self.state.global_step, time.perf_counter())
            seconds = now[1] - self.since[1]
            examples = (now[0] - self.since[0]) * self._examples_per_step()
            logs["examples_per_second"] = round(examples / seconds, 1)
            logs["seconds"] = round((self.last("seconds") or 0.0) + seconds, 2)
            if isinstance(self.tokens, Tensor):
                tokens = int(self.accelerator.reduce(self.tokens))
                logs["tokens"] = (self.last("tokens") or 0) + tokens
                logs["tokens_per_second"] = round(tokens / seconds, 1)
                logs["perplexity"] = round(math.exp(min(logs["loss"], 100.0)), 3)
                self.tokens = 0
                if self.flops and (peak := self._peak_flops()):
                    logs["mfu"] = round(self.flops * tokens / seconds / peak / self.args.world_size, 4)
            if self.representations is not None:
                logs["spread"] = round(spread(self.representations.detach()), 4)
            self.since = now
        super().log(logs, start_time)

    def _examples_per_step(self) -> int:
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def _peak_flops(self) -> float | None:
        return peak_flops(torch.cuda.get_device_name(self.args.device)) if self.args.device.type == "cuda" else None

    def last(self, name: str) -> float | None:
        """The last logged value of that name."""
        return next((log[name] for log in reversed(self.state.log_history) if name in log), None)

    def over_processes(self, measure: Callable[..., Tensor]) -> Callable[[], float]:
        """From a sum and a count of each process's part (2,) to the mean over all."""

        def mean() -> float:
            args = self.args
            with self.accelerator.autocast():
                part = measure(rank=args.process_index, world_size=args.world_size)
            total, count = self.accelerator.reduce(part.float().to(args.device)).tolist()
            return total / count

        return mean

    def progress(self) -> float:
        """The share of the run that is done, from 0 to 1."""
        return self.spent if self.max_minutes is not None else self.state.global_step / self.state.max_steps

    def seconds_trained(self) -> float:
        """In all parts of a resumed run."""
        return (self.last("seconds") or 0.0) + (0.0 if self.since is None else time.perf_counter() - self.since[1])

    def summary(self) -> dict[str, int | float | str | None]:
        """What the training took, for a report."""
        logs = self.state.log_history
        losses = [log["loss"] for log in logs if "loss" in log]
        speeds = [log["examples_per_second"] for log in logs if "examples_per_second" in log]
        device, world = self.args.device, self.args.world_size
        cores = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores"
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else cores
        return {
            "steps": self.state.global_step,
            "examples": self.state.global_step * self._examples_per_step(),
            "tokens": self.last("tokens"),
            "seconds": (self.last("seconds") or 0.0),
            "examples_per_second": statistics.median(speeds) if speeds else None,
            "final_loss": losses[-1] if losses else None,
            "hardware": name if world == 1 else f"{world} processes, each {name}",
        }


class LastStep(TrainerCallback):
    """Logs the last step, and ends the run when its minutes are spent. All processes go by the clock of the first."""

    def __init__(self, trainer: PretrainingTrainer):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if self.trainer.max_minutes is not None:
            spent = torch.tensor(self.trainer.seconds_trained() / (60 * self.trainer.max_minutes), device=args.device)
            self.trainer.spent = min(float(broadcast(spent)), 1.0)

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.spent >= 1:
            control.should_training_stop = control.should_save = True
        if self.trainer.spent >= 1 or state.global_step == state.max_steps:
            control.should_log = True


def spread(representations: Tensor) -> float:
    """Mean distance of the normalised representations (..., D) from their centre: 0 when all of them are one point.

    A representation that has collapsed gives every input the same features; its loss may look fine for long.
    """
    x = nn.functional.normalize(representations.float().flatten(0, -2), dim=-1)
    return (x - x.mean(0)).norm(dim=-1).mean().item()
