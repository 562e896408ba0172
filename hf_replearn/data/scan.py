"""Every image once, before training: whether it decodes, its size, its levels, and what tells its file from others."""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Value
from datasets.fingerprint import Hasher, generate_fingerprint
from PIL import Image

from hf_replearn.data.channels import bits_of_grey, has_own_range, has_tifffile, to_rgb
from hf_replearn.data.decoding import UndecodableImage, decode, read_bytes

VERSION = 3  # raised when the same images come to give another result
COLUMNS = datasets.Features(
    height=Value("int32"), width=Value("int32"), checksum=Value("uint32"), digest=Value("int64"),
    depth=Value("string"), low=Value("float64"), high=Value("float64"), partly=Value("bool"), reason=Value("string"),
)  # fmt: skip
GREY16, GREY32, COLOUR16, MANY16 = "16-bit grey", "32-bit grey", "16-bit colour", "16-bit"
WITH_A_RANGE = ("", GREY16, COLOUR16, MANY16)


def scan(rows: Dataset, *, channels: int | None = None, num_proc: int | None = None) -> dict[str, np.ndarray]:
    """Decodes every image of the column `image` and gives arrays (N,):

    height, width: upright. checksum, digest: CRC-32 and 64 bits of BLAKE2b of the bytes.
    depth:         "" for 8 bits; GREY16, COLOUR16 or MANY16; GREY32 or the type of the levels, such as "float32", where
                   that does not say what is black and white. low, high: the extreme levels of these, else 0.
    partly:        whether RGB shows but the first of several pages, or a part of the bands.
    reason:        why it does not decode; "" where it does.

    channels: how many the images must have; None: RGB is made of them.

    The result is kept in datasets' cache and taken from there as long as the rows, the image files outside them (size,
    inode, times of content and of any change), and Pillow are the same. A cache that is not whole is made again.
    """
    rows = rows.select_columns("image")
    key = _key(rows, channels)
    path = Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn", f"scan-{key}")
    found = _load(path, key, len(rows))
    if found is None:
        num_proc = min(
            num_proc or os.cpu_count(), len(rows) // 1000
        )  # a process takes longer to start than 1000 images
        found = rows.map(
            partial(_probe, channels=channels),
            batched=True,
            batch_size=100,
            input_columns="image",
            remove_columns="image",
            features=COLUMNS,
            num_proc=num_proc if num_proc > 1 else None,
            keep_in_memory=True,
            desc="Decoding every image once",
        ).with_format("arrow")[:]
        _save(found, path, key)
    return {name: found[name].to_numpy() for name in COLUMNS}


def _probe(images: list[dict | None], channels: int | None) -> dict[str, list]:
    found = []
    for raw in images:
        try:
            data = read_bytes(raw)
            measured = decode({"bytes": data, "path": None}, partial(_measure, data), channels=channels)
            digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), signed=True)
            found.append((*measured[:2], zlib.crc32(data), digest, *measured[2:], ""))
        except UndecodableImage as error:
            found.append((0, 0, 0, 0, "", 0.0, 0.0, False, error.reason))
    return {name: list(column) for name, column in zip(COLUMNS, zip(*found, strict=True), strict=True)}


def _measure(data: bytes, picture: Image.Image | np.ndarray) -> tuple[int, int, str, float, float, bool]:
    if isinstance(picture, np.ndarray):
        return *picture.shape[:2], *_levels_of_array(data, picture), False
    bits = bits_of_grey(picture)
    rgb = to_rgb(picture, (0, 1) if bits == 32 else None)
    depth, low, high = "", 0.0, 0.0
    if bits is not None:
        levels, depth = np.asarray(picture), GREY16 if bits == 16 else GREY32
        low, high = float(levels.min()), float(levels.max())
    elif _is_16_bit_png(data) or (picture.format == "TIFF" and 16 in picture.tag_v2.get(258, ())):  # bits a sample
        levels, depth = np.asarray(rgb), COLOUR16  # of which Pillow keeps the upper eight
        low, high = 257.0 * levels.min(), 257.0 * levels.max()
    partly = picture.format == "TIFF" and (picture.is_animated or picture.tag_v2.get(277, 1) > 4)  # samples a pixel
    return picture.height, picture.width, depth, low, high, partly


def _levels_of_array(data: bytes, array: np.ndarray) -> tuple[str, float, float]:
    if array.dtype.itemsize == 1 and has_own_range(array.dtype):
        if not _is_16_bit_png(data):
            return "", 0.0, 0.0
        return COLOUR16, 257.0 * array.min(), 257.0 * array.max()
    low, high = float(array.min()), float(array.max())
    if not np.isfinite((low, high)).all():  # which NaN is not, among them
        raise ValueError("some levels are not finite")
    if has_own_range(array.dtype):
        return GREY16 if array.shape[2] == 1 else MANY16, low, high
    return array.dtype.name, low, high


def _is_16_bit_png(data: bytes) -> bool:
    return data.startswith(b"\x89PNG") and data[24] == 16  # the header's bits a sample


# ---- the cache


def _key(rows: Dataset, channels: int | None) -> str:
    raw = rows.with_format("arrow")[:]["image"]
    outside = pc.struct_field(raw, "path").filter(pc.is_null(pc.struct_field(raw, "bytes"))).drop_null().to_pylist()
    files = [_state(path) for path in (*outside, *(file["filename"] for file in rows.cache_files))]
    return Hasher.hash((VERSION, generate_fingerprint(rows), files, PIL.__version__, channels, has_tifffile()))


def _state(path: str) -> tuple[int, ...] | None:
    """What changes with a file's content; the time of any change (ctime) cannot be set back."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _load(path: Path, key: str, rows: int) -> pa.Table | None:
    """The table kept for this key; None where there is none that is whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if data[:32] != _seal(key, data[32:]):
        return None
    table = pa.ipc.open_stream(data[32:]).read_all()
    return table if len(table) == rows else None


def _save(table: pa.Table, path: Path, key: str) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data, part = sink.getvalue().to_pybytes(), path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(_seal(key, data) + data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"{path.parent}: {error.strerror}; the images will be decoded again next time", stacklevel=2)


def _seal(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=key.encode()[:64], digest_size=32).digest()
