"""`--per_device_train_batch_size auto`: the number of examples that fit into the memory at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from accelerate.utils import broadcast, gather
from torch import Tensor, nn
from transformers import TrainingArguments

from hf_replearn.errors import InputError
from hf_replearn.randomness import Place
from hf_replearn.training.folder import of_earlier_start
from hf_replearn.training.memory import largest_batch
from hf_replearn.training.settings import PretrainingSettings
from hf_replearn.training.sharding import asked_layout

S = TypeVar("S", bound=PretrainingSettings)
NAME = "per_device_train_batch_size"
LARGEST = 4096  # examples; the published batches end there


def fit_to_memory(
    settings: S,
    args: TrainingArguments,
    build: Callable[[S], nn.Module],
    collator: Any,
    rows: Any,
    *,
    least: int,
) -> S:
    """The settings, where they say `auto` with the largest power of two of examples of which a step fits into memory.

    A run that was started before keeps its number; several processes take the smallest of theirs.
    build:    settings -> the model. collator: with `views`, as the trainer has it. rows: to train on.
    least:    examples that a step needs. Batches divide `negatives`, the examples of one loss over all processes, if
              the settings say how many these are.
    Raises InputError where not even `least` examples fit.
    """
    if not settings.left_to_memory:
        return settings
    if asked_layout(args.world_size) is not None:
        raise InputError(f"--{NAME} auto counts all weights for each GPU, and here they are shared: give a number")
    earlier = of_earlier_start(settings, NAME) if args.process_index == 0 else None
    if args.world_size > 1:
        earlier = int(broadcast(torch.tensor(earlier or 0, device=args.device)))
    if earlier:
        return replace(settings, **{NAME: earlier})
    settings = replace(settings, **{NAME: least})
    found = largest_batch(
        _step(collator, rows, args),
        build(settings),
        sizes=_sizes(rows, args.world_size, least=least, together=getattr(settings, "negatives", None)),
        device=args.device,
        take_steps=args.world_size == 1,
        processes=int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size)),
    )
    if args.world_size > 1:
        found = int(gather(torch.tensor([found], device=args.device)).min())
    if args.process_index == 0:
        print(f"--{NAME} {found}: the most that memory and the data allow", flush=True)
    return replace(settings, **{NAME: found})


def _sizes(rows: Any, processes: int, *, least: int, together: int | None) -> list[int]:
    """The powers of two that data and loss allow."""
    most = LARGEST * processes if not hasattr(rows, "__len__") else len(rows)
    most = min(most, together or most) // processes
    powers = [2**power for power in range(LARGEST.bit_length()) if least <= 2**power <= most]
    found = [size for size in powers if together is None or together % (size * processes) == 0]
    if not found:
        raise InputError(f"--{NAME} auto: no power of two of examples is a batch of this data: give a number")
    return found


def _step(collator: Any, rows: Any, args: TrainingArguments) -> Callable[[nn.Module, int], Tensor]:
    """(model, examples) -> their loss, of the first rows again and again."""
    first = [row for row, _ in zip(rows, range(2), strict=False)]

    def step(model: nn.Module, examples: int) -> Tensor:
        batch = {name: _repeated(tensor, len(first), examples) for name, tensor in collator(first).items()}
        batch = {name: tensor.to(args.device) for name, tensor in batch.items()}
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
            return model(**collator.views(batch, Place(0, 0, 0, 0, 1))).loss

    return step


def _repeated(tensor: Tensor, rows: int, examples: int) -> Tensor:
    return torch.cat([tensor] * -(-examples // rows))[:examples]
