"""The examples that encoders are judged on: as many as the suite takes, in the proportions of the data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets

from hf_replearn.data.labelled import LabelledData, by_length, labelled_sounds, load_labelled
from hf_replearn.data.sounds import TOY, are_sounds
from hf_replearn.data.sources import Source
from hf_replearn.encoders.encoder import Modality
from hf_replearn.encoders.load import channels_wanted, rate_heard_by
from hf_replearn.errors import InputError
from hf_replearn.evaluation.draws import proportional_subset
from hf_replearn.evaluation.suite import Kind
from hf_replearn.metrics import GLUE
from hf_replearn.representation import labels_of


@dataclass(frozen=True)
class Suite:
    """How much is measured: examples, draws of the k labels, neighbours that vote, queries and points of the maps."""

    train: int | None
    test: int | None
    draws: int
    neighbours: tuple[int, ...]
    points: int
    queries: int = 2000


SUITES = {"quick": Suite(5000, 2000, 5, (20,), 1000), "full": Suite(None, None, 20, (20, 200), 2000)}


@dataclass(frozen=True)
class Examples:
    """What encoders are judged on.

    data: all there is of it. train, test: what is used, short texts first. kind: what their labels are.
    rows: of data.train and data.test that train and test are, {"train": (N,), "test": (M,)}.
    """

    data: LabelledData
    train: Dataset
    test: Dataset
    kind: Kind
    rows: dict[str, np.ndarray]

    @property
    def images(self) -> bool:
        """Whether they are images; else they are texts or sounds."""
        return self.data.inputs == ["image"]

    @property
    def modality(self) -> Modality:
        """What they are."""
        return {"image": "image", "audio": "sound"}.get(self.data.inputs[0], "text")

    @cached_property
    def parts(self) -> tuple[Dataset, Dataset]:
        """What features are made of: train and test, or, of pairs with scores, first and second sentences of test."""
        return _sentences(self.test) if self.kind == "scores" else (self.train, self.test)

    @cached_property
    def learn_from(self) -> Dataset:
        """What the baselines learn words and principal components from."""
        return concatenate_datasets(_sentences(self.data.train)) if self.kind == "scores" else self.train


def open_examples(settings: Any, *, processes: int, encoders: Iterable[Any], source: Source | None = None) -> Examples:
    """The examples that the settings of `evaluate` ask for: as many as its suite takes.

    encoders: those that are judged; images are read with as many channels as they take, sounds where they hear.
    source: the dataset, where it is an object and not of the name in the settings.
    Raises InputError for data that cannot be read, or not be used so.
    """
    scope = SUITES[settings.suite]
    data = _sounds(settings, encoders, source) or _texts_or_images(settings, encoders, source)
    PartialState().print(data.taken, *data.notes, sep="\n", flush=True)
    wanted = {"train": settings.train_examples or scope.train, "test": settings.test_examples or scope.test}
    rows = {name: _chosen(data, name, most, seed=settings.seed) for name, most in wanted.items()}
    train, test = data.train.select(rows["train"]), data.test.select(rows["test"])
    return Examples(data, train, test, _kind_of(settings, data, train, processes=processes), rows)


def _sounds(settings: Any, encoders: Iterable[Any], source: Source | None) -> LabelledData | None:
    """Sounds, where the dataset is of sounds alone or all folders and Hub ids among the encoders hear; else None."""
    rates = [rate_heard_by(encoder) for encoder in encoders if isinstance(encoder, str)]
    named = settings.dataset if source is None else source
    if source is not None:
        heard = "audio" in source.splits["train"].column_names
    else:
        heard = settings.dataset == TOY or (any(rates) and (all(rates) or are_sounds(settings.dataset)))
    if not heard:
        return None
    if settings.label_type == "numbers":
        raise InputError("--label_type numbers: the labels of sounds are classes")
    rates = {rate for rate in rates if rate}
    return labelled_sounds(
        named,
        files=settings.files,
        label_type=settings.label_type,
        sampling_rate=settings.sampling_rate or (rates.pop() if len(rates) == 1 else None),
        stereo=settings.stereo,
        max_unusable=settings.max_unusable,
    )


def _texts_or_images(settings: Any, encoders: Iterable[Any], source: Source | None) -> LabelledData:
    glue = Path(settings.dataset).name in GLUE or settings.dataset_config in GLUE
    return load_labelled(
        settings.dataset if source is None else source,
        files=settings.files,
        config=settings.dataset_config,
        text_columns=settings.text_columns,
        image_column=settings.image_column,
        label_column=settings.label_column,
        label_type=settings.label_type,
        max_undecodable=settings.max_undecodable,
        value_range=settings.value_range,
        channels=channels_wanted(settings.channels, encoders),
        evaluate_on=("validation", "validation_matched", "test") if glue else ("test", "validation"),
        several=True,
    )


def _chosen(data: LabelledData, name: str, most: int | None, *, seed: int) -> np.ndarray:
    """The rows of `train` or `test` that are used, short texts first."""
    part = data.train if name == "train" else data.test
    rows = np.arange(len(part))
    if most is not None and most < len(part):
        alike = data.label_names is None or labels_of(part).ndim == 2  # then there are no classes to keep apart
        labels = np.zeros(len(part), int) if alike else np.array(part["label"][:])
        try:
            rows = proportional_subset(labels, most, seed=seed, every_class=name == "train")
        except InputError as error:
            raise InputError(f"--{name}_examples: {error}") from error
    return rows[by_length(part.select(rows))]


def _kind_of(settings: Any, data: LabelledData, train: Dataset, *, processes: int) -> Kind:
    """What the labels are. Raises InputError where the settings do not fit them."""
    if not re.fullmatch(r"last|all|\d+", settings.layers):
        raise InputError(f"--layers must be last, all or the number of a layer, got {settings.layers!r}")
    several = data.label_names is not None and labels_of(train).ndim == 2
    kind: Kind = "scores" if data.label_names is None else "several" if several else "classes"
    if kind == "scores" and len(data.inputs) != 2:
        raise InputError(
            f"the labels of {settings.dataset!r} are numbers of single texts: only pairs of sentences with scores are "
            "evaluated so; use `hf-replearn finetune --mode linear`"
        )
    if settings.finetune and kind != "classes":
        raise InputError("--finetune is of examples with one class each; numbers are learnt by `hf-replearn finetune`")
    if settings.finetune and data.inputs == ["audio"]:
        raise InputError("--finetune is of images and texts, and these are sounds: leave it out")
    if settings.finetune and processes > 1:
        raise InputError("--finetune is for one process; several fine-tune together under `hf-replearn finetune`")
    return kind


def _sentences(pairs: Dataset) -> tuple[Dataset, Dataset]:
    """The first and the second sentences of pairs, as datasets of texts."""
    first, second = (
        Dataset.from_dict({"text": pairs[name][:], "label": [0] * len(pairs)}) for name in ("text", "text_pair")
    )
    return first, second
