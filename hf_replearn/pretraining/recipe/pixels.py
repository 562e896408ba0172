"""Settings and methods of images as rows of colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe.images import PictureSettings
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import setting


@dataclass(kw_only=True)
class PixelSettings(PictureSettings):
    """What recipes have that read an image as a row of colours."""

    image_size: int = setting(
        32,
        "pixels to which images are made smaller; T of them squared are a row",
        section="data",
        at_least=4,
        at_most=96,
    )
    colours: int = setting(512, "of the palette (paper: 512)", section="data", at_least=2, at_most=4096)
    min_scale: float = setting(
        1.0,
        "smallest crop, as a share of the image's area; crops that are resized are blurred",
        section="data",
        at_least=0.01,
        at_most=1,
    )
    flip: float = setting(
        0.5, "probability of mirroring; 0 where left and right matter", section="data", at_least=0, at_most=1
    )
    optimizer: Literal["muon", "adamw"] = setting(
        "muon", "muon: for hidden matrices, AdamW for the rest; or AdamW for all (paper: Adam)", section="training"
    )
    learning_rate: float | None = setting(2e-3, "peak, of AdamW", section="training", above=0, at_most=1000)
    muon_learning_rate: float = setting(3e-3, "peak, of Muon", section="training", above=0, at_most=1000)
    dropout: float = setting(0.0, "of the model (paper: 0)", section="model", at_least=0, at_most=0.9)
    per_device_train_batch_size: int | Literal["auto"] = setting(
        64,
        "images per process and step; auto: the largest that fits",
        section="training",
        at_least=1,
        at_most=1_000_000,
    )
    weight_decay: float = setting(
        0.01, "of weight matrices; norms and biases have none", section="training", at_least=0
    )

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class PixelMethod(Trained):
    """What a method adds to the story of a run on images as rows of colours, which `pretraining/pixels.py` tells.

    palette:  (colours (N, 3) uint8, K) -> (K, 3), black at -1 and white at 1.
    native:   (settings, K) -> the configuration of the native model.
    hidden:   share of the pixels that are not seen, and told.
    layers:   encoder -> a module that gives all its layers beside one another, with their `widths`.
    own_task: (model, images learnt from, images to be told, both in batches) -> OwnTask.
    pictures: (model, images, folder) -> {file written there: what it shows}.
    """

    palette: Callable
    native: Callable
    layers: Callable
    own_task: Callable
    pictures: Callable

    hidden: float = 0.0

    STORY: ClassVar[str] = "pixels"
