"""metadata.csv, metadata.jsonl or metadata.parquet beside images, as datasets' imagefolder knows it."""

from __future__ import annotations

import os

import datasets
from datasets import Dataset

from hf_replearn.data.inventory import Inventory, LeftOut
from hf_replearn.data.splits import some
from hf_replearn.errors import InputError


def with_metadata(
    inventory: Inventory, splits: dict[str, Dataset], rows: dict[str, list[dict]], left_out: list[LeftOut]
) -> dict[str, Dataset]:
    """The images that have a row, with its columns beside `image`; the others are added to left_out.

    splits: `image` and perhaps `label`, in the order of inventory.splits.
    rows:   of each metadata file; `file_name` is relative to its folder.

    Raises InputError for a file without `file_name`, for two rows of an image, where labels contradict the class
    folders, and where more than half of the images or rows would be left out.
    """
    images = {name for files in inventory.splits.values() for name in files}
    found: dict[str, dict] = {}
    lost = []
    for file, records in rows.items():
        if records and "file_name" not in records[0]:
            raise InputError(f"{file!r} has no column file_name that says which image a row is of: {some(records[0])}")
        for number, record in enumerate(records, start=1):
            name = os.path.normpath(os.path.join(os.path.dirname(file), str(record["file_name"]))).replace(os.sep, "/")
            if name not in images:
                lost.append(LeftOut(f"{file} row {number}", f"there is no image {record['file_name']!r}"))
            elif name in found:
                raise InputError(
                    f"the image {name!r} has two rows in the metadata, the second in {file!r}, row {number}"
                )
            else:
                found[name] = {key: value for key, value in record.items() if key != "file_name"}
    without = [LeftOut(name, f"without a row in {some(rows)}") for name in sorted(images - found.keys())]
    if len(without) > len(found) or len(lost) > len(found):
        worst = max(without, lost, key=len)
        raise InputError(
            f"{some(rows)} and the images do not fit together: {len(without)} of {len(images)} images have no row, and "
            f"{len(lost)} rows no image, such as {worst[0].file}"
        )
    left_out += lost + without
    return {split: _joined(inventory, split, data, found) for split, data in splits.items()}


def _joined(inventory: Inventory, split: str, data: Dataset, found: dict[str, dict]) -> Dataset:
    names = inventory.splits[split]
    kept = [place for place, name in enumerate(names) if name in found]
    data, names = data.select(kept), [names[place] for place in kept]
    if not names:
        raise InputError(f"none of the images of the split {split!r} has a row in {some(inventory.metadata)}")
    columns = {column: [found[name].get(column) for name in names] for column in found[names[0]]}
    if "label" in columns and "label" in data.column_names:
        folders = data.features["label"].int2str(data["label"][:])
        for name, folder, label in zip(names, folders, columns["label"], strict=True):
            if str(label) != folder:
                raise InputError(
                    f"what is the class of {name!r}: {folder!r}, as its folder says, or {label!r}, as "
                    f"{some(inventory.metadata)} says? Leave one of them out"
                )
        columns.pop("label")
    if "image" in columns:
        raise InputError(
            f"{some(inventory.metadata)} has a column `image`, the name of the images themselves: rename it"
        )
    extra = Dataset.from_dict(columns)
    return datasets.concatenate_datasets([data, extra], axis=1) if columns else data
