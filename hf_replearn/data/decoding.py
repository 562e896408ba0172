"""The bytes of a picture -> pixels, the same in every stage; what the processes that load a batch need.

B images, C channels, H height, W width
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zlib
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hf_replearn.data.channels import LARGEST, NUMPY, read_channels, read_npy, to_8_bits, to_rgb
from hf_replearn.data.inventory import FORMATS
from hf_replearn.errors import InputError

BILINEAR = Image.Resampling.BILINEAR
RGB = 3  # channels
LONGEST = 64  # times its width that a picture is seen

# Pillow's plugins let through whatever a damaged file provokes in them.
PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, RuntimeError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class UndecodableImage(InputError):
    """Why an image cannot become RGB, and its file where the data records one.

    Such images are found before training; later it is one whose file was changed or removed since.
    """

    def __init__(self, reason: str, path: str | None = None):
        reason = reason.strip().rpartition("UndecodableImage: ")[2]  # a loader's process hands on a whole traceback
        super().__init__(reason, path)
        self.reason, self.path = reason, path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


def bands_of(row: dict, *, at_least: int | None = None) -> list[Image.Image]:
    """The picture of a row of `ImageData`: one of RGB, or of the `channels` that the row has, a grey one of each.

    at_least: as of `decode_rgb`.
    """
    channels, value_range = row.get("channels"), row.get("value_range")
    if channels is None:
        return [decode_rgb(row["image"], at_least=at_least, value_range=value_range)]
    convert = partial(to_8_bits, value_range=value_range)
    pixels = decode(row["image"], convert, at_least=at_least, channels=channels)
    return [Image.fromarray(pixels[:, :, channel]) for channel in range(channels)]


def picture_of(row: dict, *, at_least: int | None = None) -> Image.Image:
    """A row of `ImageData` to look at, RGB: of other channels the first three, or the first as grey."""
    bands = bands_of(row, at_least=at_least)
    if len(bands) == 1:
        return bands[0].convert("RGB")
    return Image.merge("RGB", bands[:3] if len(bands) > 2 else bands[:1] * 3)


def picture_as(row: dict, channels: int | None = None) -> Image.Image | np.ndarray:
    """The picture of a row as networks and functions of others take it: RGB, grey of one channel, or (H, W, C) uint8.

    channels: how many are needed, where these need not be the row's own; 3 are RGB.
    """
    if channels not in (None, row.get("channels") or RGB):
        row = row | {"channels": None if channels == RGB else channels}
    bands = bands_of(row)
    if len(bands) == 1:
        return bands[0]
    return Image.merge("RGB", bands) if len(bands) == RGB else np.dstack(bands)


def decode_rgb(
    raw: dict | None, *, at_least: int | None = None, value_range: tuple[float, float] | None = None
) -> Image.Image:
    """The picture in {"bytes", "path"} as upright RGB: first frame, on white where it is transparent, 16 bits as 8.

    at_least:    a JPEG much larger than this many pixels a side is decoded at a half, a quarter or an eighth of its
                 size, which is faster, yet at no less than this.
    value_range: the levels of more than 8 bits that become black and white; none: those of the type.

    UndecodableImage, with the reason, for anything that is no whole picture, and for levels without a scale.
    """
    return decode(raw, lambda image: to_rgb(image, value_range), at_least=at_least)


def decode(raw: dict | None, convert, *, at_least: int | None = None, channels: int | None = None):
    """convert(the picture), whose errors become UndecodableImage.

    channels: None for what RGB can be made of: the picture as Pillow opens it, upright, in its own mode, or an array
              (H, W, 1 or 3) of an .npy file; else for an array (H, W, channels) of the file's own type.
    """
    data = read_bytes(raw)
    try:
        image = None if data.startswith(NUMPY) else _opened(data, at_least, known=channels is None)
        if channels is not None:
            return convert(read_channels(image, data, channels))
        return convert(read_npy(data, (1, 3)) if image is None else image)
    except UnidentifiedImageError:
        raise UndecodableImage("no picture in a known format" if data else "empty file", raw["path"]) from None
    except PILLOW_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableImage(reason, raw["path"]) from error


def _opened(data: bytes, at_least: int | None, *, known: bool) -> Image.Image | None:
    """The picture, upright; None for a format that Pillow does not know, unless it has to be known."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if known:
            raise
        return None
    if at_least is not None:
        image.draft(image.mode, (at_least, at_least))
    ImageOps.exif_transpose(image, in_place=True)
    return image


def read_bytes(raw: dict | None) -> bytes:
    """The bytes in {"bytes", "path"}. UndecodableImage where there are none, or no plain file."""
    if raw is None or (raw["bytes"] is None and raw["path"] is None):
        raise UndecodableImage("empty row")
    if raw["bytes"] is not None:
        return raw["bytes"]
    try:
        found = os.stat(raw["path"])  # before it is opened: a pipe would wait, a device may never end
        if not stat.S_ISREG(found.st_mode):
            raise UndecodableImage("not a plain file", raw["path"])
        if found.st_size > LARGEST:
            raise UndecodableImage(f"{found.st_size / 2**30:.1f} GiB are too much for one picture", raw["path"])
        with open(raw["path"], "rb") as file:
            return file.read()
    except UndecodableImage:
        raise
    except OSError as error:
        raise UndecodableImage(error.strerror, raw["path"]) from error
    except ValueError as error:  # of a path
        raise UndecodableImage(str(error), raw["path"]) from error


def stack_images(examples: list[dict], *, canvas: int | None) -> tuple[Tensor, Tensor]:
    """Rows with `image` -> pixels (B, C, H, W) uint8 and aspect (B,) float32, the width / height of each original.

    canvas: None stacks images of one size as they are; else each is resized, whatever its shape, to canvas x canvas
            pixels (bilinear, antialiased), and aspect lets a later crop draw its boxes in the shape of the original.
    """
    pixels, aspect = [], []
    for example in examples:
        bands = bands_of(example, at_least=canvas)
        aspect.append(bands[0].width / bands[0].height)
        bands = bands if canvas is None else [band.resize((canvas, canvas), BILINEAR) for band in bands]
        pixels.append(np.asarray(bands[0]) if bands[0].mode == "RGB" else np.dstack(bands))
    sizes = {array.shape[:2] for array in pixels}
    if len(sizes) > 1:
        raise ValueError(f"images of several sizes (H, W), such as {sorted(sizes)[:3]}, need a canvas")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(aspect)


def centre_crop(image: Image.Image, size: int, *, crop_pct: float = 1.0) -> Tensor:
    """RGB, or grey -> (3 or 1, size, size) uint8 as timm evaluates: shorter side to size / crop_pct, bilinear, then the
    centre."""
    image = without_far_ends(image)
    width, height = (int(math.floor(size / crop_pct) * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1).contiguous()


def without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a picture more than LONGEST times as long as wide: no square from its centre shows more, and with
    its shorter side enlarged the whole might not fit into memory."""
    most = LONGEST * min(image.size)
    width, height = (min(side, most) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if (width, height) == image.size else image.crop((left, top, left + width, top + height))
