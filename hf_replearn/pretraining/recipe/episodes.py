"""Settings and methods of encoders that learn from episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from hf_replearn.pretraining.recipe.images import ImageSettings
from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import setting
from hf_replearn.sharing.report import Method


@dataclass(kw_only=True)
class EpisodeSettings(ImageSettings):
    """What is None is left to the data or the method, see `pretraining.episodes.fit_to_data`."""

    dataset: str = setting(
        ...,
        "folder of images in class folders, maybe in train/ and test/ whose classes differ; or of parquet or arrow; a "
        "Hub id; or toy (glyphs drawn here)",
        section="data",
    )
    label_column: str | None = setting(None, "column of the classes; none: the only one", section="data")
    group_by: str | None = setting(
        None,
        "column whose values classes belong to, such as the alphabets of characters, or `folder`, of "
        "group/class/image: whole groups are held out",
        section="data",
    )
    held_out: tuple[str, ...] = setting(
        (),
        "classes that training does not see: a share, names of classes or groups, or 0; none: the split test, else 0.2",
        section="data",
    )
    image_size: int | None = setting(
        None, "pixels of an image; none: 28 of images up to 128 pixels, else 84 (as the papers)", section="data",
        at_least=16, at_most=4096,
    )  # fmt: skip
    data_on_device: Literal["auto", "on", "off"] = setting(
        "on", "all images stay decoded where the training is, since each comes again and again", section="data"
    )
    turned: bool = setting(
        False, "each quarter turn of a class is a class of its own while it trains (Omniglot)", section="data"
    )
    jitter: float = setting(
        0.0, "how far training images are turned, stretched and moved: 1 is 10 degrees, 15 % and 5 %", section="data",
        at_least=0, at_most=5,
    )  # fmt: skip
    backbone: str | None = setting(
        None,
        "conv4, a timm architecture, or a checkpoint to start from; none: conv4 (the papers' four convolutions)",
        section="model",
    )
    way: int = setting(5, "classes of an episode", section="training", at_least=2, at_most=10_000)
    shots: int = setting(1, "images of each class that are shown", section="training", at_least=1, at_most=10_000)
    queries: int = setting(
        5, "images of each class that are asked for, in training", section="training", at_least=1, at_most=10_000
    )
    within_group: bool = setting(False, "the classes of an episode are of one group", section="training")
    per_device_train_batch_size: int | None = setting(
        None, "episodes per process and step; none: by the method", section="training", at_least=1, at_most=10_000
    )
    max_steps: int = setting(
        -1, "optimizer steps; -1: 2,000, or as many as --max_minutes allows", section="training", at_least=1
    )
    learning_rate: float | None = setting(
        None,
        "peak learning rate of Adam; none: 0.001; of reptile its meta-step, none: 1",
        section="training",
        above=0,
        at_most=1000,
    )
    warmup_steps: float = setting(
        0.0, "linear warm-up before the cosine decay: steps, or a share of all if below 1", section="training",
        at_least=0,
    )  # fmt: skip
    beside: bool = setting(
        True,
        "train the same network beside as a plain classifier, on as many images, by Adam at 0.001, into OUT/classifier",
        section="evaluation",
    )
    test_way: int = setting(5, "classes of an episode that judges", section="evaluation", at_least=2, at_most=10_000)
    test_shots: tuple[int, ...] = setting(
        (), "images of each class that are shown then; none: as --shots", section="evaluation", at_least=1
    )
    test_queries: int = setting(
        15, "images of each class that are asked for then", section="evaluation", at_least=1, at_most=10_000
    )
    test_episodes: int = setting(2000, "episodes that judge", section="evaluation", at_least=3, at_most=1_000_000)

    BACKBONES: ClassVar[tuple[tuple[str, dict | None], ...]] = (("conv4", None), ("conv4", None))
    # Settings of other recipes on images that mean nothing here: a name that is a ClassVar is no field.
    streaming: ClassVar[bool] = False
    shuffle_buffer: ClassVar[int] = 1
    draws: ClassVar[int] = 2
    knn_steps: ClassVar[int] = 0
    num_train_epochs: ClassVar[float] = 1.0
    optimizer: ClassVar[str] = "adamw"
    weight_decay: ClassVar[float] = 0.0

    @property
    def images_of_a_step(self) -> int:
        """That go through the network in one step of one process."""
        return self.per_device_train_batch_size * self.way * (self.shots + self.queries)


@dataclass(frozen=True, kw_only=True)
class EpisodeMethod(Trained):
    """What is learnt from episodes, which `pretraining/episodes.py` tells the story of.

    kinds: --method -> the paper behind it; facts: that of the first. usual: --method -> {setting: value}, where the
    user leaves it open.
    """

    kinds: Mapping[str, Method]
    usual: Mapping[str, Mapping[str, Any]]

    STORY: ClassVar[str] = "episodes"

    def of(self, kind: str) -> EpisodeMethod:
        """The same, of one kind."""
        return replace(self, facts=self.kinds[kind])
