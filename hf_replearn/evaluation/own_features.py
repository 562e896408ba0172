"""Features that the user has computed, beside those of encoders: files or arrays, checked against the dataset.

N, M training and test examples of the dataset, D features
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.examples import Examples
from hf_replearn.representation import Features, labels_of

ARRAYS = ("train", "test", "train_labels", "test_labels", "classes")


@dataclass(frozen=True)
class OwnFeatures:
    """Features of all training and test examples of a dataset, in its order.

    parts:  {"train": (N, D), "test": (M, D)}.
    labels: {"train": (N,), "test": (M,)}, class numbers, names, or one column a class; or {}: they are the dataset's.
    classes: names of the class numbers; None: those of the dataset.
    named:  what messages begin with. origin: where they are from, for the report.
    """

    parts: dict[str, Features]
    labels: dict[str, Any]
    named: str
    origin: str
    classes: Any = None

    def check(self, examples: Examples) -> None:
        """Raises InputError where they are not of these examples."""
        if examples.kind == "scores":
            raise InputError(f"{self.named}: features are judged on examples with classes, and these are pairs")
        data = examples.data
        for name, rows in (("train", data.train), ("test", data.test)):
            found = len(self.parts[name])
            if found != len(rows):
                source = f" (the test examples are {data.test_source})" if "held-out" in data.test_source else ""
                raise InputError(
                    f"{self.named} has {found:,} {name} features, the dataset {len(rows):,} {name} examples{source}: "
                    "give one row for each, in the order of the dataset"
                )
            if name in self.labels:
                self._check_labels(name, rows, data.label_names or [])

    def _check_labels(self, name: str, rows: Dataset, names: list[str]) -> None:
        """The labels beside the features are those of the dataset, by number or by name: else rows are in another
        order, or of other data."""
        theirs, ours = np.asarray(self.labels[name]), labels_of(rows).numpy()
        if theirs.shape != ours.shape:
            raise InputError(
                f"{self.named}: {name}_labels are {list(theirs.shape)}, those of the dataset {list(ours.shape)}: leave "
                "them out, or give them alike"
            )
        if ours.ndim == 1 and (self.classes is not None or theirs.dtype.kind in "USO"):
            theirs, ours = _by_name(theirs, self.classes), np.array(names)[ours]
        different = np.flatnonzero((theirs != ours).reshape(len(ours), -1).any(axis=1))
        if len(different):
            row = different[0]
            shown = [" ".join(f"{value!s:.80}".split()) for value in (theirs[row], ours[row])]
            raise InputError(
                f"{self.named}: {len(different):,} of {len(ours):,} {name}_labels are not the dataset's; row {row} has "
                f"{shown[0]}, the dataset {shown[1]}: features must be of its rows, in its order (its classes by "
                f"number: {', '.join(names)[:80]})"
            )

    def represent(self, examples: Examples) -> tuple[list[tuple[Features, Features]], dict[str, str]]:
        """Those of the examples that are used, and facts for the report."""
        train, test = (
            Features(self.parts[name].x[torch.from_numpy(examples.rows[name])], labels_of(rows))
            for name, rows in (("train", examples.train), ("test", examples.test))
        )
        facts = {"from": self.origin, "parameters": "–", "features": f"{train.x.shape[1]:,}", "pooling": "–"}
        return [(train, test)], facts


def read_features(path: str, *, named: str) -> OwnFeatures:
    """Of an .npz file with the arrays `train` (N, D) and `test` (M, D), and maybe `train_labels`, `test_labels` and
    `classes` (C,), the names of class numbers: what `hf-replearn encode` writes.

    Raises InputError for a file that is not so, or that holds what is no number.
    """
    if not Path(path).is_file():
        raise InputError(f"{named}: there is no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{named} is no whole .npz file, which numpy.savez writes: give {ABOUT}")
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        objects = "; of texts, save np.array(labels, dtype=str)" * ("pickle" in str(error))
        raise InputError(f"{named} is no .npz file of arrays: {' '.join(str(error).split())[:200]}{objects}") from error
    if missing := [name for name in ("train", "test") if name not in arrays]:
        raise InputError(f"{named} has no array {missing[0]!r}, only {', '.join(arrays) or 'none'}: give {ABOUT}")
    if unknown := sorted(arrays.keys() - set(ARRAYS)):
        raise InputError(f"{named} has an array {unknown[0]!r}, which is not known: give {ABOUT}")
    return own_features({name: arrays[name] for name in ARRAYS if name in arrays}, named=named, origin=path)


def own_features(arrays: Mapping[str, Any], *, named: str, origin: str) -> OwnFeatures:
    """Of `train` and `test`, Features or whatever Features takes, and maybe `train_labels`, `test_labels` and
    `classes`, the names of class numbers.

    Raises InputError for other shapes, for NaN, and for other numbers of labels than of features.
    """
    parts, labels = {}, {}
    for name in ("train", "test"):
        given, told = arrays[name], arrays.get(f"{name}_labels")
        try:
            features = given if isinstance(given, Features) else Features(given)
            check_finite(features.x, name)
        except InputError as error:
            raise InputError(f"{named}, {name}: {error}") from error
        if told is None and features.names is not None:
            told = np.array(features.names)[features.labels.numpy()]
        told = features.labels if told is None else told
        if told is not None:
            if len(told) != len(features):
                raise InputError(f"{named}, {name}: {len(features):,} features, but {len(told):,} labels")
            labels[name] = told
        parts[name] = Features(features.x)
    widths = [part.x.shape[1] for part in parts.values()]
    if widths[0] != widths[1]:
        raise InputError(f"{named}: train features have {widths[0]} dimensions and test features {widths[1]}")
    return OwnFeatures(parts, labels, named, origin, arrays.get("classes"))


def _by_name(labels: np.ndarray, classes: Any) -> np.ndarray:
    """Class names of labels that are numbers or names."""
    if labels.dtype.kind in "USO":
        return labels.astype(str)
    classes, numbers = np.asarray(classes).astype(str), labels.astype(int)
    known = (numbers >= 0) & (numbers < len(classes)) & (numbers == labels)
    return np.where(known, classes[np.where(known, numbers, 0)], labels.astype(str))


ABOUT = "train (N, D), test (M, D) and, if you like, train_labels, test_labels and classes (their names)"
