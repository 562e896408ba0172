"""Any number of channels: the bytes of .npy, TIFF and other pictures -> (H, W, C) of their own type -> 8 bits.

Whatever cannot be read so is a ValueError that says why. H height, W width, C channels.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import tokenize
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

LARGEST = 2**30  # bytes of a file, and of the pages of a TIFF; Pillow's own limit, of pixels, is asked later
NUMPY = b"\x93NUMPY"  # what an .npy file begins with
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BANDS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}  # of Pillow's modes of 8 bits whose bands are channels
NO_TIFFFILE = "a TIFF of several pages or bands is read by tifffile: pip install 'hf-replearn[tiff]'"


def has_tifffile() -> bool:
    return importlib.util.find_spec("tifffile") is not None


# ---- to (H, W, C) of the file's own type


def read_npy(data: bytes, channels: Sequence[int]) -> np.ndarray:
    """An array (H, W), (H, W, C) or (C, H, W) of numbers, with one of these numbers of channels: (H, W, C)."""
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except tokenize.TokenError as error:  # of its header, which is Python
        raise ValueError(f"a damaged .npy file: {error}") from error
    if array.dtype.kind not in "buif":
        raise ValueError(f"an array of {array.dtype}, not of numbers")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} is no image (H, W), (H, W, C) or (C, H, W)")
    return _channels_last(array.astype(array.dtype.newbyteorder("=")), channels)


def _channels_last(array: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    shape, wanted = array.shape, " or ".join(map(str, channels))
    if array.ndim == 2:
        return _as_many(array[:, :, None], channels)
    first, last = shape[0] in channels, shape[2] in channels
    if first and last:
        raise ValueError(f"an array of shape {shape}: are its channels the first axis, or the last?")
    if not first and not last:
        more = ": say how many there are with --channels" * (len(channels) > 1)
        raise ValueError(f"an array of shape {shape} has not {wanted} channel(s), its first axis or its last{more}")
    return array if last else np.ascontiguousarray(np.moveaxis(array, 0, 2))


def _as_many(array: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    if array.shape[2] not in channels:
        raise ValueError(f"{_counted(array.shape[2])}, not {' or '.join(map(str, channels))}")
    return array


def read_picture(image: Image.Image, channels: int) -> np.ndarray:
    """The bands of a picture that Pillow has opened, when there are so many.

    Pictures whose three colours are equal everywhere, greys that were saved in colour, have one channel too.
    """
    if bits_of_grey(image) is not None:
        levels = np.asarray(image)
        levels = levels.astype(np.uint16) if bits_of_grey(image) == 16 else levels
        return _as_many(levels[:, :, None], [channels])
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in BANDS or (image.has_transparency_data and image.mode in ("L", "RGB")):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if channels == 1 and image.mode != "L":
        colours = np.asarray(to_rgb(image))
        if (colours != colours[:, :, :1]).any():
            raise ValueError(
                "in colour, not of 1 channel: convert it to grey if its brightness is meant; its colours are 3 channels"
            )
        return colours[:, :, :1]
    bands = np.atleast_3d(np.asarray(image))
    return _as_many(bands, [channels])


def needs_tifffile(image: Image.Image) -> bool:
    """Whether it is a TIFF of several pages, of many bands, or of colours of 16 bits, which Pillow gives in part."""
    if image.format != "TIFF":
        return False
    bands, bits, coding = (image.tag_v2.get(tag, default) for tag, default in ((277, 1), (258, (1,)), (262, 1)))
    return image.is_animated or (coding in (1, 2) and bands > 1 and (bands != 3 or set(bits) != {8}))


def read_tiff(data: bytes, channels: int) -> np.ndarray:
    """A TIFF of one page of C bands, or of C pages of one band and one size; reductions of a page do not count."""
    try:
        import tifffile
    except ImportError:
        raise ValueError(NO_TIFFFILE) from None
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is told by its exceptions
    try:
        arrays, axes = _pages(tifffile, data, channels)
    except tifffile.TiffFileError as error:
        raise ValueError(f"a damaged TIFF: {error}") from error
    array = np.moveaxis(arrays[0], 0, 2) if axes == "SYX" else np.dstack(arrays)
    return _as_many(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))), [channels])


def _pages(tifffile, data: bytes, channels: int) -> tuple[list[np.ndarray], str]:
    """The pages of a TIFF, (H, W), (H, W, C) or (C, H, W), and which of these they are: YX, YXS or SYX."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = [page for page in file.pages if not page.is_reduced]
        if not pages:
            raise ValueError("a TIFF without pages")
        if (file.imagej_metadata or {}).get("images", 1) > len(pages):
            raise ValueError("several images in one page, as ImageJ writes them: save it with a page for each")
        if len({(page.shape, page.dtype, page.axes) for page in pages}) > 1:
            raise ValueError(f"{len(pages)} pages of several sizes or types")
        axes, bands = pages[0].axes, pages[0].samplesperpixel
        if axes not in ("YX", "YXS", "SYX") or (len(pages) > 1 and bands > 1):
            raise ValueError(f"{len(pages)} page(s) of {_counted(bands)} and of axes {axes}")
        if (found := max(bands, len(pages))) != channels:
            raise ValueError(f"{_counted(found)}, not {channels}")
        if (size := sum(page.nbytes for page in pages)) > LARGEST:
            raise ValueError(f"{size / 2**30:.1f} GiB are too much for one picture")
        for page in pages:
            _check_page(page, data, plain=page.compression == tifffile.COMPRESSION.NONE)
        return [page.asarray() for page in pages], axes


def _check_page(page, data: bytes, *, plain: bool) -> None:
    """ValueError for a page whose numbers are not brightness, that lies on its side, or that is not all there."""
    if page.photometric not in (1, 2):  # black is zero, RGB
        raise ValueError(
            f"a TIFF of several pages or bands coded as {getattr(page.photometric, 'name', page.photometric)}"
        )
    if (turned := page.tags.valueof("Orientation", 1)) != 1:
        raise ValueError(f"a TIFF of several pages or bands that lies on its side (orientation {turned})")
    sizes = page.databytecounts
    ends = [place + size for place, size in zip(page.dataoffsets, sizes, strict=True)]
    if max(ends) > len(data) or 0 in sizes or (plain and sum(sizes) < page.nbytes):
        raise ValueError("a TIFF that is truncated")


def read_channels(image: Image.Image | None, data: bytes, channels: int) -> np.ndarray:
    """image: as Pillow has opened it; None where it does not know the format."""
    if data.startswith(NUMPY):
        return read_npy(data, [channels])
    if image is None and not data.startswith(TIFF):
        raise UnidentifiedImageError
    return read_tiff(data, channels) if image is None or needs_tifffile(image) else read_picture(image, channels)


# ---- to 8 bits


def bits_of_grey(image: Image.Image) -> int | None:
    """16, or 32 for whole numbers and floats of which nobody has said what is black and white; None: 8, or colours."""
    if image.mode.startswith("I;16"):
        return 16
    if image.mode in ("I", "F"):  # Pillow has 16-bit PNG and PGM as I too, by its version
        return 16 if image.format in ("PNG", "PPM") else 32
    return None


def has_own_range(kind: np.dtype) -> bool:
    """Whether the type says what is black and white: 0 and 255 of 8 bits, 0 and 65,535 of 16; no signs, no floats."""
    return kind.kind == "b" or (kind.kind == "u" and kind.itemsize <= 2)


def to_8_bits(levels: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Levels as uint8: 8 bits as they are, others by the range, or by their type's own."""
    if levels.dtype.kind == "b":
        return levels * np.uint8(255)
    if levels.dtype == np.uint8:
        return levels
    if value_range is None:
        if not has_own_range(levels.dtype):
            raise ValueError(f"{levels.dtype} levels have no scale: say --value_range LOW,HIGH")
        return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # Pillow's own conversion would clip at 255
    low, high = value_range
    shares = (levels.astype(np.float64) - low) / (high - low)
    if not np.isfinite(shares).all():
        raise ValueError("some levels are not finite")
    return np.rint(shares.clip(0, 1) * 255).astype(np.uint8)


def to_rgb(picture: Image.Image | np.ndarray, value_range: tuple[float, float] | None = None) -> Image.Image:
    """A picture of any mode, or an array (H, W, 1 or 3), as 8-bit RGB: on white where it is transparent."""
    if isinstance(picture, np.ndarray):
        levels = to_8_bits(picture, value_range)
        return Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels).convert("RGB")
    bits = bits_of_grey(picture)
    if bits is not None:
        if bits == 32 and value_range is None:
            raise ValueError(f"32-bit greys (mode {picture.mode}) have no scale: say --value_range LOW,HIGH")
        levels = np.asarray(picture)
        levels = levels.astype(np.uint16) if bits == 16 and value_range is None else levels
        return Image.fromarray(to_8_bits(levels, value_range)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _counted(channels: int) -> str:
    return f"{channels} channel{'s' * (channels != 1)}"
