"""What transformers.Trainer is told to fine-tune with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainingArguments

from hf_replearn.errors import InputError
from hf_replearn.training.settings import has_bf16


@dataclass(frozen=True, kw_only=True)
class Usual:
    """How a network is fine-tuned where nothing else is said, as the defaults of `hf-replearn finetune` have it."""

    output_dir: str
    learning_rate: float
    use_cpu: bool
    dataloader_num_workers: int
    dropout: float = 0.1
    num_train_epochs: float = 3.0
    min_steps: int = 200
    per_device_train_batch_size: int = 32
    weight_decay: float = 0.01
    warmup_steps: float = 0.1
    bf16: bool | None = None


def training_arguments(settings: Any, *, examples: int, seed: int) -> TrainingArguments:
    """What transformers.Trainer is told to fine-tune on so many examples.

    settings: of `hf-replearn finetune`, or `Usual`. Raises InputError where one process sees several GPUs.
    """
    use_cpu = settings.use_cpu or not torch.accelerator.is_available()
    args = TrainingArguments(
        output_dir=settings.output_dir,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=4 * settings.per_device_train_batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        lr_scheduler_type="linear",
        bf16=has_bf16("cpu" if use_cpu else "cuda") if settings.bf16 is None else settings.bf16,
        dataloader_num_workers=settings.dataloader_num_workers,
        remove_unused_columns=False,  # the collator needs the raw columns
        logging_strategy="no",
        disable_tqdm=False,
        save_strategy="no",
        seed=seed,
        use_cpu=use_cpu,
        report_to="none",
    )
    if args.n_gpu > 1:
        raise InputError(
            f"{args.n_gpu} GPUs are visible to one process: start the recipe with `accelerate launch --multi_gpu "
            f"--num_processes {args.n_gpu}`, or show it one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    batches = math.ceil(examples / (settings.per_device_train_batch_size * args.world_size))
    args.max_steps = max(settings.min_steps, math.ceil(settings.num_train_epochs * batches))
    return args
