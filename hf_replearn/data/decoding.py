"""The bytes of a picture -> RGB, the same in every stage; what the processes that load a batch need.

B images, H height, W width
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zlib

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hf_replearn.data.inventory import FORMATS
from hf_replearn.errors import InputError

BILINEAR = Image.Resampling.BILINEAR
LARGEST_FILE = 2**30  # bytes; Pillow's own limit, of pixels, comes after a file is read
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


def picture_of(row: dict, *, at_least: int | None = None) -> Image.Image:
    """The picture of a row of `ImageData`, as by `decode_rgb`, with the `value_range` that the row has."""
    return decode_rgb(row["image"], at_least=at_least, value_range=row.get("value_range"))


def decode_rgb(
    raw: dict | None, *, at_least: int | None = None, value_range: tuple[float, float] | None = None
) -> Image.Image:
    """The picture in {"bytes", "path"} as upright RGB: first frame, on white where it is transparent, 16 bits as 8.

    at_least:    a JPEG much larger than this many pixels a side is decoded at a half, a quarter or an eighth of its
                 size, which is faster, yet at no less than this.
    value_range: the levels of 16- and 32-bit greys that become black and white; none: 0 and 65,535 for 16 bits.

    UndecodableImage, with the reason, for anything that is no whole picture, and for 32-bit greys without a range.
    """
    return decode(raw, lambda image: to_rgb(image, value_range), at_least=at_least)


def decode(raw: dict | None, convert, *, at_least: int | None = None):
    """convert(the picture, upright, in its own mode), whose errors become UndecodableImage."""
    data = read_bytes(raw)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if at_least is not None:
            image.draft(image.mode, (at_least, at_least))
        ImageOps.exif_transpose(image, in_place=True)
        return convert(image)
    except UnidentifiedImageError:
        raise UndecodableImage("no picture in a known format" if data else "empty file", raw["path"]) from None
    except PILLOW_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UndecodableImage(reason, raw["path"]) from error


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
        if found.st_size > LARGEST_FILE:
            raise UndecodableImage(f"{found.st_size / 2**30:.1f} GiB are too much for one picture", raw["path"])
        with open(raw["path"], "rb") as file:
            return file.read()
    except UndecodableImage:
        raise
    except OSError as error:
        raise UndecodableImage(error.strerror, raw["path"]) from error
    except ValueError as error:  # of a path
        raise UndecodableImage(str(error), raw["path"]) from error


def bits_of_grey(image: Image.Image) -> int | None:
    """16, or 32 for whole numbers and floats of which nobody has said what is black and white; None: 8, or colours."""
    if image.mode.startswith("I;16"):
        return 16
    if image.mode in ("I", "F"):  # Pillow has 16-bit PNG and PGM as I too, by its version
        return 16 if image.format in ("PNG", "PPM") else 32
    return None


def to_rgb(image: Image.Image, value_range: tuple[float, float] | None = None) -> Image.Image:
    """A picture of any mode as 8-bit RGB; see `decode_rgb`. ValueError for one that has no scale."""
    bits = bits_of_grey(image)
    if bits is not None:
        if bits == 32 and value_range is None:
            raise ValueError(f"32-bit greys (mode {image.mode}) have no scale: say --value_range LOW,HIGH")
        return Image.fromarray(_levels(np.asarray(image), value_range)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _levels(greys: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    if value_range is None:  # Pillow's own conversion would clip at 255
        return ((greys.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = value_range
    shares = (greys.astype(np.float64) - low) / (high - low)
    if not np.isfinite(shares).all():
        raise ValueError("some levels are not finite")
    return np.rint(shares.clip(0, 1) * 255).astype(np.uint8)


def stack_images(examples: list[dict], *, canvas: int | None) -> tuple[Tensor, Tensor]:
    """Rows with `image` -> pixels (B, 3, H, W) uint8 and aspect (B,) float32, the width / height of each original.

    canvas: None stacks images of one size as they are; else each is resized, whatever its shape, to canvas x canvas
            pixels (bilinear, antialiased), and aspect lets a later crop draw its boxes in the shape of the original.
    """
    pixels, aspect = [], []
    for example in examples:
        image = picture_of(example, at_least=canvas)
        aspect.append(image.width / image.height)
        pixels.append(np.asarray(image if canvas is None else image.resize((canvas, canvas), BILINEAR)))
    sizes = {array.shape[:2] for array in pixels}
    if len(sizes) > 1:
        raise ValueError(f"images of several sizes (H, W), such as {sorted(sizes)[:3]}, need a canvas")
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(aspect)


def centre_crop(image: Image.Image, size: int, *, crop_pct: float = 1.0) -> Tensor:
    """RGB -> (3, size, size) uint8 as timm evaluates: shorter side to size / crop_pct, bilinear, then the centre."""
    image = without_far_ends(image)
    width, height = (int(math.floor(size / crop_pct) * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), BILINEAR).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def without_far_ends(image: Image.Image) -> Image.Image:
    """The middle of a picture more than LONGEST times as long as wide: no square from its centre shows more, and with
    its shorter side enlarged the whole might not fit into memory."""
    most = LONGEST * min(image.size)
    width, height = (min(side, most) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image if (width, height) == image.size else image.crop((left, top, left + width, top + height))
