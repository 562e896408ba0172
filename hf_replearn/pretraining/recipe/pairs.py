"""Settings and methods of encoders of images and texts together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import setting
from hf_replearn.training.settings import PretrainingSettings


@dataclass(kw_only=True)
class PairSettings(PretrainingSettings):
    """What recipes have that learn from images with captions."""

    dataset: str = setting(
        ...,
        "parquet, arrow or webdataset (.tar) with images and captions; a folder of images with metadata.csv (file_name,"
        " text) or a .txt beside each; a .csv of paths and captions; a Hub id; captioned-scenes, or toy (few of these)",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.tar'; none: all of the one kind there is", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    text_column: str | None = setting(
        None, "column of the captions, of texts or lists of texts; none: by name, or the only one", section="data"
    )
    max_undecodable: float = setting(
        0.01, "share of images that may fail to decode before the run stops", section="data", at_least=0, at_most=1
    )
    image_size: int | None = setting(
        None,
        "pixels; none: those of a checkpoint, else about those of the images, at most 224",
        section="data",
        at_least=8,
        at_most=4096,
    )
    crop_pct: float = setting(
        1.0, "share of the image that evaluation sees (ImageNet: 0.875)", section="data", at_least=0.1, at_most=1
    )
    min_scale: float = setting(
        0.9,
        "smallest random crop, as a share of the image's area; 1: the middle of the image, as in evaluation",
        section="data",
        at_least=0.01,
        at_most=1,
    )
    tokenizer: str | None = setting(
        None, "folder or Hub id; none: that of --text_encoder, or one trained on the captions", section="data"
    )
    vocab_size: int = setting(
        16_384, "tokens of a tokenizer that is trained on the captions", section="data", at_least=300, at_most=1_000_000
    )
    max_length: int | None = setting(
        None, "tokens kept of a caption; none: 77, or what the encoder takes", section="data", at_least=3, at_most=8192
    )
    image_encoder: str = setting(
        "clip-mini",
        "clip-tiny, clip-mini, clip-small or clip-base: CLIP's vision transformer from random weights; a timm "
        "architecture; or a checkpoint to start from: folder or Hub id of timm or transformers",
        section="model",
    )
    image_encoder_args: dict | None = setting(None, "further arguments of timm.create_model", section="model")
    image_pooling: Literal["own", "attention"] | None = setting(
        None,
        "of timm's feature maps: own, mostly their mean; attention, which knows positions; none: attention for a "
        "network from random weights",
        section="model",
    )
    patch_size: int | None = setting(
        None, "pixels, of clip-...; none: an eighth of images up to 64 pixels, else 16", section="model", at_least=1
    )
    text_encoder: str = setting(
        "clip-mini",
        "clip-tiny, clip-mini, clip-small or clip-base: CLIP's text transformer from random weights; or a checkpoint "
        "to start from: folder or Hub id of transformers or sentence-transformers",
        section="model",
    )
    lock: Literal["none", "image", "text"] = setting(
        "none", "an encoder whose weights stay as they are; image: LiT; projections are always trained", section="model"
    )
    projection_dim: int = setting(
        128, "numbers of the vectors that are compared (CLIP: 512)", section="model", at_least=2, at_most=65_536
    )
    per_device_train_batch_size: int = setting(
        256, "pairs per process that go through both encoders at once", section="training", at_least=2,
        at_most=1_000_000,
    )  # fmt: skip
    negatives: int | None = setting(
        None,
        "pairs in one loss, over all processes; more than their batches: cached gradients",
        section="training",
        at_least=2,
    )
    optimizer: Literal["adamw", "sgd"] = setting("adamw", "AdamW; or SGD with momentum 0.9", section="training")
    learning_rate: float = setting(1e-3, "peak learning rate (CLIP: 5e-4)", section="training", above=0, at_most=1000)
    weight_decay: float = setting(
        0.1, "of weight matrices; norms, biases and the scale have none (CLIP: 0.2)", section="training", at_least=0
    )
    warmup_steps: float = setting(
        0.1,
        "linear warm-up before the cosine decay: steps, or a share of all if below 1",
        section="training",
        at_least=0,
    )

    BETAS: ClassVar[tuple[float, float]] = (0.9, 0.98)  # of AdamW, as CLIP

    def peak_learning_rate(self, batch: int) -> float:
        """Whatever the batch is."""
        return self.learning_rate

    def pairs_per_step(self, processes: int) -> int:
        """The pairs of one loss. Raises InputError for a number that cannot be had."""
        together = self.per_device_train_batch_size * processes
        negatives = self.negatives or together
        if negatives < together or negatives % together:
            raise InputError(
                f"--negatives {negatives} must be a multiple of {together}, the pairs that {processes} process(es) "
                f"hold with --per_device_train_batch_size {self.per_device_train_batch_size}"
            )
        return negatives


@dataclass(frozen=True, kw_only=True)
class PairMethod(Trained):
    """What a method adds to the story of a run on images with captions, which `pretraining/pairs.py` tells.

    Of the model, both towers and what joins them are `model.encoder`, a DualEncoder.

    collator: (settings, ImageStart, TextStart, data) -> what makes batches. A field that the model's configuration adds
              is a setting of that name.
    """

    collator: Callable

    STORY: ClassVar[str] = "pairs"
