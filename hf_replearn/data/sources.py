"""From the name of a dataset to its splits, with all their columns."""

from __future__ import annotations

import glob
import os
import re
from functools import partial
from pathlib import Path

import datasets
from datasets import ClassLabel, Dataset
from PIL import Image

from hf_replearn.data import toy
from hf_replearn.errors import InputError

# Raster formats only: Pillow would start Ghostscript for PostScript that calls itself .png.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
TABLES = {"parquet": (".parquet",), "arrow": (".arrow",)}
TEXTS = TABLES | {"json": (".jsonl", ".json"), "csv": (".csv",), "text": (".txt",)}  # a paragraph of .txt is a row
SPLITS = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation"}


def load_splits(dataset: str) -> dict[str, Dataset]:
    """All splits and columns of an image `dataset`: toy, a path, or a Hub id."""
    if dataset == "toy":
        return toy.digits()
    splits = load_tables(dataset, TABLES)
    if splits is None and Path(dataset).is_file():
        raise InputError(f"{dataset!r} is neither a folder nor a .parquet or .arrow file")
    return _load_folder(os.path.abspath(dataset)) if splits is None else splits


def load_tables(
    dataset: str, builders: dict[str, tuple[str, ...]], *, config: str | None = None, streaming: bool = False
) -> dict[str, Dataset] | None:
    """All splits and columns of a Hub id, a `save_to_disk` folder, or files of the first of `builders` that has any.

    builders:  name of a datasets builder -> suffixes of its files.
    config:    of a Hub dataset that has several.
    streaming: rows are read when they are needed (IterableDataset); not for `save_to_disk` folders.
    Returns None where a path has no such files.
    """
    path = Path(dataset)
    if not path.exists():
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset):
            raise InputError(f"there is no folder or file {dataset!r}")
        complaint = f"{dataset!r} is no folder or file here, and no Hub id that loads"
        return _read(complaint, datasets.load_dataset, dataset, config, streaming=streaming)
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        saved = _read(f"{dataset!r} cannot be read", datasets.load_from_disk, dataset)
        return saved if isinstance(saved, dict) else {"train": saved}
    for builder, suffixes in builders.items():
        tables = sorted(
            file for suffix in suffixes for place in ("", "data/") for file in path.glob(f"{place}*{suffix}")
        )
        words = {str(table): re.split(r"[-_.]", table.name)[0] for table in tables}
        if path.is_file() and path.suffix in suffixes:
            words = {dataset: "train"}
        if words:
            files = {split: [glob.escape(file) for file in files] for split, files in _by_split(words).items()}
            more = {"sample_by": "paragraph"} if builder == "text" else {}
            read = partial(datasets.load_dataset, builder, data_files=files, streaming=streaming, **more)
            return _read(f"{dataset!r} cannot be read", read)
    return None


def _read(complaint: str, load, *args, **kwargs) -> dict[str, Dataset]:
    """load(...), whose failures datasets puts into many classes; all are the user's to mend."""
    try:
        return load(*args, **kwargs)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{complaint}: {' '.join(str(error).split())}") from error


def _load_folder(root: str) -> dict[str, Dataset]:
    """The class of an image is its first folder, as for torchvision's ImageFolder; without folders there are no labels.

    datasets' own "imagefolder" does not fit: it finds splits in file names (cat/test_1.png leaves train), takes flat
    train/ and test/ for two classes, and passes over a class folder that is a symbolic link.
    """
    suffixes = {suffix for suffix, form in Image.registered_extensions().items() if form in FORMATS}
    files = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        names = [name for name in names if os.path.splitext(name)[1].lower() in suffixes and name[0] != "."]
        files += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    if not files:
        raise InputError(f"there are no images in {root!r}")

    splits = _by_split({file: file.split(os.sep)[0] for file in sorted(files)})
    level = int(files[0].split(os.sep)[0] in SPLITS)  # of the class folders, counted from root
    labels = {split: [next(iter(f.split(os.sep)[level:-1]), None) for f in files] for split, files in splits.items()}
    classes = set(labels["train"]) - {None}
    loaded = {}
    for split, files in splits.items():
        columns = {"image": [os.path.join(root, file) for file in files]}
        features = {"image": datasets.Image(decode=False)}
        if len(classes) > 1:
            if strange := set(labels[split]) - classes - {None}:
                raise InputError(f"{root!r} has a class {min(strange)!r} in {split!r} that is not in 'train'")
            columns["label"], features["label"] = labels[split], ClassLabel(names=sorted(classes))
        loaded[split] = Dataset.from_dict(columns, features=datasets.Features(features))
    return loaded


def _by_split(words: dict[str, str]) -> dict[str, list[str]]:
    """Files by split, from the word of each file's name that would name a split; all are train where none does."""
    found = set(words.values())
    if not found & SPLITS.keys():
        return {"train": list(words)}
    if "train" not in found or found - SPLITS.keys():
        raise InputError(
            f"are these splits or classes? {', '.join(sorted(found)[:6])}: call splits train, test and validation, "
            "with nothing else beside them, and classes otherwise"
        )
    splits = {}
    for file, word in words.items():
        splits.setdefault(SPLITS[word], []).append(file)
    return splits
