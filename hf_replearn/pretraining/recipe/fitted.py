"""Settings and methods of encoders that are fitted in passes over all examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from hf_replearn.pretraining.recipe.images import PictureData
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import MOST_WORKERS, setting


@dataclass(kw_only=True)
class FittedSettings(PictureData):
    """What recipes have whose encoder is fitted in passes over images, their patches, or features of another one."""

    dataset: str | None = setting(
        None,
        "folder of images, in class folders or train/ and test/ or flat; or of parquet or arrow; Hub id, toy, or "
        "toy-scenes",
        section="data",
    )
    features: str | None = setting(
        None,
        "instead of images: an .npz file of features of another encoder, as `hf-replearn encode` writes it",
        section="data",
    )
    image_size: int | None = setting(
        None,
        "pixels to which images are brought; none: those of the images, at most 32, or 96 with --patches",
        section="data",
        at_least=4,
        at_most=1024,
    )
    patches: int | None = setting(
        None,
        "pixels a side of patches to learn from: an image is then what its patches are, summed over quarters of it "
        "(Coates, Lee & Ng 2011: 6); none: from whole images",
        section="data",
        at_least=2,
        at_most=64,
    )
    stride: int = setting(
        1, "with --patches: pixels between two patches of an image that is encoded", section="data", at_least=1
    )
    regions: int = setting(
        2, "with --patches: regions a side over which codes are summed; 2: quarters", section="data", at_least=1
    )
    patch_count: int = setting(
        200_000, "with --patches: how many to learn from, drawn from all images", section="data", at_least=10
    )
    contrast: float | None = setting(
        None,
        "added to the variance of an input before it is divided by its standard deviation, after its mean is taken "
        "off; none: 10/255^2 of patches (Coates, Lee & Ng 2011), and images are left as they are",
        section="data",
        at_least=0,
    )
    components: int = setting(64, "numbers of a code", section="model", at_least=1, at_most=65_536)
    batch_size: int = setting(
        4096, "examples in memory at a time; the result is the same", section="training", at_least=1
    )
    dataloader_num_workers: int = setting(
        0, "processes that load images", section="training", at_least=0, at_most=MOST_WORKERS
    )
    save_steps: int = setting(5, "passes over the data between two checkpoints", section="training", at_least=1)
    save_total_limit: int = setting(2, "checkpoints kept", section="training", at_least=1)
    resume: str = setting(
        "auto", "auto: go on from the newest good checkpoint; never; or a checkpoint folder", section="training"
    )
    allow_change: bool = setting(False, "go on although data or settings are others than before", section="training")

    left_to_memory: ClassVar[tuple[str, ...]] = ()


@dataclass(kw_only=True)
class WhitenedSettings(FittedSettings):
    """What recipes have whose inputs may be whitened first."""

    whiten: bool | None = setting(
        None, "inputs get unit covariance first (ZCA); none: patches do, images do not", section="data"
    )
    whiten_noise: float = setting(
        0.1, "added to every variance before it becomes 1 (Coates, Lee & Ng 2011)", section="data", at_least=0
    )

    WHITENS_FEATURES: ClassVar[bool] = False  # where that is left to the data


@dataclass(frozen=True, kw_only=True)
class FittedMethod(Trained):
    """What a method adds to the story of an encoder that is fitted in passes, which `pretraining/fitted.py` tells.

    `model_class` is the encoder; each field that its configuration adds is a setting of that name.

    fit:      (settings) -> the fit: `begin(examples, generator)` makes a state, a dict of tensors; `go_on(state,
              examples, generator)` is one pass, which changes it and returns what was measured; `has_converged(state)`;
              at most `passes`; `weights(state)`, those of the model.
    filters:  what the picture of the model's `filters` shows, a sentence.
    own_task: (model, examples) -> {measure: value} of OwnTask; None: that would say nothing. smaller: of these, those
              of which less is better.
    """

    fit: Callable
    filters: str
    own_task: Callable | None = None
    smaller: tuple[str, ...] = ()

    STORY: ClassVar[str] = "fitted"
