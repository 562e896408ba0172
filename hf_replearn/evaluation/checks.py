"""What every evaluator asks of its two sets of features before it computes anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_replearn.errors import InputError
from hf_replearn.representation import Features

LARGEST = 1e17  # D squares of it still fit into float32


def check_features(train: Features, test: Features) -> None:
    """Both sets are there, labelled, finite and of one width; raises InputError otherwise."""
    for name, features in (("train", train), ("test", test)):
        if features.labels is None:
            raise InputError(f"the {name} features have no labels: evaluate on a dataset with a label column")
        if len(features) == 0:
            raise InputError(f"the {name} features are empty: evaluate on at least one example")
        check_finite(features.x, name)
    if train.names != test.names:
        raise InputError(
            f"the train labels are {_classes(train)}, the test labels {_classes(test)}: a class must have the same "
            "number in both; give both Features the same names=[…]"
        )
    if train.x.shape[1] != test.x.shape[1]:
        raise InputError(
            f"train features have {train.x.shape[1]} dimensions and test features {test.x.shape[1]}: "
            "take both from the same encoder"
        )


def _classes(features: Features) -> str:
    """The names of the classes, in short."""
    if features.names is None:
        return "numbers without names"
    return f"of the {len(features.names)} classes {', '.join(features.names)}"[:80]


def check_finite(x: Tensor, name: str) -> None:
    """Features (N, D) are numbers that can be squared in single precision; raises InputError otherwise.

    Larger ones would become infinite lengths, and all directions and distances 0, without a word.
    """
    for bad, what in ((~x.isfinite(), "NaN or infinite"), (x.abs() >= LARGEST, f"above {LARGEST:g}")):
        rows = bad.any(dim=1).nonzero().flatten().tolist()
        if rows:
            raise InputError(
                f"{len(rows)} of {len(x)} {name} features are {what}, first in row {rows[0]}: "
                "the encoder has diverged or its input is broken"
            )


def check_varied(numbers: Tensor) -> None:
    """Test labels (M,) that something can be correlated with; raises InputError otherwise."""
    if len(numbers) < 3 or numbers.min() == numbers.max():
        what = f"all {numbers[0].item():g}" if len(numbers) > 2 else f"only {len(numbers)}"
        raise InputError(f"the numbers of the test examples are {what}: nothing has a correlation with them")


def single_label(train: Features, test: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Class numbers of the train set counted 0, 1, … without gaps, and the test labels in the same count.

    Returns (classes (C,), train labels (N,), test labels (M,)). A test example of a class that the train set lacks gets
    -1, which no classifier predicts: it counts as an error. Raises InputError for multi-label data or a single class.
    """
    check_features(train, test)
    if train.labels.ndim != 1 or test.labels.ndim != 1:
        raise InputError("labels are multi-label (N, C), this score needs one label an example: use voc07_low_shot")
    classes, train_labels = train.labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"all train labels are {classes.item()}: a classifier needs at least two classes")
    position = torch.searchsorted(classes, test.labels).clamp(max=len(classes) - 1)
    return classes, train_labels, torch.where(classes[position] == test.labels, position, -1)


def multi_label(train: Features, test: Features, *, names: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
    """Labels (N, C) and (M, C) of 1, 0 and -1 (ignored). Raises InputError for single-label or one-sided data.

    names: of the classes, by number; None: classes are called by their numbers.
    """
    check_features(train, test)
    if train.labels.ndim != 2 or test.labels.ndim != 2 or train.labels.shape[1] != test.labels.shape[1]:
        raise InputError(
            f"labels have shapes {tuple(train.labels.shape)} and {tuple(test.labels.shape)}, this score needs (N, C) "
            "with the same C: use k_shot for one label an example"
        )
    for name, labels in (("train", train.labels), ("test", test.labels)):
        for value, kind in ((1, "positive"), (0, "negative")):
            empty = ((labels == value).sum(dim=0) == 0).nonzero().flatten().tolist()
            if empty:
                which = empty[0] if names is None else repr(names[empty[0]])
                raise InputError(
                    f"class {which} has no {kind} example among the {len(labels):,} {name} examples that are used: "
                    "drop it or use more examples"
                )
    return train.labels, test.labels
