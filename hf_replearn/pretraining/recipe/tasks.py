"""Settings and facts of several labelled tasks that share a trunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import setting
from hf_replearn.training.settings import PretrainingSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments


@dataclass(kw_only=True)
class TaskSettings(PretrainingSettings):
    """What a run has that learns several labelled tasks at once."""

    tasks: tuple[str, ...] = setting(
        ...,
        "NAME=DATASET for each, a folder, file or Hub id of labelled texts or of images; with NAME=DATASET#COLUMN the "
        "label is that column; or toy (two digits in a picture), or toy-texts",
        section="data",
    )
    label_types: dict | None = setting(
        None, "such as {'size': 'numbers'} or 'classes', of tasks whose labels may be either", section="data"
    )
    text_columns: str | None = setting(None, "a column of texts, or a pair A,B; none: by name or type", section="data")
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    max_length: int | None = setting(
        None,
        "tokens kept of a text; none: 128, or what the model can take",
        section="data",
        at_least=2,
        at_most=1_000_000,
    )
    size_power: float = setting(
        0.5,
        "a task has batches in proportion to its examples to this power (1: all examples equally often; 0: all tasks)",
        section="data",
        at_least=0,
        at_most=2,
    )
    shares: tuple[float, ...] = setting(
        (), "of the batches, one for each task, instead of --size_power", section="data", above=0
    )
    init: str | None = setting(
        None, "folder or Hub id of the encoder that the trunk starts from; of texts it is needed", section="model"
    )
    backbone: str = setting(
        "resnet18", "of images without --init: timm's name of a network, from random weights", section="model"
    )
    backbone_args: dict | None = setting(None, "further arguments of the timm backbone", section="model")
    image_size: int = setting(
        32, "pixels that images are brought to, without --init", section="model", at_least=8, at_most=4096
    )
    dropout: float | None = setting(
        0.1, "every dropout rate of the configuration; none: as it is", section="model", at_least=0, at_most=1
    )
    weighting: Literal["uniform", "uncertainty", "gradnorm", "pcgrad", "mgda"] = setting(
        "uniform",
        "uniform: each loss as it is; uncertainty: by a noise of each task that is learnt; gradnorm: so that all learn "
        "at one pace; pcgrad: gradients that contradict one another are projected; mgda: the shortest sum of gradients "
        "(the last three see all tasks in every step)",
        section="training",
    )
    weighting_rate: float = setting(
        0.025, "of the weights that uncertainty and gradnorm learn", section="training", above=0, at_most=10
    )
    alpha: float = setting(
        1.5, "of gradnorm: how strongly slow tasks are pulled on", section="training", at_least=0, at_most=100
    )
    single_tasks: bool = setting(
        True, "each task alone beside it, from the same start, with as many batches of it", section="training"
    )
    baseline: bool = setting(True, "a linear model of TF-IDF or of raw pixels beside it", section="training")
    num_train_epochs: float = setting(
        3.0, "as many batches as passes over the examples of all tasks take", section="training", above=0
    )
    per_device_train_batch_size: int = setting(
        32, "examples of a task in a step", section="training", at_least=1, at_most=1_000_000
    )
    learning_rate: float = setting(
        5e-5,
        "peak of AdamW's (BERT: 2e-5 to 5e-5; small networks need up to 3e-4)",
        section="training",
        at_least=0,
        at_most=1000,
    )
    weight_decay: float = setting(0.01, "of weight matrices", section="training", at_least=0)
    warmup: float = setting(0.1, "share of the run with a rising rate, then it falls to 0", section="training",
                            at_least=0, at_most=1)  # fmt: skip
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm; 0: never", section="training", at_least=0)

    def task_arguments(self, *, steps: int, batch: int) -> TrainingArguments:
        """What a run of so many steps is trained with. Raises InputError for what several tasks cannot be told."""
        if self.max_minutes is not None:
            raise InputError("--max_minutes: how many batches each task has is settled before; give --max_steps")
        args = self.training_arguments(
            learning_rate=self.learning_rate,
            max_grad_norm=self.max_grad_norm,
            train_sampling_strategy="sequential",  # the rows are in the order of the steps
        )
        args.max_steps, args.per_device_train_batch_size = steps, batch
        return args


@dataclass(frozen=True, kw_only=True)
class TaskMethod(Trained):
    """Several tasks at once, whose story `pretraining/tasks.py` tells."""

    STORY: ClassVar[str] = "tasks"
