"""Images, texts or sounds -> features (N, D), by anybody's encoder: `hr.encode` and the command `encode`.

N examples, D features, H height, W width, T samples of a sound
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from hf_replearn.data.channels import has_own_range
from hf_replearn.data.images import DARK, check_range, darkness
from hf_replearn.data.labels import is_image, is_text, shown_columns
from hf_replearn.data.objects import as_file
from hf_replearn.data.sounds import open_sound, scan
from hf_replearn.encoders.encoder import Encoder, Modality, Pooled, find_encoder
from hf_replearn.encoders.inputs import SoundInputs, sounds_at_once
from hf_replearn.errors import InputError
from hf_replearn.representation import Features, extract, split_layers

PICTURED = (1, 3, 4)  # channels of grey pictures, of RGB, and of RGB with transparency
PART = 4096  # images that are in memory as rows at a time


def encode(
    model: Any,
    data: Any,
    *,
    pooling: Pooled | None = None,
    layer: int | str = "last",
    max_length: int | None = None,
    batch_size: int = 64,
    use_cpu: bool = False,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """The features of images, texts or sounds, (N, D) float32, in their order: those that `evaluate` judges.

    model: whatever `find_encoder` takes: a folder, a run, a Hub id, (module, preprocess), a function.
    data:  images: PIL images, or uint8 or uint16 arrays (H, W) or (H, W, C) with as many channels as the encoder takes,
           in a list, or as one array (N, H, W, C); texts: a list of strings; sounds: a list of arrays (T,), int16 or
           floats in -1...1, of the rate that the encoder hears; or a datasets.Dataset with a column of images, of
           texts, or of files of sounds as `load_sounds` has them. Files are opened by whoever gives them: a string is
           a text.
    pooling, max_length: of texts, as for `find_encoder`.
    value_range: of images of 16 bits, the levels that are black and white; None: 0 and 65,535.
    layer: "last", the number of a layer (0: before the first block), or its name.

    Raises InputError for data that are none of these, or not what the encoder reads, and for whatever is
    wrong with the encoder, which is tried on a few of them first.
    """
    check_range(value_range)
    rows = as_rows(data, value_range)
    modality = modality_of_rows(rows)
    about = {"pooling": pooling, "all_layers": layer != "last", "max_length": max_length}
    encoder = find_encoder(model, modality=modality, **about)
    if modality == "sound" and isinstance(encoder.preprocess, SoundInputs):
        check_rate(rows, encoder.preprocess.processor.sampling_rate)
    order = range(len(rows))
    if modality == "text":  # a batch is padded to its longest text
        order = np.argsort([len(text) for text in rows["text"][:]], kind="stable")
        rows = rows.select(order)
    encoder.try_on(rows)
    place = encoder.find_layer(layer)
    parts = rows.parts() if isinstance(rows, _Images) else [rows]
    to_device(encoder, use_cpu=use_cpu)
    found = torch.cat([represent(encoder, part, layer=place, batch_size=batch_size).x for part in parts])
    features = np.empty(found.shape, np.float32)
    features[order] = found.numpy()
    return features


def modality_of_rows(rows: Dataset | _Images) -> Modality:
    """What the rows hold."""
    if isinstance(rows, _Images) or "image" in rows.column_names:
        return "image"
    return "sound" if "audio" in rows.column_names else "text"


def check_rate(rows: Dataset, hears: int) -> None:
    """Raises InputError for files of sounds of another rate than an encoder `hears`, where they tell it."""
    for number, audio in enumerate(rows["audio"]):
        rate, _ = open_sound(audio)
        if rate not in (None, hears):
            raise InputError(f"sound {number} is of {rate:,} Hz, and the encoder hears {hears:,} Hz: resample it")


def represent(encoder: Encoder, rows: Dataset, *, layer: int = -1, **options: Any) -> Features:
    """The features of one layer. options: of `extract`."""
    if encoder.modality == "sound":
        options["batch_size"] = min(options.get("batch_size", 256), sounds_at_once(rows))
    found = extract(encoder.network, rows, preprocess=encoder.preprocess, **options)
    return split_layers(found, encoder.widths)[layer]


def to_device(encoder: Encoder, *, use_cpu: bool) -> None:
    """Moves a network that was loaded to the accelerator, where there is one; a module of the user's own stays."""
    device = None if use_cpu else torch.accelerator.current_accelerator(check_available=True)
    if encoder.source is not None and device is not None:
        encoder.network.to(device)


def as_rows(data: Any, value_range: tuple[float, float] | None) -> Dataset | _Images:
    """Rows with an `image` or a `text` of whatever a notebook has. Raises InputError for what is neither, and for
    images of 16 bits that would be nearly black."""
    if isinstance(data, Dataset):
        rows = standard_columns(data)
        levels = [] if value_range is None or "image" not in rows.column_names else [list(value_range)] * len(rows)
        return rows.add_column("value_range", levels) if levels else rows
    if isinstance(data, str | os.PathLike | Image.Image):
        raise InputError(f"{_shown(data)} is not several: give a list")
    if isinstance(data, np.ndarray) and data.ndim != 4:
        raise InputError(
            f"an array of shape {data.shape} may be one image or several: give a list of arrays, or one (N, H, W, C)"
        )
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, dict):
        raise InputError(f"a {type(data).__name__} is no list of images, texts or sounds")
    if not len(data):
        raise InputError("the list is empty: there is nothing to encode")
    kinds = {_kind(data[number], number) for number in range(len(data))}
    if len(kinds) > 1:
        raise InputError(f"these are of several kinds, {', '.join(sorted(kinds))}: encode them apart")
    if kinds == {"sound"}:
        return _sounds(data)
    if kinds == {"image"}:
        if value_range is None:
            _refuse_darkness(data)
        return _Images(data, value_range)
    return Dataset.from_dict({"text": [data[number] for number in range(len(data))]})


class _Images(Sequence):
    """Images of a notebook as rows with an `image`, each made when it is asked for."""

    def __init__(self, images: Any, value_range: tuple[float, float] | None):
        self.images, self.value_range = images, value_range and list(value_range)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict:
        return _row(self.images[number]) | {"value_range": self.value_range}

    def parts(self):
        """Datasets of some of the rows each."""
        kinds = {"channels": datasets.Value("int32"), "value_range": datasets.List(datasets.Value("float64"))}
        feature = datasets.Features({"image": datasets.Image(decode=False)} | kinds)
        for start in range(0, len(self), PART):
            some = range(start, min(start + PART, len(self)))
            yield Dataset.from_list([self[number] for number in some], features=feature)


def _kind(item: Any, number: int) -> Modality:
    if isinstance(item, str):
        return "text"
    if isinstance(item, np.ndarray) and item.ndim == 1:
        return "sound"
    if isinstance(item, np.ndarray):
        _check_array(item, number)
    if isinstance(item, Image.Image | np.ndarray):
        return "image"
    way_on = ""
    if isinstance(item, os.PathLike):
        way_on = ": open it with PIL.Image.open"
    elif isinstance(item, torch.Tensor):
        way_on = ": give its uint8 pixels as an array (H, W, C), or (module, preprocess) as the encoder"
    elif isinstance(item, tuple):
        way_on = ": give the images or texts alone, without labels"
    raise InputError(
        f"item {number} is a {type(item).__name__}, neither an image (PIL or array), a text nor a sound{way_on}"
    )


def _sounds(arrays: Sequence[np.ndarray]) -> Dataset:
    """Samples of a notebook as rows with an `audio`, found good like those of files."""
    files = []
    for number in range(len(arrays)):
        file = io.BytesIO()
        np.save(file, arrays[number])
        files.append({"bytes": file.getvalue(), "path": None})
    return _found_good(Dataset.from_dict({"audio": files}))


def _found_good(rows: Dataset) -> Dataset:
    """Files of sounds with the `samples` of each. Raises InputError for the first that cannot be used."""
    found = scan(rows, None, shortest=1)
    if (bad := np.flatnonzero(found["reason"] != "")).size:
        raise InputError(f"sound {bad[0]} cannot be used: {found['reason'][bad[0]]}")
    return rows.add_column("samples", found["samples"].tolist())


def _refuse_darkness(images: Sequence) -> None:
    """Raises InputError where images of 16 bits use a small part of their range, as the readers of files do."""
    levels = [np.asarray(image) for image in images if getattr(image, "mode", "").startswith("I;16") or _is_deep(image)]
    low, high = (np.array([bound(array) for array in levels]) for bound in (np.min, np.max))
    if levels and np.median(high - low.astype(int)) < DARK:
        raise InputError(darkness("16-bit", low.astype(int), high.astype(int)))


def _is_deep(image: Any) -> bool:
    return isinstance(image, np.ndarray) and image.dtype == np.uint16


def _check_array(image: np.ndarray, number: int) -> None:
    if not has_own_range(image.dtype):
        raise InputError(
            f"image {number} is an array of {image.dtype}, of which nobody says what is black and white: make it "
            "uint8, 0 to 255, or uint16, 0 to 65,535"
        )
    if image.ndim not in (2, 3) or not image.size:
        raise InputError(f"image {number} is an array of shape {image.shape}, not (H, W) or (H, W, C)")
    if image.ndim == 3 and image.shape[0] in PICTURED and image.shape[2] not in PICTURED:
        raise InputError(
            f"image {number} is an array of shape {image.shape}: its channels are the first axis, or there are "
            f"{image.shape[2]} of them? Give (H, W, C)"
        )


def _row(image: Image.Image | np.ndarray) -> dict:
    """An image as a file in memory that loses nothing, so that all are read by the same rules (data.decoding)."""
    if isinstance(image, Image.Image) or (image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] in PICTURED)):
        return {"image": {"bytes": as_file(image), "path": None}, "channels": None}
    file, channels = io.BytesIO(), 1 if image.ndim == 2 else image.shape[2]
    np.save(file, image)
    many = channels if channels not in PICTURED else None  # else as many as the encoder reads
    return {"image": {"bytes": file.getvalue(), "path": None}, "channels": many}


def standard_columns(rows: Dataset, texts: Sequence[str] = ()) -> Dataset:
    """What is to be encoded alone: a column of images as `image`, of files of sounds as `audio`, or of texts as `text`,
    maybe with `text_pair`.

    texts: the columns of texts, one or two, where they are told. Raises InputError where there is a choice.
    """
    if not len(rows):
        raise InputError("the dataset is empty: there is nothing to encode")
    if not texts and "audio" in rows.features:
        kind = rows.features["audio"]
        if not isinstance(kind, dict) or set(kind) != {"bytes", "path"}:
            raise InputError(
                "the column 'audio' holds decoded sounds: give a list of arrays, or files as `load_sounds` has them"
            )
        return _found_good(rows.select_columns("audio"))
    images = [] if texts else [name for name, kind in rows.features.items() if is_image(kind)]
    found = list(texts) or [name for name, kind in rows.features.items() if is_text(kind)]
    if not texts and not images and "text" in found:
        found = [name for name in ("text", "text_pair") if name in found]
    clear = len(images) == 1 or (not images and (len(found) == 1 or "text_pair" in found or texts))
    missing = [name for name in texts if name not in rows.features or not is_text(rows.features[name])]
    if missing or not clear or len(texts) > 2:
        raise InputError(
            f"what to encode of the columns {shown_columns(rows.features)} is not clear: "
            + (f"{missing[0]!r} is none of texts" if missing else "keep one of images or of texts (--text_columns)")
        )
    if images:
        rows = rows.select_columns(images).rename_columns({images[0]: "image"})
        return rows.cast_column("image", datasets.Image(decode=False))
    rows = rows.select_columns(found).rename_columns(dict(zip(found, ("text", "text_pair"), strict=False)))
    for name in rows.column_names:
        if None in (cells := rows[name][:]):
            raise InputError(f"row {cells.index(None)} has no text in the column {name!r}: leave such rows out")
    return rows


def _shown(data: Any) -> str:
    return f"{str(data)[:40]!r}" if isinstance(data, str | os.PathLike) else "an image"
