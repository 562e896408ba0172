"""Settings and methods of sentence encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import setting
from hf_replearn.sharing.report import Method
from hf_replearn.training.settings import ENDLESS, PretrainingSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(kw_only=True)
class SentenceSettings(PretrainingSettings):
    """What a recipe of sentence encoders has."""

    dataset: tuple[str, ...] = setting(
        ...,
        "a file or folder of parquet, arrow, json, csv, tsv or txt, a Hub id, or toy (Python's docs); of texts several "
        "are one corpus",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.txt'; none: all of the one kind there is", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    text_column: str | None = setting(None, "column of the texts; none: `text`, or the only one", section="data")
    unit: Literal["sentence", "row"] = setting(
        "sentence", "what a text is: each sentence of the documents, or each of their rows as it is", section="data"
    )
    sequence_length: int = setting(
        32, "tokens kept of a text, special ones included", section="data", at_least=3, at_most=131_072
    )
    init: str | None = setting(
        None, "start from this encoder, folder or Hub id; none: from random weights", section="model"
    )
    size: Literal["tiny", "mini", "small", "base", "large"] = setting(
        "mini", "of a BERT from random weights", section="model"
    )
    vocab_size: int = setting(
        16384, "tokens of a tokenizer that is trained on the data, where there is no --init", section="data",
        at_least=300, at_most=1_000_000,
    )  # fmt: skip
    lowercase: bool = setting(False, "a tokenizer that is trained knows no capitals", section="data")
    dropout: float = setting(
        0.1, "in training, also of an encoder that was trained without", section="model", at_least=0, at_most=0.9
    )
    pooling: Literal["cls", "mean"] | None = setting(
        None, "one vector of a text: its first token's, or the mean of all; none: as the paper", section="model"
    )
    num_train_epochs: float = setting(1.0, "passes over the training data", section="training", above=0)
    per_device_train_batch_size: int = setting(
        64, "texts, or pairs of them, that go through the network at once", section="training",
        at_least=1, at_most=1_000_000,
    )  # fmt: skip
    negatives: int | None = setting(
        None,
        "texts, or pairs of them, in one loss of simcse and pairs, over all processes; more than their batches: cached "
        "gradients",
        section="training",
        at_least=2,
    )
    learning_rate: float = setting(3e-5, "peak, of AdamW", section="training", above=0, at_most=1000)
    weight_decay: float = setting(0.0, "of weight matrices; norms and biases have none", section="training", at_least=0)
    warmup_steps: float = setting(
        0.1, "linear warm-up before the linear decay: steps, or a share of all if below 1", section="training",
        at_least=0,
    )  # fmt: skip
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm; 0: never", section="training", at_least=0)
    whiten: int | None = setting(
        None,
        "numbers of a vector that are kept after whitening, fitted on the texts trained on; none: no whitening",
        section="evaluation",
        at_least=1,
        at_most=65_536,
    )
    sts: str | None = setting(
        None,
        "pairs of sentences with people's scores, such as path/to/glue/stsb, by which it is watched and judged",
        section="evaluation",
    )
    eval_steps: int = setting(125, "between two looks at --sts; 0: only at the end", section="evaluation", at_least=0)

    def rows_per_loss(self, processes: int) -> int:
        """Of all processes. Raises InputError for a number that cannot be had."""
        together = self.per_device_train_batch_size * processes
        negatives = self.negatives or together
        if negatives < together or negatives % together:
            raise InputError(
                f"--negatives {negatives} must be a multiple of {together}, the texts that {processes} process(es) "
                f"hold with --per_device_train_batch_size {self.per_device_train_batch_size}"
            )
        return negatives

    def sentence_arguments(self) -> TrainingArguments:
        """training_arguments, and what sentences add. Raises InputError."""
        args = self.training_arguments(
            lr_scheduler_type="linear",
            warmup_steps=self.warmup_steps,
            max_grad_norm=self.max_grad_norm,
            learning_rate=self.learning_rate,
        )
        if self.max_minutes is not None:
            if self.warmup_steps >= 1:
                raise InputError(
                    f"--warmup_steps {self.warmup_steps:g}: with --max_minutes, a share of the run below 1"
                )
            args.max_steps = self.max_steps if self.max_steps > 0 else ENDLESS
        return args


@dataclass(frozen=True, kw_only=True)
class SentenceMethod(Trained):
    """What a recipe adds to the story of a sentence encoder, which `pretraining/sentences.py` tells.

    objectives: name -> the paper behind it.
    read:       settings -> what is learnt from, see `data.sentences`.
    collate:    (settings, sentences, tokenizer) -> the collator, with `views`.
    configure:  (settings, configuration of the encoder) -> that of f and g. Raises InputError.
    """

    objectives: dict[str, Method]
    read: Callable
    collate: Callable
    configure: Callable

    STORY: ClassVar[str] = "sentences"
