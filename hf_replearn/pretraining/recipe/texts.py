"""Settings and methods of models of text."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import setting
from hf_replearn.training.settings import ENDLESS, PretrainingSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(kw_only=True)
class TextSettings(PretrainingSettings):
    """What every recipe on text has. The defaults are the fast recipe; the papers' are in configs."""

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
        False,
        "read documents when they are needed, each process its own files; give --max_steps or --max_minutes too",
        section="data",
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
    torch_compile: bool | Literal["auto"] = setting(
        "auto",
        "compile the blocks of the model: a minute to start, then faster; auto: on a GPU, where the run is long enough",
        section="training",
    )
    weights: Literal["float32", "bfloat16"] = setting(
        "float32",
        "of the model; bfloat16: these, their gradients and the result take half the memory, and the optimizer keeps "
        "its own in float32",
        section="training",
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
        """training_arguments, and what text adds. Raises InputError where the length of the run is not known, or the
        weights cannot be of the type asked for."""
        self._check_weights()
        if self.streaming and self.max_steps < 1 and self.max_minutes is None:
            raise InputError("--streaming needs --max_steps or --max_minutes: a stream has no known length")
        args = self.training_arguments(
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            max_grad_norm=self.max_grad_norm,
            learning_rate=self.learning_rate,
            torch_compile=False,  # of the whole model: its blocks are, see `pretraining.compiling`
            **({"bf16": True} if self.weights == "bfloat16" else {}),
        )
        if self.max_minutes is not None:
            args.max_steps = self.max_steps if self.max_steps > 0 else ENDLESS
        return args

    def _check_weights(self) -> None:
        if self.weights == "float32":
            return
        if self.bf16 is False:
            raise InputError("--weights bfloat16 computes in bfloat16, and --bf16 false forbids it: leave one out")
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise InputError(
                "--weights bfloat16 is not for FSDP, which computes with bfloat16 copies of its float32 weights by "
                "itself: leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class TextMethod(Trained):
    """What a method adds to the story of a run on text, which `pretraining/texts.py` tells.

    The summary in `facts` may name settings, such as "{mask_rate:.0%}".

    part:         field of its configuration that holds the native model's.
    auto_class:   of transformers, for the native model with its head.
    token:        attribute of a tokenizer that the method cannot do without, and its name in words.
    ended:        whether rows end as texts do, see `pack_rows`.
    pipeline_tag: the Hub's word for what the model does.
    prepare:      (settings, texts) -> Objective.
    refuses:      (native model of --init) -> why the method cannot train it, or None.
    samples:      (model, tokenizer, length) -> a function of texts: what the model says of them, see `Said`.
    finish:       (folder, length) writes further files beside the model that is saved there; None: none.
    """

    part: Literal["encoder", "decoder"]
    auto_class: str
    token: tuple[str, str]
    ended: bool
    pipeline_tag: str
    prepare: Callable
    refuses: Callable
    samples: Callable
    finish: Callable | None = None

    STORY: ClassVar[str] = "texts"
