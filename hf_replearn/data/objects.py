"""Datasets that a notebook holds, as splits like those of a file: datasets of `datasets`, and any object with a length
and items.

H height, W width
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps
from torch import Tensor

from hf_replearn.data.sources import Source
from hf_replearn.errors import InputError

LONGEST_PATH = 1000  # characters; longer texts are no names of files
AS_PNG = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")  # modes that PNG keeps as they are; TIFF the others


def source_of(given: Any, *, name: str | None = None) -> Source:
    """The splits of a dataset that is given as an object.

    given: a datasets.Dataset, or any object with `__len__` and `__getitem__`, for a split `train` alone; or a mapping
           of the names of splits to such objects, as a datasets.DatasetDict.
           Items are images or texts, (image or text, label), or dicts of columns. An image is one of PIL, or an array
           or tensor of uint8 or uint16 (H, W), (H, W, C) or (C, H, W); it is kept as it is, without loss. A label is a
           number or a text, as in a file.
    name:  what a page calls it; none: the name of its class.
    Raises InputError for what is neither, naming the first item that is wrong.
    """
    splits = given if isinstance(given, Mapping) else {"train": given}
    if not splits:
        raise InputError("the dataset is an empty mapping: give {'train': …, 'test': …}")
    found = {str(split): _rows(part, split) for split, part in splits.items()}
    first = next(iter(splits.values()))
    known = first.info.dataset_name if isinstance(first, Dataset) else type(first).__name__
    return Source(name or known or "dataset", None, "objects", found)


def shown(given: Any) -> str:
    """A dataset that is given as an object, in a few words."""
    splits = given if isinstance(given, Mapping) else {"": given}
    parts = [f"{split} {len(part):,}".strip() for split, part in splits.items() if hasattr(part, "__len__")]
    return f"({type(given).__name__}: {', '.join(parts)} examples)"


def _rows(part: Any, split: str) -> Dataset:
    if isinstance(part, Dataset):
        if part.format["type"] == "custom":
            raise InputError(
                f"the dataset {split!r} has a transform (set_transform), which would be passed over: take it off with "
                "with_format(None), or apply it with map"
            )
        return part.with_format(None)
    if isinstance(part, datasets.IterableDataset) or not (hasattr(part, "__len__") and hasattr(part, "__getitem__")):
        raise InputError(
            f"the dataset {split!r} is a {type(part).__name__}: give a path, a Hub id, a datasets.Dataset, or an "
            "object with __len__ and __getitem__ whose items are (image or text, label) or dicts"
        )
    if isinstance(part, str | bytes):
        raise InputError(f"the split {split!r} is the text {str(part)[:40]!r}: give the object itself")
    if not len(part):
        raise InputError(f"the dataset {split!r} is empty")
    items = [_columns(part[place], place) for place in range(len(part))]
    for place, item in enumerate(items):
        if item.keys() != items[0].keys():
            has = [", ".join(map(str, columns)) for columns in (items[0], item)]
            raise InputError(f"item 0 of the dataset has {has[0]}, item {place} has {has[1]}: items must be alike")
    columns = {name: [item[name] for item in items] for name in items[0]}
    _refuse_paths(columns.get("text", [None]))
    return _as_dataset(columns)


def _columns(item: Any, place: int) -> dict[str, Any]:
    """One item as {column: value}."""
    if isinstance(item, Mapping):
        return {str(name): _value(value) for name, value in item.items()}
    value, *label = item if isinstance(item, tuple | list) and len(item) == 2 else [item]
    value = _value(value)
    kind = "text" if isinstance(value, str) else "image" if _is_file(value) else None
    if kind is None or (label and not _is_label(_value(label[0]))):
        raise InputError(
            f"item {place} of the dataset is {_described(item)}: give an image (PIL, or uint8 or uint16 of H x W, "
            "H x W x C or C x H x W) or a text, (image or text, label), or a dict of columns"
        )
    return {kind: value} | ({"label": _value(label[0])} if label else {})


def _value(value: Any) -> Any:
    """Images as files in memory, numbers as Python's own; else what it is."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype in (np.uint8, np.uint16) and value.ndim in (2, 3):
        if value.ndim == 3 and value.shape[2] not in (1, 3, 4) and value.shape[0] in (1, 3, 4):
            value = np.moveaxis(value, 0, 2)
        return {"bytes": as_file(value), "path": None} if value.size else value
    return {"bytes": as_file(value), "path": None} if isinstance(value, Image.Image) else value


def as_file(image: Image.Image | np.ndarray) -> bytes:
    """A file in memory that holds the same levels, so that all images are read by the same rules (data.decoding).

    image: of PIL, upright where it says how it was held; or uint8 or uint16 (H, W), (H, W, C) or (C, H, W).
    """
    if isinstance(image, np.ndarray) and (image.dtype != np.uint8 or image.shape[2:] not in ((), (1,), (3,), (4,))):
        file = io.BytesIO()
        np.save(file, image)
        return file.getvalue()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    image, file = ImageOps.exif_transpose(image), io.BytesIO()
    if image.mode in AS_PNG:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "TIFF")
    return file.getvalue()


def _refuse_paths(texts: Sequence[Any]) -> None:
    """Raises InputError where all the texts are names of files: what is in these is meant."""
    if all(isinstance(text, str) and _names_a_file(text) for text in texts):
        raise InputError(
            f"the texts are names of files, such as {texts[0][-60:]!r}, and strings are texts: give what is in them "
            "(PIL.Image.open(path), or Path(path).read_text())"
        )


def _names_a_file(text: str) -> bool:
    return len(text) < LONGEST_PATH and "\0" not in text and Path(text).is_file()


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("bytes"), bytes)


def _is_label(value: Any) -> bool:
    plain = isinstance(value, int | float | str)
    return value is None or plain or (isinstance(value, list | tuple) and all(map(_is_label, value)))


def _described(item: Any) -> str:
    if isinstance(item, tuple | list):
        return f"({', '.join(map(_described, item[:3]))}{', …' * (len(item) > 3)})"
    shape = getattr(item, "shape", None)
    return type(item).__name__ + (f" of {getattr(item, 'dtype', '')} {tuple(shape)}" if shape is not None else "")


def _as_dataset(columns: dict[str, Sequence[Any]]) -> Dataset:
    features = {name: datasets.Image() for name, values in columns.items() if all(map(_is_file, values))}
    try:
        others = Dataset.from_dict({name: values for name, values in columns.items() if name not in features})
        whole = datasets.Features(others.features | features)
        return Dataset.from_dict(columns, features=datasets.Features({name: whole[name] for name in columns}))
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's own are among them
        raise InputError(f"the items of the dataset are not alike: {' '.join(str(error).split())[:200]}") from error
