"""Settings that every pretraining recipe shares, named as in transformers.TrainingArguments where it has them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings, setting

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(kw_only=True)
class PretrainingSettings(RunSettings):
    num_train_epochs: float = setting(100.0, "passes over the training data", section="training", at_least=0)
    max_steps: int = setting(-1, "stop after this many optimizer steps instead; -1: off", section="training")
    per_device_train_batch_size: int = setting(256, "examples per process and step", section="training", at_least=1)
    optimizer: Literal["lars", "adamw"] = setting("lars", "LARS as in the paper, or AdamW", section="training")
    learning_rate: float | None = setting(
        None, "peak learning rate; none: by --learning_rate_rule", section="training", at_least=0
    )
    learning_rate_rule: Literal["linear", "sqrt"] = setting(
        "linear",
        "0.3 * batch / 256, or 0.075 * sqrt(batch) for batches below 4096 (paper, appendix B.1)",
        section="training",
    )
    weight_decay: float = setting(
        1e-6, "of weight matrices; norms and biases have none", section="training", at_least=0
    )
    warmup_steps: float = setting(
        0.1,
        "linear warm-up before the cosine decay: steps, or a share of all if below 1",
        section="training",
        at_least=0,
    )
    bf16: bool | None = setting(None, "bfloat16 autocast; none: where the hardware has it", section="training")
    torch_compile: bool = setting(False, "compile the model: slow to start, then faster", section="training")
    dataloader_num_workers: int = setting(
        0, "processes that load examples, per training process", section="training", at_least=0
    )
    logging_steps: int = setting(10, "steps between two lines of log.jsonl", section="training", at_least=1)
    save_steps: int = setting(500, "steps between two checkpoints", section="training", at_least=1)
    save_total_limit: int = setting(2, "checkpoints kept", section="training", at_least=1)
    resume: str = setting(
        "auto", "auto: go on from the newest checkpoint; never; or a checkpoint folder", section="training"
    )

    def training_arguments(self) -> TrainingArguments:
        """What transformers.Trainer is told."""
        import torch
        from transformers import TrainingArguments

        use_cpu = self.use_cpu or not torch.accelerator.is_available()
        args = TrainingArguments(
            output_dir=self.output_dir,
            num_train_epochs=self.num_train_epochs,
            max_steps=self.max_steps,
            per_device_train_batch_size=self.per_device_train_batch_size,
            lr_scheduler_type="cosine",
            warmup_steps=self.warmup_steps,
            max_grad_norm=0.0,
            bf16=self.bf16 if self.bf16 is not None else _has_bf16(use_cpu),
            torch_compile=self.torch_compile,
            dataloader_num_workers=self.dataloader_num_workers,
            dataloader_drop_last=True,  # the same number of examples in every process and step
            remove_unused_columns=False,  # the collator needs the raw columns
            logging_steps=self.logging_steps,
            logging_first_step=True,
            logging_nan_inf_filter=False,  # a loss that is not finite must be seen
            save_steps=self.save_steps,
            save_total_limit=self.save_total_limit,
            seed=self.seed,
            use_cpu=use_cpu,
            report_to=self.report_to,
        )
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


def _has_bf16(use_cpu: bool) -> bool:
    import torch

    if use_cpu:
        return torch.cpu._is_avx512_bf16_supported()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
