"""Images from anywhere: found good before training starts, decoded the same way in every stage.

B images a batch, H height, W width
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import PIL
import pyarrow.compute as pc
import torch
from datasets import ClassLabel, Dataset, Value
from datasets.fingerprint import Hasher
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hf_replearn.data.labels import choose_columns, element
from hf_replearn.data.sources import FORMATS, load_splits
from hf_replearn.errors import InputError

BILINEAR = Image.Resampling.BILINEAR
HOLD_OUT_SHARE, HOLD_OUT_MOST, HOLD_OUT_SEED = 0.2, 10_000, 0

# Pillow's plugins let through whatever a damaged file provokes in them.
PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, RuntimeError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class UndecodableImage(ValueError):
    """Why an image cannot become RGB, and its file where the data records one."""

    def __init__(self, reason: str, path: str | None = None):
        super().__init__(reason, path)
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


class Skipped(NamedTuple):
    """An image left out. `row` counts from 0 in the split as loaded; `file` is None where the data records no name."""

    split: str
    row: int
    file: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file or 'image'} ({self.split} row {self.row}: {self.reason})"


@dataclass(frozen=True)
class ImageData:
    """Images that all decode.

    name:        what a card may show: the Hub id, or the last part of the path.
    hub_id:      None for local data.
    train, test: columns `image` (datasets.Image(decode=False): {"bytes", "path"}) and, with labels, `label` (an int, or
                 a list of ints for multi-label data). test is None for unlabelled data without a test split.
    test_source: where test comes from, in words.
    label_names: class names by number, or None without labels.
    sizes:       how many images of each (H, W) in train and test together.
    skipped:     the images that did not decode.
    fingerprint: of the bytes and labels of all kept images in order, whatever container they came in.
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset | None
    test_source: str
    label_names: list[str] | None
    sizes: Counter[tuple[int, int]]
    skipped: list[Skipped]
    fingerprint: str

    @property
    def single_label(self) -> bool:
        """Whether each image has just one class."""
        return isinstance(self.train.features.get("label"), ClassLabel)

    @property
    def common_size(self) -> tuple[int, int] | None:
        """(H, W) if all images share it, else None."""
        return next(iter(self.sizes)) if len(self.sizes) == 1 else None

    def canvas(self, image_size: int) -> int | None:
        """The `canvas` of `stack_images` for views of image_size pixels; None where images stack as they are.

        Twice image_size: a crop of a quarter of the area keeps its sharpness, and a batch fits into memory.
        """
        largest = max(map(max, self.sizes))
        return None if self.common_size and largest <= 2 * image_size else min(2 * image_size, largest)


def load_images(
    dataset: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    max_undecodable: float = 0.01,
    num_proc: int | None = None,
) -> ImageData:
    """Loads images, decodes each once, leaves out the bad ones and sets the test images apart.

    dataset: `toy`; a folder of images, flat or in class folders, or these in train/, test/ or validation/; a parquet or
             arrow file, or {train,test,validation}.* of them in a folder; a `save_to_disk` folder; or a Hub id.
    image_column, label_column: needed only where the types of the columns leave a choice.
    max_undecodable: the largest share of images that may be left out.
    num_proc: processes that decode (default: one a core).

    Test is the split `test`, else `validation`: the first that has labels if train has. Labelled data with neither
    gives up a stratified 20 % of train, at most 10,000 images. InputError for whatever the user has to mend.
    """
    splits = choose_columns(load_splits(dataset), image_column, label_column)
    kept, sizes, skipped, contents = {}, Counter(), [], []
    for split, rows in splits.items():
        found = scan(rows, num_proc=num_proc)
        good, bad = np.flatnonzero(found["reason"] == ""), np.flatnonzero(found["reason"] != "").tolist()
        skipped += [Skipped(split, row, (rows[row]["image"] or {}).get("path"), found["reason"][row]) for row in bad]
        kept[split] = rows.select(good) if bad else rows
        sizes.update(zip(found["height"][good].tolist(), found["width"][good].tolist(), strict=True))
        labels = kept[split]["label"][:] if "label" in rows.features else None
        contents.append((found["checksum"][good].tolist(), labels))

    total = sum(map(len, splits.values()))
    if len(skipped) > max_undecodable * total:
        raise InputError(
            f"{len(skipped)} of {total} images ({len(skipped) / total:.1%}) in {dataset!r} do not decode, more than "
            f"max_undecodable = {max_undecodable:g}: {', '.join(map(str, skipped[:3]))}{', …' * (len(skipped) > 3)}"
        )
    train, test, test_source = kept.pop("train"), None, "none"
    label = train.features.get("label")
    if kept:
        [(split, test)] = kept.items()
        test_source = f"split `{split}`"
        if not len(test):
            raise InputError(f"no image in the split {split!r} of {dataset!r} decodes")
    elif label is not None:
        train, test, test_source = _hold_out(train)
    if len(train) < 2:
        raise InputError(f"{dataset!r} has {len(train) or 'no'} image to train on: at least 2 are needed")
    label_names = None if label is None else element(label).names
    hub_id = None if dataset == "toy" or os.path.exists(dataset) else dataset
    return ImageData(
        name=hub_id or os.path.basename(os.path.abspath(dataset)),
        hub_id=hub_id,
        train=train,
        test=test,
        test_source=test_source,
        label_names=label_names,
        sizes=sizes,
        skipped=skipped,
        fingerprint=Hasher.hash((contents, label_names)),
    )


def _hold_out(rows: Dataset) -> tuple[Dataset, Dataset | None, str]:
    """Rows to train on, rows to test on, and these in words.

    Every fifth of the rows sorted by class is a stratified sample. The only row of a class stays for training, and the
    rows of multi-label data are drawn at random.
    """
    multi_label = isinstance(rows.features["label"], datasets.List)
    labels = np.zeros(len(rows), int) if multi_label else np.array(rows["label"][:])
    order = np.random.default_rng(HOLD_OUT_SEED).permutation(len(rows))
    order = order[np.argsort(labels[order], kind="stable")]
    order = order[np.bincount(labels)[labels[order]] > 1]
    count = min(math.ceil(len(order) * HOLD_OUT_SHARE), HOLD_OUT_MOST)
    if count == 0:
        return rows, None, "none"
    test = np.sort(order[((np.arange(count) + 0.5) * len(order) / count).astype(int)])
    train = np.setdiff1d(np.arange(len(rows)), test)
    how = "drawn at random" if multi_label else "in proportion to the classes"
    source = f"{count:,} of the {len(rows):,} images of `train`, {how} (seed {HOLD_OUT_SEED}), never trained on"
    return rows.select(train), rows.select(test), source


# ---- every image once, before training


def scan(rows: Dataset, *, num_proc: int | None = None) -> dict[str, np.ndarray]:
    """Decodes every image of the column `image`: (N,) `height`, `width`, `checksum` (CRC-32 of its bytes) and `reason`.

    reason is "" for an image that decodes. The result lies in datasets' cache and is taken from there as long as the
    rows, the times of the image files outside them, and Pillow are the same.
    """
    rows = rows.select_columns("image")
    raw = rows.with_format("arrow")[:]["image"]
    outside = pc.struct_field(raw, "path").filter(pc.is_null(pc.struct_field(raw, "bytes"))).drop_null().to_pylist()
    times = [os.stat(path).st_mtime_ns for path in outside if os.path.exists(path)]
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "hf_replearn"
    cache.mkdir(parents=True, exist_ok=True)
    num_proc = min(num_proc or os.cpu_count(), len(rows) // 1000)  # a process takes longer to start than 1000 images
    found = rows.map(
        _probe,
        batched=True,
        batch_size=100,
        input_columns="image",
        remove_columns="image",
        features=datasets.Features(
            height=Value("int32"), width=Value("int32"), checksum=Value("uint32"), reason=Value("string")
        ),
        num_proc=num_proc if num_proc > 1 else None,
        cache_file_name=str(cache / f"scan-{Hasher.hash((rows._fingerprint, times, PIL.__version__))}.arrow"),
        desc="Decoding every image once",
    )
    return found.with_format("numpy")[:]


def _probe(images: list[dict | None]) -> dict[str, list]:
    found = []
    for raw in images:
        try:
            data = _bytes(raw)
            image = decode_rgb({"bytes": data, "path": None})
            found.append((image.height, image.width, zlib.crc32(data), ""))
        except UndecodableImage as error:
            found.append((0, 0, 0, error.reason))
    columns = zip(*found, strict=True)
    return {name: list(column) for name, column in zip(("height", "width", "checksum", "reason"), columns, strict=True)}


# ---- bytes -> RGB, in the workers


def decode_rgb(raw: dict | None, *, at_least: int | None = None) -> Image.Image:
    """The picture in {"bytes", "path"} as upright RGB: first frame, on white where it is transparent, 16 bits as 8.

    at_least: a JPEG much larger than this many pixels a side is decoded at a half, a quarter or an eighth of its size,
              which is faster, yet at no less than this.

    UndecodableImage, with the reason, for anything that is no whole picture, and for 32-bit greys, which have no scale.
    """
    data = _bytes(raw)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if at_least is not None:
            image.draft(image.mode, (at_least, at_least))
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except UnidentifiedImageError:
        raise UndecodableImage("no picture in a known format" if data else "empty file", raw["path"]) from None
    except PILLOW_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableImage(reason, raw["path"]) from error


def _bytes(raw: dict | None) -> bytes:
    if raw is None or (raw["bytes"] is None and raw["path"] is None):
        raise UndecodableImage("empty row")
    if raw["bytes"] is not None:
        return raw["bytes"]
    try:
        return Path(raw["path"]).read_bytes()
    except OSError as error:
        raise UndecodableImage(error.strerror, raw["path"]) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit greys (mode {image.mode}) have no scale")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def stack_images(examples: list[dict], *, canvas: int | None) -> tuple[Tensor, Tensor]:
    """Rows with `image` -> pixels (B, 3, H, W) uint8 and aspect (B,) float32, the width / height of each original.

    canvas: None stacks images of one size as they are; else each is resized, whatever its shape, to canvas x canvas
            pixels (bilinear, antialiased), and aspect lets a later crop draw its boxes in the shape of the original.
    """
    pixels, aspect = [], []
    for example in examples:
        image = decode_rgb(example["image"], at_least=canvas)
        aspect.append(image.width / image.height)
        pixels.append(np.asarray(image if canvas is None else image.resize((canvas, canvas), BILINEAR)))
    sizes = {array.shape[:2] for array in pixels}
    if len(sizes) > 1:
        raise ValueError(f"images of several sizes (H, W), such as {sorted(sizes)[:3]}, need a canvas")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(aspect)


def centre_crop(image: Image.Image, size: int, *, crop_pct: float = 1.0) -> Tensor:
    """RGB -> (3, size, size) uint8 as timm evaluates: shorter side to size / crop_pct, bilinear, then the centre."""
    width, height = (int(math.floor(size / crop_pct) * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
