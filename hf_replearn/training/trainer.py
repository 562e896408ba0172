"""PretrainingTrainer: what transformers.Trainer lacks for representation learning."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerState

from hf_replearn.randomness import Place
from hf_replearn.training.cached_gradients import cached_gradient_step

Batch = dict[str, Tensor]


class PretrainingTrainer(Trainer):
    """Trainer whose collator has a second half on the training device, and whose loss may span a cached batch.

    make_optimizer: the optimizer of a model.
    views:          the collator's second half, (batch of the collator, Place) -> arguments of `model.forward`;
                    None: the collator's batch goes to the model as it is.
    micro_batch:    examples that go through the network at once. None: all of a batch. Otherwise the model's
                    `objective` sees the projections of the whole batch and its gradients are cached.
    """

    def __init__(
        self,
        *args,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        views: Callable[[Batch, Place], Batch] | None = None,
        micro_batch: int | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.make_optimizer, self.views, self.micro_batch = make_optimizer, views, micro_batch
        self.step_and_micro = (-1, 0)  # of the last micro-batch
        self.since: tuple[int, float] | None = None  # step and time of the last log
        self.representations = None  # of the last batch

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        """As Trainer's, but the checkpoint of a finished run is only loaded: Trainer would train one step more."""
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint, "trainer_state.json")))
            if state.global_step >= state.max_steps:
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.make_optimizer(self.model if model is None else model)
        return self.optimizer

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        inputs = super()._prepare_inputs(inputs)
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
        """Adds the seconds trained (in all parts of a resumed run), the speed, and the spread of the last batch."""
        if "loss" in logs:
            now = (self.state.global_step, time.perf_counter())
            seconds = now[1] - self.since[1]
            examples = (now[0] - self.since[0]) * self.args.train_batch_size * self.args.world_size
            earlier = next((log["seconds"] for log in reversed(self.state.log_history) if "seconds" in log), 0.0)
            logs["examples_per_second"] = round(examples / seconds, 1)
            logs["seconds"] = round(earlier + seconds, 2)
            if self.representations is not None:
                logs["spread"] = round(spread(self.representations.detach()), 4)
            self.since = now
        super().log(logs, start_time)

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
            "examples": self.state.global_step * self.args.train_batch_size * world,
            "seconds": max((log["seconds"] for log in logs if "seconds" in log), default=0.0),
            "examples_per_second": statistics.median(speeds) if speeds else None,
            "final_loss": losses[-1] if losses else None,
            "hardware": name if world == 1 else f"{world} processes, each {name}",
        }


def spread(representations: Tensor) -> float:
    """Mean distance of the normalised representations (..., D) from their centre: 0 when all of them are one point.

    A representation that has collapsed gives every input the same features; its loss may look fine for long.
    """
    x = nn.functional.normalize(representations.float().flatten(0, -2), dim=-1)
    return (x - x.mean(0)).norm(dim=-1).mean().item()
