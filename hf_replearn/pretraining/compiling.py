"""Whether the blocks of a language model are compiled, and how."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers
from accelerate.utils import broadcast
from torch import nn
from transformers import PreTrainedConfig, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_replearn import architectures
from hf_replearn.pretraining.recipe import TextMethod, TextSettings
from hf_replearn.training.folder import of_earlier_start
from hf_replearn.training.throughput import peak_flops

NAME = "torch_compile"
COMPILING = 40.0  # seconds for forward and backward of one kind of block and one shape of a batch
SAVED = 0.4  # share of a step that compiled blocks save
EAGER_MFU = 0.25  # of the device's peak, of blocks that are not compiled
BLOCK_SECONDS = 1e-3  # of a step that such a block takes at least: the host starts some 170 kernels for it
USUAL_PEAK = 150e12  # FLOP/s of a GPU that is not in our table


@dataclass(frozen=True)
class Length:
    """How long a run takes on a GPU without compiled blocks, by rule of thumb.

    steps:   of the run, or as many as `seconds` have room for.
    seconds: of the run at most; None: as many as the steps take.
    flops:   of a step on one device, whose `peak` is in FLOP/s. blocks: of the model.
    """

    steps: float
    seconds: float | None
    flops: float
    peak: float | None
    blocks: int

    @property
    def step(self) -> float:
        """Seconds of a step: at a quarter of the peak, and not below 1 ms for each block."""
        return max(self.flops / (EAGER_MFU * (self.peak or USUAL_PEAK)), self.blocks * BLOCK_SECONDS)

    @property
    def whole(self) -> float:
        """Seconds of the run."""
        return min(self.steps * self.step, self.seconds or float("inf"))


def pays(run: Length, *, kinds: int) -> tuple[bool, str]:
    """Whether a run on a GPU is long enough for compiling to pay, and why.

    The rule: it takes 40 s for each of `kinds` (kinds of blocks times shapes of a batch), and then saves 40 % of each
    step. These are estimates; what a step takes without it is one too, see `Length`.
    """
    cost, gain = COMPILING * kinds, SAVED * run.whole
    return gain > cost, (
        f"of some {run.whole / run.step:,.0f} steps of {run.step:.2g} s it would save about {gain:,.0f} s, and take "
        f"{cost:.0f} s to compile (rough estimates)"
    )


def settle_compile(
    settings: TextSettings, args: TrainingArguments, method: TextMethod, config: PreTrainedConfig, rows: Any
) -> TextSettings:
    """The settings, where `torch_compile` says `auto` with the choice: on a GPU where it pays, and never on a CPU.

    A run that was started before keeps its choice. config: of the native model. rows: to train on.
    """
    if settings.torch_compile != "auto":
        return settings
    chosen = of_earlier_start(settings, NAME) if args.process_index == 0 else None
    if args.world_size > 1:
        told = int(chosen) if isinstance(chosen, bool) else -1
        chosen = {0: False, 1: True}.get(int(broadcast(torch.tensor(told, device=args.device))))
    if isinstance(chosen, bool) or args.device.type != "cuda":
        return replace(settings, torch_compile=chosen is True)
    chosen, why = _choose(settings, args, method, config, rows)
    if args.process_index == 0:
        print(f"--{NAME} {str(chosen).lower()}: {why}", flush=True)
    return replace(settings, torch_compile=chosen)


def _choose(
    settings: TextSettings, args: TrainingArguments, method: TextMethod, config: PreTrainedConfig, rows: Any
) -> tuple[bool, str]:
    if missing := _missing():
        return False, f"it needs {missing}"
    with torch.device("meta"):
        model = getattr(transformers, method.auto_class).from_config(config, trust_remote_code=False)
    tokens = settings.per_device_train_batch_size * args.gradient_accumulation_steps * settings.sequence_length
    run = Length(
        steps=args.max_steps if args.max_steps > 0 else _steps(args, len(rows)),
        seconds=None if settings.max_minutes is None else 60 * settings.max_minutes,
        flops=tokens * architectures.flops_per_token(model, length=settings.sequence_length),
        peak=peak_flops(torch.cuda.get_device_name(args.device)),
        blocks=len(blocks(model)),
    )
    kinds = max(1, len(set(getattr(config, "layer_types", None) or ()))) * (2 if settings.short_rows else 1)
    return pays(run, kinds=kinds)


def _steps(args: TrainingArguments, rows: int) -> float:
    batch = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    return args.num_train_epochs * max(1, rows // batch)


def _missing() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton"
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return None if any(name and shutil.which(name) for name in compilers) else "a C compiler"


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that a transformer repeats."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def compile_blocks(model: nn.Module) -> None:
    """Each block in place, when it is first called: one graph for all that are alike and for each shape of a batch.
    Names and weights are as before."""
    for block in blocks(model):
        block.compile(dynamic=False)


def uncompiled() -> torch.compiler.set_stance:
    """A context in which blocks run as they are written: shapes that come once are not worth compiling."""
    return torch.compiler.set_stance("force_eager")
