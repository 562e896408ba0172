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

from hf_replearn.data.decoding import UndecodableImage, bits_of_grey, decode, read_bytes, to_rgb

VERSION = 2  # raised when the same images come to give another result
COLUMNS = datasets.Features(
    height=Value("int32"), width=Value("int32"), checksum=Value("uint32"), digest=Value("int64"),
    depth=Value("string"), low=Value("float64"), high=Value("float64"), reason=Value("string"),
)  # fmt: skip
GREY16, GREY32, COLOUR16 = "16-bit grey", "32-bit grey", "16-bit colour"


def scan(rows: Dataset, *, num_proc: int | None = None) -> dict[str, np.ndarray]:
    """Decodes every image of the column `image` and gives arrays (N,):

    height, width: upright. checksum, digest: CRC-32 and 64 bits of BLAKE2b of the bytes.
    depth:         GREY16, GREY32 or COLOUR16, "" for 8 bits. low, high: the extreme levels of these, else 0.
    reason:        why it does not decode; "" where it does.

    The result is kept in datasets' cache and taken from there as long as the rows, the image files outside them (size,
    inode, times of content and of any change), and Pillow are the same. A cache that is not whole is made again.
    """
    rows = rows.select_columns("image")
    key = _key(rows)
    path = Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn", f"scan-{key}")
    found = _load(path, key, len(rows))
    if found is None:
        num_proc = min(
            num_proc or os.cpu_count(), len(rows) // 1000
        )  # a process takes longer to start than 1000 images
        found = rows.map(
            _probe,
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


def _probe(images: list[dict | None]) -> dict[str, list]:
    found = []
    for raw in images:
        try:
            data = read_bytes(raw)
            measured = decode({"bytes": data, "path": None}, partial(_measure, data))
            digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), signed=True)
            found.append((*measured[:2], zlib.crc32(data), digest, *measured[2:], ""))
        except UndecodableImage as error:
            found.append((0, 0, 0, 0, "", 0.0, 0.0, error.reason))
    return {name: list(column) for name, column in zip(COLUMNS, zip(*found, strict=True), strict=True)}


def _measure(data: bytes, image: Image.Image) -> tuple[int, int, str, float, float]:
    bits = bits_of_grey(image)
    rgb = to_rgb(image, (0, 1) if bits == 32 else None)
    if bits is not None:
        levels, depth = np.asarray(image), GREY16 if bits == 16 else GREY32
        return image.height, image.width, depth, float(levels.min()), float(levels.max())
    if _has_16_bits(data, image):  # of which Pillow keeps the upper eight
        levels = np.asarray(rgb)
        return image.height, image.width, COLOUR16, 257.0 * levels.min(), 257.0 * levels.max()
    return image.height, image.width, "", 0.0, 0.0


def _has_16_bits(data: bytes, image: Image.Image) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # the header's bits a sample
    return image.format == "TIFF" and 16 in image.tag_v2.get(258, ())  # BitsPerSample


# ---- the cache


def _key(rows: Dataset) -> str:
    raw = rows.with_format("arrow")[:]["image"]
    outside = pc.struct_field(raw, "path").filter(pc.is_null(pc.struct_field(raw, "bytes"))).drop_null().to_pylist()
    files = [_state(path) for path in (*outside, *(file["filename"] for file in rows.cache_files))]
    return Hasher.hash((VERSION, generate_fingerprint(rows), files, PIL.__version__))


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
