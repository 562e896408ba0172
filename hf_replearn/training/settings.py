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
    bf16: bool | None = setting(None, "bfloat16 autocast; none: where the hardware has it", section="training")
    torch_compile: bool = setting(False, "compile the model: slow to start, then faster", section="training")
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

    def training_arguments(self, **more) -> TrainingArguments:
        """What transformers.Trainer is told; `more` is what only one kind of recipe has."""
        import torch
        from transformers import TrainingArguments

        from hf_replearn.training.launch import check_launch

        check_trackers(self.report_to)
        use_cpu = self.use_cpu or not torch.accelerator.is_available()
        args = TrainingArguments(
            output_dir=self.output_dir,
            num_train_epochs=self.num_train_epochs,
            max_steps=self.max_steps,
            per_device_train_batch_size=1 if self.left_to_memory else self.per_device_train_batch_size,
            bf16=self.bf16 if self.bf16 is not None else has_bf16("cpu" if use_cpu else "cuda"),
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


@dataclass(kw_only=True)
class TextPretrainingSettings(PretrainingSettings):
    """What masked and causal language modelling share. The defaults are the fast recipe; the papers' are in configs."""

    dataset: tuple[str, ...] = setting(
        ...,
        "a file or folder of parquet, arrow, json, csv, tsv or txt, a Hub id, or toy (Python's docs); several are one "
        "corpus",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.txt'; none: all of the one kind there is", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    text_column: str | None = setting(None, "column of the documents; none: `text`, or the only one", section="data")
    streaming: bool = setting(
        False, "read documents when they are needed; give --max_steps or --max_minutes too", section="data"
    )
    tokenizer: str | None = setting(
        None, "folder or Hub id; none: that of --init, or one trained on the data", section="data"
    )
    vocab_size: int = setting(
        16384, "tokens of a tokenizer that is trained on the data", section="data", at_least=300, at_most=1_000_000
    )
    lowercase: bool = setting(False, "a tokenizer that is trained knows no capitals", section="data")
    sequence_length: int = setting(128, "tokens of a row", section="data", at_least=8, at_most=131_072)
    packing: Literal["stream", "documents", "sentences"] = setting(
        "stream",
        "stream: one document after the other; documents: the same, but they do not see each other; sentences: whole "
        "ones, as RoBERTa",
        section="data",
    )
    init: str | None = setting(None, "go on training this checkpoint: folder or Hub id", section="model")
    dropout: float = setting(0.0, "of a model from scratch (papers: 0.1)", section="model", at_least=0, at_most=0.9)
    zero_init: bool = setting(True, "of a model from scratch: output projections start at 0", section="model")
    num_train_epochs: float = setting(1.0, "passes over the training data", section="training", above=0)
    per_device_train_batch_size: int | Literal["auto"] = setting(
        32,
        "rows per process and micro-step; auto: as many as fit into memory",
        section="training",
        at_least=1,
        at_most=1_000_000,
    )
    gradient_accumulation_steps: int = setting(1, "micro-steps of an optimizer step", section="training", at_least=1)
    gradient_checkpointing: bool = setting(
        False, "keep fewer activations, compute them again: less memory, a third slower", section="training"
    )
    optimizer: Literal["muon", "adamw"] = setting(
        "muon", "muon: for hidden matrices, AdamW for the rest; or AdamW for all", section="training"
    )
    learning_rate: float = setting(2e-3, "peak, of AdamW", section="training", at_least=0, at_most=1000)
    muon_learning_rate: float = setting(3e-3, "peak, of Muon", section="training", at_least=0, at_most=1000)
    weight_decay: float = setting(
        0.1,
        "of weight matrices (with Muon: hidden ones), not of norms and biases",
        section="training",
        at_least=0,
    )
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm; 0: never", section="training", at_least=0)
    schedule: Literal["stable", "linear", "cosine"] = setting(
        "stable", "of the learning rate after warm-up; stable: constant, then linear to 0", section="training"
    )
    warmup: float = setting(0.1, "share of the run with a rising rate", section="training", at_least=0, at_most=1)
    decay: float = setting(0.5, "share of the run that falls to 0 (stable)", section="training", at_least=0, at_most=1)
    short_rows: float = setting(
        0.0,
        "share of the run with rows cut into four short ones (masked LM leaves its first plateau sooner on them; there "
        "each has special tokens around it, in the place of its first and last ones)",
        section="training",
        at_least=0,
        at_most=1,
    )
    eval_steps: int = setting(200, "between two held-out losses; 0: only at the end", section="evaluation", at_least=0)
    eval_rows: int = setting(
        1000, "rows of the documents held out, at most, for these losses", section="evaluation", at_least=1
    )
    samples: tuple[str, ...] = setting(
        (),
        "texts for the report: masked LM fills their mask or one it puts in, causal LM goes on; none: held-out ones",
        section="evaluation",
    )

    def text_arguments(self) -> TrainingArguments:
        """training_arguments, and what text adds. Raises InputError where the length of the run is not known."""
        if self.streaming and self.max_steps < 1 and self.max_minutes is None:
            raise InputError("--streaming needs --max_steps or --max_minutes: a stream has no known length")
        args = self.training_arguments(
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            max_grad_norm=self.max_grad_norm,
            learning_rate=self.learning_rate,
        )
        if self.max_minutes is not None:
            args.max_steps = self.max_steps if self.max_steps > 0 else ENDLESS
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
    """Whether a kind of device ("cpu", "cuda", ...) computes in bfloat16 by its own instructions."""
    import torch

    if device == "cpu":
        return torch.cpu.get_capabilities().get("avx512_bf16", False)
    return device == "cuda" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
