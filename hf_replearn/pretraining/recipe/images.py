"""Settings and methods of encoders of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import SharedRunSettings, setting
from hf_replearn.training.settings import PretrainingSettings

SMALL = 64  # pixels up to which an image is treated as those of CIFAR-10


@dataclass(kw_only=True)
class PictureData(SharedRunSettings):
    """What every recipe on images has of its data, and of how its encoder is judged."""

    dataset: str = setting(
        ...,
        "folder of images, in class folders or train/ and test/ or flat; or of parquet or arrow; Hub id, toy, "
        "toy-scenes, sprites or scenes3d; with --streaming shards of parquet, arrow or webdataset (.tar), also at https://.../train-{000..127}.tar",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.png'; none: all of the one kind there is", section="data"
    )
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    label_column: str | None = setting(None, "column of the labels, only ever used for evaluation", section="data")
    label_type: Literal["classes", "ignored"] | None = setting(
        None, "what the labels are, where their type leaves a choice; ignored: no labels, no scores", section="data"
    )
    max_undecodable: float = setting(
        0.01, "share of images that may fail to decode before the run stops", section="data", at_least=0, at_most=1
    )
    value_range: tuple[float, ...] | None = setting(
        None, "LOW,HIGH: levels of more than 8 bits that become black and white; none: 0,65535", section="data"
    )
    channels: int | None = setting(
        None,
        "that every image has: 1 for greys, more for .npy and for TIFF of several bands or pages; none: RGB is made "
        "of all",
        section="data",
        at_least=1,
        at_most=1000,
    )
    image_size: int | None = setting(
        None,
        "pixels of a view; none: about those of the images, at most 224, or those of a checkpoint",
        section="data",
        at_least=8,
        at_most=4096,
    )
    crop_pct: float = setting(
        1.0, "share of the image that evaluation sees (ImageNet: 0.875)", section="data", at_least=0.1, at_most=1
    )
    shots: tuple[int, ...] | None = setting(
        None, "labels a class; none: 1, 2, 4, ... 64 as the smallest class allows", section="evaluation", at_least=1
    )
    draws: int = setting(20, "random choices of these labels", section="evaluation", at_least=2, at_most=10_000)


@dataclass(kw_only=True)
class PictureSettings(PretrainingSettings, PictureData):
    """What every recipe on images has that trains by steps, whatever its network is."""

    data_on_device: Literal["auto", "on", "off"] = setting(
        "auto",
        "all images stay decoded where the training is, and nothing is loaded; auto: on a GPU, if they take up to a "
        "quarter of its memory; the result is the same",
        section="data",
    )
    per_device_train_batch_size: int | Literal["auto"] | None = setting(
        None,
        "images per process and step; none: 256, or the largest power of two that the data allow; auto: the largest "
        "that fits into memory too",
        section="training",
        at_least=2,
        at_most=1_000_000,
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "lars", "LARS, for large batches of two views; AdamW; or SGD with momentum 0.9", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.3 * batch / 256", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1e-6, "of weight matrices; norms and biases have none", section="training", at_least=0
    )
    warmup_steps: float = setting(
        0.1,
        "linear warm-up before the cosine decay: steps, or a share of all if below 1",
        section="training",
        at_least=0,
    )
    knn_steps: int = setting(
        500,
        "steps between scores of a fixed sample: RankMe, alignment, uniformity, and kNN if there are labels; 0: none",
        section="evaluation",
        at_least=0,
    )

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.999)  # of AdamW
    VIEWS: ClassVar[int] = 1  # images that go through the network for each image of a batch
    RATE: ClassVar[float] = 0.3  # peak learning rate of a batch of 256

    def peak_learning_rate(self, batch: int) -> float:
        """For a batch of so many images over all processes (linear rule, Goyal et al. 2017)."""
        return self.learning_rate or self.RATE * batch / 256

    def images_per_step(self, processes: int) -> int:
        """The images of one loss, over all processes. Raises InputError for a size that cannot be had."""
        return self.per_device_train_batch_size * processes


@dataclass(kw_only=True)
class ImageSettings(PictureSettings):
    """What every recipe on images has whose network is timm's. What is None is left to the data, see `fit_to_data`."""

    streaming: bool = setting(
        False,
        "read shards when they are needed, for data larger than a disk; no labels are read; give --max_steps or "
        "--max_minutes too",
        section="data",
    )
    shuffle_buffer: int = setting(
        1000,
        "images of a stream that each reader holds and gives out in random order; 1: as they come",
        section="data",
        at_least=1,
        at_most=1_000_000,
    )
    backbone: str | None = setting(
        None,
        "timm architecture, or a checkpoint to start from: Hub id or folder of timm's format, or what a run of ours "
        "left; none: resnet18 up to 64 pixels, resnet50 above",
        section="model",
    )
    backbone_args: dict | None = setting(None, "further arguments of timm.create_model", section="model")
    stem: Literal["imagenet", "cifar"] | None = setting(
        None, "cifar: a ResNet's stem for small images; none: that for ResNets up to 64 pixels", section="model"
    )

    # Setting -> what it is for images up to SMALL pixels, and for larger ones, where it is left to the data.
    BY_SIZE: ClassVar[dict[str, tuple[Any, Any]]] = {}
    # Where --backbone is left to the data: the architecture for images up to SMALL pixels, and for larger ones, and its
    # arguments.
    BACKBONES: ClassVar[tuple[tuple[str, dict | None], ...]] = (("resnet18", None), ("resnet50", None))
    RESNET_ARGS: ClassVar[dict[str, Any]] = {}  # of timm.create_model, for a ResNet from random weights, unless given


@dataclass(kw_only=True)
class CropSettings(ImageSettings):
    """What recipes have whose method takes random crops of an image."""

    min_scale: float = setting(
        0.08, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    flip: float = setting(
        0.5, "probability of mirroring; 0 where left and right matter", section="data", at_least=0, at_most=1
    )


@dataclass(kw_only=True)
class ViewSettings(CropSettings):
    """What recipes have whose method compares augmented views of an image."""

    augmentation: Literal["imagenet", "cifar"] | None = setting(
        None, "imagenet: with blur; cifar: without; none: cifar up to 64 pixels", section="data"
    )
    strength: float | None = setting(
        None,
        "of the colour jitter; none: 0.5 up to 64 pixels (paper, CIFAR-10), 1 above (ImageNet)",
        section="data",
        at_least=0,
        at_most=2.5,
    )

    BY_SIZE: ClassVar[dict[str, tuple[Any, Any]]] = {"augmentation": ("cifar", "imagenet"), "strength": (0.5, 1.0)}
    VIEWS: ClassVar[int] = 2


@dataclass(kw_only=True)
class ContrastiveSettings(ViewSettings):
    """What recipes have whose loss is one of the projections of a whole batch, however it went through the network."""

    negatives: int | None = setting(
        None,
        "images in one loss, over all processes; more than their batches: cached gradients",
        section="training",
        at_least=2,
    )

    def images_per_step(self, processes: int) -> int:
        """The images contrasted in one loss. Raises InputError for a size that cannot be had."""
        together = self.per_device_train_batch_size * processes
        negatives = self.negatives or together
        if negatives < together or negatives % together:
            raise InputError(
                f"--negatives {negatives} must be a multiple of {together}, the images that {processes} process(es) "
                f"hold with --per_device_train_batch_size {self.per_device_train_batch_size}"
            )
        return negatives


@dataclass(frozen=True, kw_only=True)
class ImageMethod(Trained):
    """What a method adds to the story of a run on images, which `pretraining/images.py` tells.

    Of the model, the encoder f is `model.model.encoder`; each field that its configuration adds is a setting of that
    name.

    collator:     (settings, backbone, data, augment) -> the method's own collator; None: two views of each image.
    needs_labels: the classes of the images are part of the loss.
    own_task:     (model, batches) -> OwnTask: how well f and g do what they are trained for, beside who does not learn.
                  batches: an iterable, which can be gone through again, of the views of images held out, see
                  `FixedBatches`. None: that would say nothing.
    pictures:     (model, batches, folder) -> {file written there: what it shows}, of the same images; None: none.
    probes:       what else than the scores of every run its features are judged by, see `evaluation.suite`.
    lightness:    whether f sees the lightness of images alone, by one channel, in training and whenever it is judged.
    codes:        (model) -> {row of the report: module that gives (B, K)}, what is judged besides f's features, and
                  beside principal components of the same number; None: nothing.
    stages:       whether kNN and linear probe judge each stage of f, since many a task is told best before the last.
    """

    collator: Callable | None = None
    needs_labels: bool = False
    own_task: Callable | None = None
    pictures: Callable | None = None
    probes: tuple[str, ...] = ()
    lightness: bool = False
    codes: Callable | None = None
    stages: bool = False

    STORY: ClassVar[str] = "images"
