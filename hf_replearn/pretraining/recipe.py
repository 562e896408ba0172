"""What a recipe hands over: its settings and the facts of its method. Imports nothing heavy."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import MOST_WORKERS, SharedRunSettings, run, setting
from hf_replearn.sharing.report import Method
from hf_replearn.training.settings import ENDLESS, PretrainingSettings

if TYPE_CHECKING:
    from transformers import TrainingArguments

__all__ = [
    "ContrastiveSettings", "CropSettings", "FittedMethod", "FittedSettings", "ImageMethod", "ImageSettings", "Method",
    "PictureSettings", "PixelMethod", "PixelSettings", "SoundMethod", "SoundSettings", "TextMethod", "TextSettings",
    "ViewSettings", "WhitenedSettings", "WordMethod", "WordSettings", "later", "run", "setting",
]  # fmt: skip

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


@dataclass(kw_only=True)
class SoundSettings(PretrainingSettings):
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
    sampling_rate: int | None = setting(
        None, "samples a second (Hz), which .npy does not tell; none: that of the files", section="data", at_least=1
    )
    stereo: Literal["refuse", "mean"] = setting(
        "refuse", "sounds of several channels: refuse them, or take the mean of the channels", section="data"
    )
    window: int = setting(
        20_480, "samples of a sound that are learnt from at a time; shorter sounds are left out", section="data",
        at_least=2,
    )  # fmt: skip
    max_unusable: float = setting(
        0.01,
        "share of sounds that may be damaged, not finite or too short before the run stops",
        section="data",
        at_least=0,
        at_most=1,
    )
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


@dataclass(kw_only=True)
class WordSettings(SharedRunSettings):
    """What recipes have that learn a vector of each word of a text."""

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
        False, "read documents when they are needed: once for the words, once for their numbers", section="data"
    )
    lowercase: bool = setting(True, "a word is the same with capitals and without", section="data")
    min_count: int = setting(5, "words that occur less often have no vector", section="data", at_least=1)
    vocab_size: int | None = setting(
        None, "words that have a vector at most, the most frequent ones; none: all", section="data", at_least=2
    )
    dim: int = setting(100, "numbers of a vector", section="model", at_least=1, at_most=65_536)
    num_train_epochs: int = setting(5, "passes over the words", section="training", at_least=1)
    workers: int = setting(1, "threads that share the work", section="training", at_least=1, at_most=MOST_WORKERS)
    save_steps: int = setting(
        100, "stretches of about 260,000 words between two checkpoints", section="training", at_least=1
    )
    save_total_limit: int = setting(2, "checkpoints kept", section="training", at_least=1)
    resume: str = setting(
        "auto", "auto: go on from the newest good checkpoint; never; or a checkpoint folder", section="training"
    )
    allow_change: bool = setting(False, "go on although data or settings are others than before", section="training")
    analogies: tuple[str, ...] = setting(
        ("man,king,woman", "man,woman,uncle", "good,better,bad", "see,seen,go"),
        "for the report: A,B,C asks what is to C as B is to A; those with a word that is not known are left out",
        section="evaluation",
    )


def found(path: str) -> Any:
    """What is at a dotted path, such as that of a function."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def later(path: str) -> Callable:
    """The function at a dotted path, which is imported when it is called: reading a recipe imports nothing heavy."""
    return lambda *given: found(path)(*given)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """What every method has.

    facts:   the paper behind it, as the card states it. Its `model_class` is trained.
    command: of `hf-replearn`.
    STORY:   the module beside this one that tells its story, and writes what a checkpoint of it holds.
    """

    facts: Method
    command: str

    STORY: ClassVar[str]

    @property
    def model_class(self) -> type:
        """<Method>ForPreTraining."""
        return found(self.facts.model_class)


@dataclass(frozen=True, kw_only=True)
class ImageMethod(_Trained):
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


@dataclass(frozen=True, kw_only=True)
class PixelMethod(_Trained):
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


@dataclass(frozen=True, kw_only=True)
class FittedMethod(_Trained):
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


@dataclass(frozen=True, kw_only=True)
class SoundMethod(_Trained):
    """What a method adds to the story of a run on sounds, which `pretraining/sounds.py` tells.

    Of the model, the encoder f is `model.model`; each field that its configuration adds is a setting of that name.

    own_task: (model, batches) -> OwnTask, and pictures: (model, batches, folder) -> {file: caption}, as of ImageMethod.
    """

    own_task: Callable
    pictures: Callable

    STORY: ClassVar[str] = "sounds"


@dataclass(frozen=True, kw_only=True)
class TextMethod(_Trained):
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


@dataclass(frozen=True, kw_only=True)
class WordMethod(_Trained):
    """What a method adds to the story of vectors of words, which `pretraining/words.py` tells.

    fit: (settings, number of stretches of the corpus) -> a fit in passes, see `methods.skipgram.NeighbourFit`.
    """

    fit: Callable

    STORY: ClassVar[str] = "words"
