"""Labelled texts and images: what fine-tuning and probes are given, whatever the columns of the source are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value

from hf_replearn.data.images import load_images
from hf_replearn.data.sources import TEXTS, load_tables
from hf_replearn.errors import InputError

TABLES = {builder: suffixes for builder, suffixes in TEXTS.items() if builder != "text"}  # .txt has no labels
# The inputs of GLUE's tasks, a pair being one input of two segments, and the usual name elsewhere.
USUAL = (
    ("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"), ("premise", "hypothesis"),
    ("sentence",), ("text",),
)  # fmt: skip
HOLD_OUT_SHARE, HOLD_OUT_SEED = 0.2, 0


@dataclass(frozen=True)
class LabelledData:
    """Examples with one label each.

    name:        what a card may show: the Hub id, or the last part of the path. hub_id: None for local data.
    train, test: columns `label` and either `text`, `text` and `text_pair`, or `image` (datasets.Image(decode=False)).
    test_source: where test comes from, in words.
    label_names: class names by number; None where the labels are numbers to regress on (float32).
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset
    test_source: str
    label_names: list[str] | None

    @property
    def inputs(self) -> list[str]:
        """The columns that are not the label."""
        return [column for column in self.train.column_names if column != "label"]


def load_labelled(
    dataset: str,
    *,
    config: str | None = None,
    text_columns: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    evaluate_on: Sequence[str] = ("test", "validation"),
    several: bool = False,
) -> LabelledData:
    """Loads a classification or regression set of texts, single or in pairs, or of images.

    dataset: a folder of {train,validation,test}.{parquet,arrow,jsonl,csv}, one such file, a `save_to_disk` folder, a
             Hub id, or whatever `load_images` reads; `toy` is scikit-learn's digits.
    config:  of a Hub dataset that has several.
    text_columns: one name, or two with a comma between; needed only where names and types leave a choice, as are
             image_column and label_column.
    evaluate_on: the first of these splits that has labels is test; without any, a stratified 20 % of train.
    several: images may have several labels each: `label` is then a list of class numbers.

    Labels that are ClassLabel, whole numbers, bool or strings are classes; floats are regressed on. InputError for
    whatever the user has to mend.
    """
    splits = None if dataset == "toy" else load_tables(dataset, TABLES, config=config)
    if splits is None or (text_columns is None and any(map(_is_image, _train(splits).features.values()))):
        return _labelled_images(dataset, image_column, label_column, several=several)
    label = _label_column(splits, label_column)
    texts = _text_columns(splits, text_columns, label)
    train = _standard_columns("train", splits, texts, label)
    kind = train.features["label"]
    test, test_source = None, f"a held-out {HOLD_OUT_SHARE:.0%} of train"
    for split in evaluate_on:
        if split in splits and label in splits[split].features and _has_labels(splits[split][label][:]):
            test, test_source = _standard_columns(split, splits, texts, label), f"the split {split!r}"
            break
    names = None
    if not _is_float(kind):
        train, test, names = _numbered(train, test)
    _check_labels(dataset, train["label"][:], label, names)
    if test is None:
        held = hold_out(np.array(train["label"][:]), stratified=names is not None)
        train, test = train.select(np.flatnonzero(~held)), train.select(np.flatnonzero(held))
        if not len(test):
            raise InputError(f"{dataset!r} has no labelled split {' or '.join(evaluate_on)}, and too few examples")
    hub_id = None if os.path.exists(dataset) else dataset
    name = "/".join(filter(None, (hub_id, config))) or os.path.basename(os.path.abspath(dataset)).partition(".")[0]
    return LabelledData(name, hub_id, train, test, test_source, names)


def balanced_subset(labels: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """The rows, ascending, of a random round(fraction · N) of the labels (N,), as many of each class as there can be.

    As the 1 % and 10 % of labels in table 7 of SimCLR (Chen et al. 2020): classes have equal numbers, give or take one,
    but for those that have no more to give. Smaller fractions are subsets of larger ones with the same seed. Labels of
    one value only (give zeros for a regression) make it a plain random subset.

    Raises InputError when a class would be left without an example.
    """
    classes, count = len(np.unique(labels)), round(fraction * len(labels))
    if count < classes:
        raise InputError(
            f"--label_fraction {fraction:g} of {len(labels)} labels is {count}, too few for {classes} classes: "
            f"use at least {np.ceil(1000 * classes / len(labels)) / 1000:g}"
        )
    rng = np.random.default_rng(seed)
    return np.sort(np.lexsort((rng.random(len(labels)), _ranks(labels, rng)))[:count])


def hold_out(labels: np.ndarray, *, stratified: bool = True) -> np.ndarray:
    """(N,) bool: a random fifth of each class of labels (N,), rounded, or of all of them."""
    classes = labels if stratified else np.zeros(len(labels), int)
    values, inverse = np.unique(classes, return_inverse=True)
    held_of_class = np.round(HOLD_OUT_SHARE * np.bincount(inverse, minlength=len(values)))
    return _ranks(classes, np.random.default_rng(HOLD_OUT_SEED)) < held_of_class[inverse]


def by_length(rows: Dataset) -> np.ndarray:
    """The rows in the order of their texts' lengths, so that neighbours need little padding; images as is."""
    if "text" not in rows.column_names:
        return np.arange(len(rows))
    return np.argsort([len(text) for text in rows["text"][:]], kind="stable")


def _ranks(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The place of each row in a random order of its class: (N,)."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.empty(len(labels), int)
    ranks[order] = np.arange(len(labels)) - np.repeat(first, counts)
    return ranks


# ---- columns


def _train(splits: dict[str, Dataset]) -> Dataset:
    if "train" not in splits:
        raise InputError(f"the data has no split 'train', only {', '.join(splits)}")
    if not len(splits["train"]):
        raise InputError("the split 'train' has no examples")
    return splits["train"]


def _label_column(splits: dict[str, Dataset], asked: str | None) -> str:
    features = splits["train"].features
    classes = [name for name, kind in features.items() if isinstance(kind, ClassLabel)]
    usual = [name for name in ("label", "labels") if name in features]
    label = asked or next(iter(usual or (classes if len(classes) == 1 else [])), None)
    if label not in features:
        complaint = "the label is not clear" if asked is None else f"--label_column {asked!r} does not exist"
        raise InputError(f"{complaint}; the columns are {_columns(features)}: choose with --label_column")
    kind = features[label]
    if not isinstance(kind, ClassLabel) and _dtype(kind) not in ("int", "uint", "bool", "string", "float"):
        raise InputError(f"the label {label!r} must be a class, a text or a number, and is {_shown(kind)}")
    return label


def _text_columns(splits: dict[str, Dataset], asked: str | None, label: str) -> list[str]:
    features = splits["train"].features
    if asked is not None:
        columns = [name.strip() for name in asked.split(",")]
        for name in columns:
            if name not in features or _dtype(features[name]) != "string":
                what = f"holds {_shown(features[name])}, not texts" if name in features else "does not exist"
                raise InputError(f"--text_columns: {name!r} {what}; the columns are {_columns(features)}")
        if len(set(columns)) < len(columns) or len(columns) > 2 or label in columns:
            raise InputError(f"--text_columns takes one column or a pair, besides the label {label!r}, got {asked!r}")
        return columns
    texts = [name for name, kind in features.items() if _dtype(kind) == "string" and name != label]
    for columns in USUAL:
        if set(columns) <= set(texts):
            return list(columns)
    if len(texts) != 1:
        complaint = "no column holds texts" if not texts else "it is not clear which columns are the text"
        raise InputError(f"{complaint}; the columns are {_columns(features)}: choose with --text_columns A or A,B")
    return texts


def _standard_columns(split: str, splits: dict[str, Dataset], texts: list[str], label: str) -> Dataset:
    """`text`, `text_pair` where there are two, and `label`; every text is there, and not all are empty."""
    if missing := {*texts, label} - set(splits[split].column_names):
        raise InputError(f"the split {split!r} has no column {min(missing)!r}")
    rows = splits[split].select_columns([*texts, label])
    for column in texts:
        values = rows[column][:]
        if None in values:
            raise InputError(f"row {values.index(None)} of {split!r} has no {column!r}: leave such rows out")
        if not any(value.strip() for value in values):
            raise InputError(f"all texts in the column {column!r} of {split!r} are empty")
    return rows.rename_columns(dict(zip([*texts, label], [*["text", "text_pair"][: len(texts)], "label"], strict=True)))


def _numbered(train: Dataset, test: Dataset | None) -> tuple[Dataset, Dataset | None, list[str]]:
    """The splits with classes as ClassLabel, and their names."""
    kind = train.features["label"]
    if isinstance(kind, ClassLabel):
        return train, test, kind.names
    values = sorted(set().union(*(part["label"][:] for part in (train, test) if part is not None)) - {None, -1})
    names, number = list(map(str, values)), {value: index for index, value in enumerate(values)}
    parts = []
    for part in (train, test):
        if part is not None:
            labels = [number.get(value) for value in part["label"][:]]
            part = part.remove_columns("label").add_column("label", labels, feature=ClassLabel(names=names))
        parts.append(part)
    return *parts, names


def _check_labels(dataset: str, labels: list, column: str, names: list[str] | None) -> None:
    none = (None,) if names is None else (None, -1)
    without = [row for row, value in enumerate(labels) if value in none or value != value]
    if without:
        raise InputError(f"{len(without)} of {len(labels)} training examples have no label, first in row {without[0]}")
    if len(set(labels)) < 2:
        shown = labels[0] if names is None else names[labels[0]]
        raise InputError(f"all labels in the column {column!r} of {dataset!r} are {shown!r}: two classes are needed")


def _labelled_images(dataset: str, image_column: str | None, label_column: str | None, *, several: bool):
    data = load_images(dataset, image_column=image_column, label_column=label_column)
    if data.label_names is None or data.test is None:
        raise InputError(
            f"the images of {dataset!r} have no labels: put them into class folders or give --label_column"
        )
    if data.single_label:
        _check_labels(dataset, data.train["label"][:], "label", data.label_names)
    elif not several:
        raise InputError(f"the images of {dataset!r} have several labels each: one is needed")
    return LabelledData(data.name, data.hub_id, data.train, data.test, data.test_source, data.label_names)


def _has_labels(labels: list) -> bool:
    """GLUE's test sets, as the Hub has them, say -1 for labels that are kept secret."""
    return any(value is not None and value != -1 for value in labels)


def _dtype(kind) -> str:
    """int, float, string, … of a plain column, whatever its number of bits."""
    return kind.dtype.removeprefix("large_").rstrip("0123456789") if isinstance(kind, Value) else ""


def _is_float(kind) -> bool:
    return _dtype(kind) == "float"


def _is_image(kind) -> bool:
    packed = kind.get("bytes") if isinstance(kind, dict) else kind
    return isinstance(kind, datasets.Image) or _dtype(packed) == "binary"


def _shown(kind) -> str:
    return kind.dtype if isinstance(kind, Value) else type(kind).__name__


def _columns(features) -> str:
    return ", ".join(f"{name} ({_shown(kind)})" for name, kind in features.items())
