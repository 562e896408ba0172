"""Settings that every pretraining recipe shares, named as in transformers.TrainingArguments where it has them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import MOST_WORKERS, SharedRunSettings, setting, short

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(kw_only=True)
class PretrainingSettings(SharedRunSettings):
    report_to: str = setting(
        "none", "experiment tracker besides log.jsonl: none, trackio, tensorboard, wandb, ...", section="run"
    )
    num_train_epochs: float = setting(100.0, "passes over the training data", section="training", above=0)
    max_steps: int = setting(
        -1, "stop after this many optimizer steps instead; -1: off", section="training", at_least=1
    )
    max_minutes: float | None = setting(
        None, "a time budget instead of epochs; with --max_steps whichever ends first", section="training", above=0
    )
    per_device_train_batch_size: int | Literal["auto"] = setting(
        256,
        "examples per process and step; auto: as many as fit into memory",
        section="training",
        at_least=1,
        at_most=1_000_000,
    )
    bf16: bool | None = setting(None, "bfloat16 autocast; none: where the hardware is faster so", section="training")
    torch_compile: bool = setting(
        False, "compile the model, and views on a GPU: slow to start, then faster", section="training"
    )
    dataloader_num_workers: int = setting(
        0, "processes that load examples, per training process", section="training", at_least=0, at_most=MOST_WORKERS
    )
    logging_steps: int = setting(10, "steps between two lines of log.jsonl", section="training", at_least=1)
    save_steps: int = setting(500, "steps between two checkpoints", section="training", at_least=1)
    save_total_limit: int = setting(2, "checkpoints kept", section="training", at_least=1)
    resume: str = setting(
        "auto", "auto: go on from the newest good checkpoint; never; or a checkpoint folder", section="training"
    )
    allow_change: bool = setting(
        False, "go on although data, settings or the number of processes are others than before", section="training"
    )
    on_nonfinite: Literal["stop", "skip"] = setting(
        "stop", "when the loss or its gradient is NaN or infinite; skip: leave the step out", section="training"
    )
    max_skipped: int = setting(10, "steps left out at most, then the run stops", section="training", at_least=1)
    full_determinism: bool = setting(
        False, "the same bits on GPUs too, more slowly; on the CPU they always are", section="training"
    )

    @property
    def skippable_steps(self) -> int:
        """Steps whose loss or gradient may be not finite."""
        return self.max_skipped if self.on_nonfinite == "skip" else 0

    @property
    def left_to_memory(self) -> list[str]:
        """The names of the settings that depend on the memory at hand."""
        return ["per_device_train_batch_size"] * (self.per_device_train_batch_size == "auto")

    @property
    def in_bfloat16(self) -> bool:
        """What `bf16` says, or where it leaves that to the hardware, what is faster there."""
        import torch

        on_cpu = self.use_cpu or not torch.accelerator.is_available()
        return self.bf16 if self.bf16 is not None else has_bf16("cpu" if on_cpu else "cuda")

    def training_arguments(self, **more) -> TrainingArguments:
        """What transformers.Trainer is told; `more` is what only one kind of recipe has."""
        import torch
        from transformers import TrainingArguments

        from hf_replearn.training.launch import check_devices, check_launch

        check_trackers(self.report_to)
        use_cpu = self.use_cpu or not torch.accelerator.is_available()
        check_devices(use_cpu=use_cpu)
        more = {"bf16": self.in_bfloat16, "torch_compile": self.torch_compile} | more
        args = TrainingArguments(
            output_dir=self.output_dir,
            num_train_epochs=self.num_train_epochs,
            max_steps=self.max_steps,
            per_device_train_batch_size=1 if self.left_to_memory else self.per_device_train_batch_size,
            dataloader_num_workers=self.dataloader_num_workers,
            dataloader_persistent_workers=self.dataloader_num_workers > 0,  # they take seconds to start
            dataloader_drop_last=True,  # the same number of examples in every process and step
            remove_unused_columns=False,  # the collator needs the raw columns
            accelerator_config={"non_blocking": not use_cpu},  # nobody waits for a batch that goes to a GPU
            logging_steps=self.logging_steps,
            logging_first_step=True,
            logging_nan_inf_filter=False,  # a loss that is not finite must be seen
            save_steps=self.save_steps,
            save_total_limit=self.save_total_limit,
            seed=self.seed,
            full_determinism=self.full_determinism,
            use_cpu=use_cpu,
            report_to=self.report_to.split(","),
            **more,
        )
        check_launch(args)
        if args.n_gpu > 1:  # Trainer would take DataParallel, where each GPU has a loss and negatives of its own
            raise InputError(
                f"{args.n_gpu} GPUs are visible to one process: start the recipe with `accelerate launch --multi_gpu "
                f"--num_processes {args.n_gpu}`, or show it one GPU with CUDA_VISIBLE_DEVICES=0"
            )
        if use_cpu and args.world_size == 1 and torch.get_num_threads() == 1 < os.cpu_count():
            warnings.warn(
                f"training on 1 of {os.cpu_count()} CPU cores, accelerate's default: give `accelerate launch` "
                f"--num_cpu_threads_per_process {os.cpu_count()}, or set OMP_NUM_THREADS",
                stacklevel=2,
            )
        return args


ENDLESS = 10**9  # steps of a run that a time budget ends


PACKAGES = {"azure_ml": "azureml-sdk", "flyte": "flytekit", "kubeflow": "kubeflow-training", "comet_ml": "comet-ml"}


def check_trackers(report_to: str) -> None:
    """Raises InputError for a tracker that transformers does not know, or that is not installed."""
    from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

    names = [name.strip() for name in report_to.split(",")]
    for name in names if len(names) > 1 or names[0] not in ("none", "all") else []:
        if name not in INTEGRATION_TO_CALLBACK:
            choices = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise InputError(f"--report_to {short(name, quoted=False)}: choose none, all, or from {choices}")
        if name not in get_available_reporting_integrations():
            raise InputError(f"--report_to {name} is not installed: pip install {PACKAGES.get(name, name)}")


def has_bf16(device: str) -> bool:
    """Whether a kind of device ("cpu", "cuda", ...) computes faster in bfloat16 than in float32.

    Of CPUs these are those with AMX, and others than Intel's with AVX-512 BF16: AMD's train BERT and GPT-2 1.3 to 1.4
    times as fast. Intel's without AMX take 1.2 (ResNet-18) to 1.7 times (ViT) as long for a step.
    """
    import torch

    if device == "cpu":
        known = torch.cpu.get_capabilities()
        by_vectors = known.get("avx512_bf16", False) and "Intel" not in known.get("cpu_name", "")
        return known.get("amx_bf16", False) or by_vectors
    return device == "cuda" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
