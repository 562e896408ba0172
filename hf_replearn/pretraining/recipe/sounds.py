"""Settings and methods of encoders of sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import SoundFileSettings, setting
from hf_replearn.training.settings import PretrainingSettings


@dataclass(kw_only=True)
class SoundSettings(SoundFileSettings, PretrainingSettings):
    """What every recipe on sounds has."""

    dataset: str = setting(
        ...,
        "folder of .wav files, or of .npy arrays (T,) of int16 or floats in -1...1, in class folders or train/ and "
        "test/ or flat; one such file; or toy-tones",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.wav'; none: all of the one kind there is", section="data"
    )
    window: int = setting(
        20_480, "samples of a sound that are learnt from at a time; shorter sounds are left out", section="data",
        at_least=2,
    )  # fmt: skip
    label_type: Literal["classes", "ignored"] | None = setting(
        None, "what class folders are, where their names leave a choice; ignored: no labels, no scores", section="data"
    )
    per_device_train_batch_size: int = setting(
        32, "windows per process and step", section="training", at_least=2, at_most=1_000_000
    )
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "AdamW; or SGD with momentum 0.9", section="training")
    learning_rate: float = setting(5e-4, "peak learning rate", section="training", above=0, at_most=1000)
    weight_decay: float = setting(
        1e-4, "of weight matrices; norms and biases have none", section="training", at_least=0
    )
    warmup_steps: float = setting(
        0.1,
        "linear warm-up before the cosine decay: steps, or a share of all if below 1",
        section="training",
        at_least=0,
    )
    shots: tuple[int, ...] | None = setting(
        None, "labels a class; none: 1, 2, 4, ... 64 as the smallest class allows", section="evaluation", at_least=1
    )
    draws: int = setting(20, "random choices of these labels", section="evaluation", at_least=2, at_most=10_000)

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.999)  # of AdamW

    def peak_learning_rate(self, batch: int) -> float:
        """Whatever the batch is."""
        return self.learning_rate


@dataclass(frozen=True, kw_only=True)
class SoundMethod(Trained):
    """What a method adds to the story of a run on sounds, which `pretraining/sounds.py` tells.

    Of the model, the encoder f is `model.model`; each field that its configuration adds is a setting of that name.

    own_task: (model, batches) -> OwnTask, and pictures: (model, batches, folder) -> {file: caption}, as of ImageMethod.
    """

    own_task: Callable
    pictures: Callable

    STORY: ClassVar[str] = "sounds"
