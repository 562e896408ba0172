"""PretrainingTrainer: what transformers.Trainer lacks for representation learning."""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm.auto import tqdm
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments

from hf_replearn.errors import InputError, Preempted, TrainingError
from hf_replearn.evaluation.health import COLLAPSED, spread
from hf_replearn.files import PARTIAL
from hf_replearn.randomness import Place
from hf_replearn.training.cached_gradients import cached_gradient_step
from hf_replearn.training.checkpoints import MANIFEST, check_room, checkpoints, rotate, seal
from hf_replearn.training.lanes import FAILURE, POSITION, Lanes
from hf_replearn.training.numbered import NUMBERS, CollateNumbered, NumberedRows
from hf_replearn.training.on_device import Ahead
from hf_replearn.training.optimizers import leave_out, unchanged_where
from hf_replearn.training.sharded_checkpoints import (
    is_sharded,
    load_sharded_optimizer,
    load_sharded_weights,
    load_whole_optimizer,
    load_whole_weights,
    save_sharded,
)
from hf_replearn.training.sharding import (
    Sharded,
    asked_layout,
    same_gradients,
    shard,
    total_norm,
    unseen_by_accelerate,
    whole,
    without_weights,
)
from hf_replearn.training.stopping import StopSignals, Undisturbed
from hf_replearn.training.throughput import peak_flops
from hf_replearn.training.verdict import Sent, Verdict

Batch = dict[str, Tensor]
SCHEDULER = "scheduler.pt"  # as Trainer's
LESS_MEMORY = (
    "Lower --per_device_train_batch_size: --gradient_accumulation_steps for text and --negatives for SimCLR keep the "
    "effective batch; --gradient_checkpointing takes time for memory"
)


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
    circumstances:  what the weights of this run depend on, as JSON values; each checkpoint is sealed with it.
    max_skipped:    steps of the run that may be left out because their loss or gradients are not finite.

    A model that has `after_step(progress)`, such as one with a teacher, is told of each optimizer step taken.
    Where the profile of `accelerate launch` asks for it, each process holds a part of the model (sharding.py): then
    `whole_model` is what can be saved or judged after training.
    Its checkpoints are sealed (checkpoints.py) and hold no pickle of arguments. A step whose loss or gradients are not
    finite never reaches the weights, and raises TrainingError; SIGTERM and SIGINT save and raise Preempted. On a GPU
    all that is decided there, and the host learns of it a step later: in a step it never waits for the GPU.
    Where the collator's batch has the `length` of each row, in tokens, the log has tokens.
    """

    def __init__(  # noqa: PLR0913 (each is one independent thing that Trainer lacks)
        self,
        *args,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        views: Callable[[Batch, Place], Batch] | None = None,
        micro_batch: int | None = None,
        targets: Callable[[Batch], Tensor] | None = None,
        schedule: Callable[[float], float] | None = None,
        max_minutes: float | None = None,
        flops: float | None = None,
        circumstances: dict[str, Any] | None = None,
        max_skipped: int = 0,
        **kwargs,
    ):
        self.mesh, self.empty = self._share_out(kwargs["model"], kwargs["args"])
        self.alike = 1  # processes that compute one batch together, by tensor parallelism
        with unseen_by_accelerate():
            super().__init__(*args, **kwargs)
        if self.mesh is not None and "tp" in self.mesh.mesh_dim_names:
            self.alike = self.mesh["tp"].size()
            self.accelerator.state.device_mesh = self.mesh  # by which it gives them the same rows
        self.lanes = self.train_dataset if isinstance(self.train_dataset, Lanes) else None
        if self.lanes is not None:
            self.args.ignore_data_skip = True  # it goes on by itself
            if self.alike > 1:
                raise InputError(
                    "--streaming gives each process a batch of its own, and tensor parallelism one to several"
                )
        elif not isinstance(self.train_dataset, IterableDataset | datasets.IterableDataset):
            self.train_dataset = NumberedRows(self.train_dataset)
            self.data_collator = CollateNumbered(self.data_collator)
        self.circumstances, self.max_skipped = circumstances or {}, max_skipped
        self.make_optimizer, self.views, self.micro_batch = make_optimizer, views, micro_batch
        self.targets, self.schedule, self.max_minutes, self.flops = targets, schedule, max_minutes, flops
        self.add_callback(LastStep(self))
        if max_minutes is not None and self.pop_callback(ProgressCallback) is not None:
            self.add_callback(BudgetBar(self))
        self.spent = 0.0  # share of the time budget
        self.tokens: Tensor | int = 0  # of this process since the last log
        self.step_and_micro = (-1, 0)  # of the last micro-batch
        self.verdict: Verdict | None = None  # on the last step, while the host has not read it
        self.step_left_out: Tensor | bool = False  # whether this step changes nothing; on a GPU a number there
        self.since: tuple[int, float] | None = None  # step and time of the last log
        self.representations = None  # of the last batch
        self.micro_steps: list[tuple[Tensor, Tensor | None]] = []  # loss and row numbers of those of this step
        self.signals, self.told_to_stop = StopSignals(), False
        self.sealing: tuple[Path, Future] | None = None  # of the last checkpoint, in a thread
        self.batches: Ahead | None = None  # of this epoch
        self.over = multiprocessing.RawValue("b", 0)  # whether the loader's workers are needed no more

    @staticmethod
    def _share_out(model: nn.Module, args: TrainingArguments) -> tuple[DeviceMesh | None, nn.Module | None]:
        """Leaves this process its part of the model, if that is asked for, and returns all processes and the model
        without weights."""
        layout = asked_layout(args.world_size)
        if layout is None:
            return None, None
        empty, mesh = without_weights(model), layout.mesh(args.device)
        on_gpu = args.device.type != "cpu"  # whose autocast takes norms with weights of another type
        shard(model, layout, mesh, travels=torch.bfloat16 if args.bf16 and on_gpu else None)
        return mesh, empty

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the model."""
        return self.empty is not None

    def whole_model(self) -> nn.Module | None:
        """The model as it was before it was trained by several; of a sharded one None but in the first process. All
        processes call it."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        return whole(model, self.empty) if self.is_sharded else model

    def _wrap_model(self, model: nn.Module, training: bool = True, **kwargs) -> nn.Module:
        """As Trainer's, for which accelerate wraps what is not sharded."""
        if self.is_sharded and training and not isinstance(model, Sharded):
            return Sharded(model, self.accelerator.autocast)
        return super()._wrap_model(model, training, **kwargs)

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        """As Trainer's, but the checkpoint of a finished run is only loaded: Trainer would train one step more.

        Raises InputError without room on the disk, TrainingError when it cannot go on, Preempted when told to stop.
        """
        if resume_from_checkpoint is not None:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint, "trainer_state.json")))
            seconds = next((log["seconds"] for log in reversed(state.log_history) if "seconds" in log), 0.0)
            if self.lanes is not None and not self.lanes.load(resume_from_checkpoint) and self.is_world_process_zero():
                warnings.warn("the stream begins anew: other processes, workers or shards read it before", stacklevel=2)
            if state.global_step >= self._steps_to_do() or seconds >= 60 * (self.max_minutes or math.inf):
                self._load_from_checkpoint(resume_from_checkpoint)
                self.state = state
                return None
        if self.is_sharded:
            self._check_folder_is_shared()
        if self.args.should_save and self.args.save_strategy != "no":
            weights = sum(x.numel() * x.element_size() for x in self.model.state_dict().values())
            check_room(self.args.output_dir, checkpoint=3 * weights, keep=self.args.save_total_limit or 2)
        self.over.value = 0
        stop = StopWhenTold(self)  # after all other callbacks, which need not take it for the end of the run
        self.add_callback(stop)
        try:
            with StopSignals() as self.signals:
                output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
                self._meet_verdict()
                self._finish_sealing()
            self._end_workers()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise TrainingError(f"out of memory. {self._last_good()}. {LESS_MEMORY}") from error
            raise
        finally:
            self.over.value = 1
            self.remove_callback(stop)
        if self.told_to_stop:
            minutes, steps = self.max_minutes, self.state.max_steps
            of = f" of {steps}" if minutes is None else f", {100 * self.spent:.0f} % of {minutes:g} minutes"
            raise Preempted(
                f"stopped and saved after step {self.state.global_step}{of}: the same command goes on from there"
            )
        return output

    def _end_workers(self) -> None:
        """Of the loader: they outlive its epochs, and what comes after the training needs the memory."""
        self.batches = self.callback_handler.train_dataloader = None
        self.accelerator.free_memory()

    def _check_folder_is_shared(self) -> None:
        """Raises InputError where processes on other machines would write their parts of a checkpoint elsewhere."""
        sign = Path(self.args.output_dir, f".seen{PARTIAL}")
        if self.is_world_process_zero():
            sign.touch()
        self.accelerator.wait_for_everyone()
        blind = int(self.accelerator.reduce(torch.tensor(int(not sign.exists()), device=self.args.device)))
        if self.is_world_process_zero():
            sign.unlink()
        if blind:
            raise InputError(
                f"--output_dir {self.args.output_dir}: {blind} of {self.args.world_size} processes do not see this "
                "folder, and each has to write its part of a checkpoint into it: name one that all machines share"
            )

    def _steps_to_do(self) -> int:
        """Of the whole run, as it is asked for now."""
        return self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]

    def get_train_dataloader(self) -> DataLoader:
        if self.lanes is not None:
            return self._loader_of_lanes()
        loader = super().get_train_dataloader()
        loader.base_dataloader.generator = loader.generator = torch.Generator()  # see `get_batch_samples`
        if loader.num_workers:
            loader.base_dataloader.worker_init_fn = loader.worker_init_fn = Undisturbed(
                loader.worker_init_fn, self.over
            )
        if self.args.device.type == "cuda":
            loader.device = None  # `Ahead` sends the batches
        return loader

    def _loader_of_lanes(self) -> DataLoader:
        """Each process has its own; accelerate would have the first read for all."""
        args, workers = self.args, self.lanes.workers
        return DataLoader(
            self.lanes,
            batch_size=None,  # batches are made there
            num_workers=workers,
            pin_memory=args.dataloader_pin_memory and args.device.type == "cuda",
            worker_init_fn=Undisturbed(None, self.over),
            generator=torch.Generator(),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device):
        if self.batches is None or self.batches.source is not epoch_iterator:
            # A loader draws a number at the beginning of each epoch, from torch's own generator if it has none. Of
            # workers that outlive an epoch it does so once: a run that goes on later would draw another number.
            if self.lanes is None:
                torch.empty((), dtype=torch.int64).random_()
            self.batches = Ahead(epoch_iterator, device)
        return super().get_batch_samples(self.batches, num_batches, device)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The weights and their configuration; Trainer's would add a pickle of its arguments too."""
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.is_sharded and self.args.should_save:
            model.config.save_pretrained(output_dir or self.args.output_dir)
        elif self.args.should_save:
            model.save_pretrained(output_dir or self.args.output_dir, state_dict=state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """As Trainer's, or weights and optimizer of a sharded model, of which each process saves its part."""
        if not self.is_sharded:
            return super()._save_optimizer_and_scheduler(output_dir)
        self.accelerator.wait_for_everyone()  # the folder is there
        save_sharded(output_dir, self.model, self.plain_optimizer)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """As Trainer's, or of a run whose model was sharded, in however many parts, or is."""
        if is_sharded(resume_from_checkpoint):
            load_sharded_weights(resume_from_checkpoint, self.model)
        elif self.is_sharded:
            load_whole_weights(resume_from_checkpoint, self.model)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not (self.is_sharded or is_sharded(checkpoint)):
            return super()._load_optimizer_and_scheduler(checkpoint)
        load = load_sharded_optimizer if is_sharded(checkpoint) else load_whole_optimizer
        load(checkpoint, self.model, self.plain_optimizer)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER), weights_only=True))
        for group, rate in zip(self.plain_optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _save_checkpoint(self, model: nn.Module, trial) -> None:
        """Saved, then sealed, then older ones are removed. Trainer would remove the last good one first.

        Sealing reads every byte again and waits for the disk: a thread does it while the training goes on. Until it is
        done, the earlier checkpoint is the one to go on from.
        """
        folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        self._meet_verdict()
        self._finish_sealing()
        self._refuse_weights_that_are_not_finite(model)
        keep, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            if self.args.should_save:
                (folder / MANIFEST).unlink(missing_ok=True)
            super()._save_checkpoint(model, trial)
            if self.lanes is not None:
                self.lanes.save(folder)
        except (OSError, RuntimeError, SafetensorError, CheckpointException) as error:
            raise self._unwritten(folder, error) from error
        finally:
            self.args.save_total_limit = keep
        self.accelerator.wait_for_everyone()  # all files of all processes are there
        if self.args.should_save:
            self._start_sealing(folder)

    def _start_sealing(self, folder: Path) -> None:
        thread = ThreadPoolExecutor(1, thread_name_prefix="seal")
        self.sealing = folder, thread.submit(self._seal, folder)
        thread.shutdown(wait=False)

    def _seal(self, folder: Path) -> None:
        seal(folder, self.circumstances)
        rotate(self.args.output_dir, keep=self.args.save_total_limit or 10**9, newest=folder)

    def _finish_sealing(self) -> None:
        """Waits for the seal of the last checkpoint. Raises TrainingError when it could not be set."""
        if self.sealing is not None:
            (folder, sealed), self.sealing = self.sealing, None
            try:
                sealed.result()
            except OSError as error:
                raise self._unwritten(folder, error) from error

    def _unwritten(self, folder: Path, error: BaseException) -> TrainingError:
        return TrainingError(f"{folder} could not be written: {error}. {self._last_good()}")

    def _refuse_weights_that_are_not_finite(self, model: nn.Module) -> None:
        tensors = [x.to_local() if isinstance(x, DTensor) else x for x in model.state_dict().values()]
        bad = sum((~x.isfinite()).any().float() for x in tensors if x.is_floating_point())
        if self.accelerator.reduce(bad) > 0:
            raise TrainingError(f"step {self.state.global_step}: weights are not finite. {self._last_good()}")

    def _last_good(self) -> str:
        self._finish_sealing()
        sealed = [path for path in checkpoints(self.args.output_dir) if (path / MANIFEST).exists()]
        return f"{sealed[0]} is the last good checkpoint" if sealed else "There is no earlier checkpoint"

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = self.plain_optimizer = self.make_optimizer(self.model if model is None else model)
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
        """What the sum of the losses is divided by. Raises InputError, or TrainingError where steps were taken, when a
        stream cannot go on."""
        failures = [batch[FAILURE] for batch in batch_samples if FAILURE in batch]
        if failures and self.state.global_step == 0:
            raise InputError(failures[0])
        if failures:
            raise TrainingError(f"{failures[0]}. {self._last_good()}")
        if self.targets is None or not batch_samples:
            return super()._get_num_items_in_batch(batch_samples, device)
        batches = [{name: part for name, part in batch.items() if name != POSITION} for batch in batch_samples]
        return self.accelerator.reduce(sum(map(self.targets, batches)).to(device))

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        inputs = super()._prepare_inputs(inputs)
        self.row_numbers = inputs.pop(NUMBERS, None)
        if self.lanes is not None:
            self.lanes.met(inputs.pop(POSITION))
        if "length" in inputs:
            self.tokens = self.tokens + inputs["length"].sum()
        if self.micro_batch is None and self.views is not None:
            step, micro_step = self.step_and_micro
            self.step_and_micro = self.state.global_step, micro_step + 1 if step == self.state.global_step else 0
            inputs = self.views(inputs, self._place(self.step_and_micro[1]))
        return inputs

    def _place(self, micro_step: int) -> Place:
        args = self.args
        return Place(args.seed, self.state.global_step, micro_step, *self._rank_and_world())

    def _rank_and_world(self) -> tuple[int, int]:
        """Of processes with a batch of their own."""
        return self.args.process_index // self.alike, self.args.world_size // self.alike

    def compute_loss(self, model: nn.Module, inputs: Batch, return_outputs: bool = False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        self.representations = outputs.get("pooler_output")
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch=None) -> Tensor:
        self.since = self.since or (self.state.global_step, time.perf_counter())
        if self.micro_batch is None:
            loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            loss = self._cached_step(model, inputs)
        self.micro_steps.append((loss.detach(), self.row_numbers))
        return loss if self.max_skipped == 0 else loss.nan_to_num(0.0, 0.0, 0.0)  # what is left out is not logged

    def _cached_step(self, model: nn.Module, inputs: Batch) -> Tensor:
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

        objective = self.accelerator.unwrap_model(self.model).objective
        if "labels" in inputs:  # a loss may depend on which rows are alike
            objective = partial(objective, labels=inputs["labels"])
        return cached_gradient_step(
            project,
            objective,
            batches=self.args.per_device_train_batch_size // self.micro_batch,
            model=model,
            backward=self.accelerator.backward,
        )

    def agree(self) -> None:
        """Before each optimizer step all processes learn what one of them has met: a loss or a gradient that is not
        finite, a signal to stop, or the end of the time budget by the clock of the first."""
        losses = torch.stack([loss for loss, _ in self.micro_steps]).float()
        if self.mesh is not None:
            same_gradients(self.model, self.mesh)
        norm = total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        bad = ~(losses.isfinite().all() & norm.isfinite())
        told = (self.signals.received is not None, self._share_spent() if self.is_world_process_zero() else 0.0)
        told = [losses.new_full((), float(number)) for number in told]
        agreed = self.accelerator.reduce(torch.stack([bad.float(), *told]))
        verdict = Verdict(
            step=self.state.global_step + 1,
            losses=losses,
            row_numbers=[rows for _, rows in self.micro_steps],
            left_out=(agreed[0] > 0).float(),
            sent=Sent(torch.cat([agreed, norm.float()[None], losses])),
        )
        self.micro_steps = []
        self._meet_verdict()  # on the step before
        self.verdict = verdict
        if self.args.device.type == "cpu":
            if self._meet_verdict():
                self.model.zero_grad(set_to_none=True)  # optimizers pass over parameters without a gradient
                for buffer, before in zip(self.model.buffers(), self.kept_buffers, strict=True):
                    buffer.copy_(before)
                self.step_left_out = True
        else:
            self.step_left_out = verdict.left_out
            leave_out(self.plain_optimizer, verdict.left_out)

    def _meet_verdict(self) -> bool:
        """Does what the last verdict asks of the host, if it has not; returns whether that step is left out. Raises
        TrainingError where it must not be."""
        verdict, self.verdict = self.verdict, None
        if verdict is None:
            return False
        bad, stop, spent, norm, *losses = verdict.sent.read()
        self.told_to_stop = stop > 0
        if self.max_minutes is not None:
            self.spent = min(spent, 1.0)
        if bad > 0:
            self._meet_nonfinite(verdict, losses, norm)
        return bad > 0

    def _meet_nonfinite(self, verdict: Verdict, losses: list[float], norm: float) -> None:
        """Tells of a step that is left out, if that is allowed; raises TrainingError if not."""
        culprits = ~self.accelerator.gather(verdict.losses).isfinite()
        culprits = culprits if culprits.any() else torch.ones_like(culprits)  # all losses are finite, the gradients not
        what = f"step {verdict.step}: the loss or its gradient is not finite"
        if verdict.row_numbers[0] is None:
            rows = "of the stream"
        else:
            numbers = self.accelerator.gather(torch.stack(verdict.row_numbers))
            rows = ", ".join(map(str, numbers[culprits.to(numbers.device)].flatten().tolist()))
        shown = ", ".join(f"{loss:.4g}" for loss in losses)
        what = f"{what} (loss {shown}; norm of the gradient {norm:.4g}). Rows of its batch: {rows}."
        skipped = (self.last("skipped_steps") or 0) + 1
        if skipped > self.max_skipped:
            advice = "Look at these rows, lower the learning rate, or leave such steps out with --on_nonfinite skip"
            raise TrainingError(f"{what} {self._last_good()}. {advice}")
        if self.is_world_process_zero():
            warnings.warn(f"{what} It is left out, the {skipped}. of at most {self.max_skipped}", stacklevel=2)
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(model, "after_undone_step"):
            model.after_undone_step()
        self.log({"skipped_steps": skipped})

    def after_step(self) -> None:
        """Tells the model of an optimizer step; not of one that is left out."""
        model, left_out = self.accelerator.unwrap_model(self.model), self.step_left_out
        if left_out is True:
            return
        changed = list(model.buffers()) + [p for p in model.parameters() if not p.requires_grad]
        keeping = isinstance(left_out, Tensor) and self.max_skipped > 0
        before = [*self.kept_buffers, *(x.clone() for x in changed[len(self.kept_buffers) :])] if keeping else []
        if hasattr(model, "after_step"):
            model.after_step(self.progress())
        if keeping:
            unchanged_where(left_out, changed, before)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds seconds and tokens (of all parts of a resumed run), the speed, and the spread of the last batch."""
        if "loss" in logs:
            now = (self.state.global_step, time.perf_counter())
            seconds = now[1] - self.since[1]
            examples = (now[0] - self.since[0]) * self._examples_per_step()
            logs["examples_per_second"] = round(examples / seconds, 1)
            logs["seconds"] = round((self.last("seconds") or 0.0) + seconds, 2)
            if isinstance(self.tokens, Tensor):
                tokens = int(self.accelerator.reduce(self.tokens)) // self.alike
                logs["tokens"] = (self.last("tokens") or 0) + tokens
                logs["tokens_per_second"] = round(tokens / seconds, 1)
                logs["perplexity"] = round(math.exp(min(logs["loss"], 100.0)), 3)
                self.tokens = 0
                if self.flops and (peak := self._peak_flops()):
                    logs["mfu"] = round(self.flops * tokens / seconds / peak / self.args.world_size, 4)
            if self.lanes is not None:
                unusable = torch.tensor(self.lanes.unusable, device=self.args.device)
                logs["undecodable"] = int(self.accelerator.reduce(unusable))
            if self.representations is not None:
                logs["spread"] = round(spread(self.representations.detach()), 4)
            self.since = now
        super().log(logs, start_time)

    def _examples_per_step(self) -> int:
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self._rank_and_world()[1]

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
                rank, world_size = self._rank_and_world()
                part = measure(rank=rank, world_size=world_size)
            total, count = self.accelerator.reduce(part.float().to(args.device)).tolist()
            return total / count

        return mean

    def together(self, measure: Callable[[], Any]) -> Callable[[], Any]:
        """What is measured of a model by all processes at once, because each holds a part of it, or else as it is."""

        def measured() -> Any:
            self.model.unshard()  # parts of the model may be called by themselves
            try:
                return measure()
            finally:
                self.model.reshard()

        return measured if self.is_sharded else measure

    def _share_spent(self) -> float:
        """Of the time budget, by the clock of this process."""
        return 0.0 if self.max_minutes is None else self.seconds_trained() / (60 * self.max_minutes)

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
            "spread": self.last("spread"),
            "collapsed": self.last("spread") is not None and self.last("spread") < COLLAPSED,
            "hardware": name if world == 1 else f"{world} processes, each {name}",
        }


class LastStep(TrainerCallback):
    """Tells the model of each step, logs the last one, and ends the run when its minutes are spent. All processes go by
    the clock of the first."""

    def __init__(self, trainer: PretrainingTrainer):
        self.trainer = trainer

    def on_step_begin(self, args, state, control, **kwargs):
        self.trainer.micro_steps, self.trainer.step_left_out = [], False
        if self.trainer.max_skipped:  # running statistics, which a batch that is left out must not have touched
            self.trainer.kept_buffers = [buffer.clone() for buffer in self.trainer.model.buffers()]

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.agree()

    def on_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.after_step()

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.lanes is not None:  # a stream has no epochs: the share of the run, of one that goes on too
            state.epoch = state.global_step / state.max_steps
        if self.trainer.spent >= 1:
            control.should_training_stop = control.should_save = True
        if self.trainer.spent >= 1 or state.global_step == state.max_steps:
            control.should_log = True


class BudgetBar(ProgressCallback):
    """Shows how much of a time budget is spent: nobody knows yet how many steps it will be."""

    SHAPE = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"

    def __init__(self, trainer: PretrainingTrainer):
        super().__init__()
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=1.0, bar_format=self.SHAPE, dynamic_ncols=True)

    def on_step_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.training_bar.set_postfix_str(f"step {state.global_step}", refresh=False)
            self.training_bar.update(self.trainer.spent - self.training_bar.n)


class StopWhenTold(TrainerCallback):
    """Ends the run, saved, after the step in which a signal came."""

    def __init__(self, trainer: PretrainingTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.told_to_stop:
            control.should_log = control.should_save = control.should_training_stop = True
