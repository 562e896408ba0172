"""What a column of labels is: for texts and images, train and test alike."""

from __future__ import annotations

import re

import datasets
from datasets import ClassLabel, Dataset, Value

from hf_replearn.data.sources import SPLITS
from hf_replearn.errors import InputError


def choose_columns(splits: dict, image_column: str | None, label_column: str | None) -> dict[str, Dataset]:
    """`train`, then the split to test on, if any; with the columns `image` and, if there are labels, `label`."""
    if "train" not in splits:
        raise InputError(f"the data has no split 'train', only {', '.join(splits)}")
    features = splits["train"].features
    pictures = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    packed = [name for name, kind in features.items() if _is_bytes(kind)]
    image = _one_column(pictures or packed, image_column, "image", allowed=pictures + packed, features=features)
    if image is None:
        raise InputError(f"no column holds images; the columns are {', '.join(features)} (see --image_column)")
    classes = [name for name, kind in features.items() if isinstance(element(kind), ClassLabel)]
    plain = [name for name, kind in features.items() if isinstance(kind, Value) and re.search("int|string", kind.dtype)]
    usual = [name for name in ("label", "labels") if name in plain]
    label = _one_column(classes or usual, label_column, "label", allowed=classes + plain, features=features)

    names = None
    if label in plain:
        columns = [rows.unique(label) for split, rows in splits.items() if split in SPLITS and label in rows.features]
        names = sorted(set().union(*columns) - {None, -1})
    train = _standard_columns("train", splits["train"], image, label, names)
    for split in list(SPLITS)[1:]:
        if len(splits.get(split, [])):
            test = _standard_columns(split, splits[split], image, label, names)
            if set(train.features) <= set(test.features):
                return {"train": train, split: test.select_columns(list(train.features))}
    return {"train": train}


def _one_column(candidates: list, asked: str | None, what: str, *, allowed: list, features: dict) -> str | None:
    if asked is not None and asked not in allowed:
        raise InputError(f"--{what}_column {asked!r} is no {what} column; the columns are {', '.join(features)}")
    if asked is None and len(candidates) > 1:
        raise InputError(f"several columns may be the {what}: {', '.join(candidates)}; choose with --{what}_column")
    return asked or next(iter(candidates), None)


def _standard_columns(split: str, rows: Dataset, image: str, label: str | None, names: list | None) -> Dataset:
    """`image` and `label`; names: the classes of a plain column. A label of -1 or null means, as on the Hub, none."""
    labels, kind = (rows[label][:], rows.features[label]) if label in rows.features else ([], None)
    rows = rows.select_columns(image).rename_columns({image: "image"})
    rows = rows.cast_column("image", datasets.Image(decode=False))
    if names is not None:
        kind, number = ClassLabel(names=list(map(str, names))), {name: i for i, name in enumerate(names)}
        labels = [number.get(name) for name in labels]
    without = [row for row, value in enumerate(labels) if value is None or value == -1]
    if len(without) == len(labels):
        return rows
    if without:
        file = (rows[without[0]]["image"] or {}).get("path") or "image"
        raise InputError(
            f"{len(without)} of {len(rows)} images of {split!r} have no label, the first is {file} "
            f"(row {without[0]}): label all of them or none"
        )
    return rows.add_column("label", labels, feature=kind)


def _is_bytes(kind) -> bool:
    kind = kind.get("bytes") if isinstance(kind, dict) else kind
    return isinstance(kind, Value) and "binary" in kind.dtype


def element(kind):
    """The type of one label, also where a row has a list of them."""
    return kind.feature if isinstance(kind, datasets.List) else kind
