"""The augmentations of SimCLR (Chen et al. 2020, Figure 4 and Appendix A) as batched tensor functions.

Every random operation has two halves, side by side below:

- `<operation>(images, parameters)` is a deterministic function of images (B, C, H, W) and one parameter an image.
  Images are float32 in [0, 1], on any device, with any number of channels (colour operations need RGB); nothing is
  changed in place. Parameters are small and may stay on the CPU.
- `draw_<operation>(n, …, generator=…)` draws the parameters of n images from a CPU `torch.Generator`, so that a CPU and
  a GPU see the same numbers, and which image gets which operation is known without asking the GPU.

The policies `simclr_cifar` and `simclr_imagenet` take uint8 images and draw for the whole batch. A CPU works through it
in tiles that stay in the cache, a GPU takes it whole (`_all_at_once`). Of images that are not RGB they leave out what
needs colours: saturation, hue and grey.
Their semantics are those of the torchvision pipeline, less its rounding to 8 bits after each operation. Crop, resize
and flip are composed into one linear sampling. The colour operations are not composed into one matrix: each is affine
in the channels (but for hue, which is not even linear), yet each ends in a clamp, and the product of their matrices
gives other pixels wherever a clamp bites.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_replearn.errors import InputError
from hf_replearn.randomness import upload

# ------------------------------------------------------------------------------------------------ crop, resize, flip

RATIO = (3 / 4, 4 / 3)  # of the width of a crop to its height


def crop_resize(images: Tensor, boxes: Tensor, size: int, *, mirrored: Tensor | None = None) -> Tensor:
    """Cuts one box out of each image, mirrors it where asked and resizes it to size × size.

    Bilinear, with antialiasing where the box is larger than the output, never looking outside the box: the pixels of
    torchvision's `resized_crop(antialias=True)`. The resampling is linear and separable, Y = R X Cᵀ with triangle
    filters in the rows of R and C: two small matrix products an image.

    Args:
        images: (B, C, H, W), uint8 or float in [0, 1].
        boxes: (B, 4), left, top, right, bottom as fractions of width and height, taken to the nearest whole pixel and
            at least one pixel wide and high.
        mirrored: (B,) bool, the images to mirror left to right.

    Returns:
        (B, C, size, size), float32 in [0, 1] up to rounding.
    """
    height, width = images.shape[2:]
    boxes = boxes.to(images.device)
    x, y = boxes[:, 0::2], boxes[:, 1::2]  # left and right, top and bottom
    if mirrored is not None:  # a box whose left is right of its right is read backwards
        x = torch.where(mirrored.to(images.device)[:, None], x.flip(1), x)
    corners = torch.stack([x * width, y * height], 2).round()
    filters = _triangle_filters(corners[:, 0], corners[:, 1], max(width, height), size)
    columns, rows = filters[:, 0, :, :width], filters[:, 1, :, :height]  # (B, size, W), (B, size, H)
    if images.dtype == torch.uint8:
        rows.div_(255)
    return _rows_and_columns(images.float(), rows, columns)


def _rows_and_columns(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Y = R X Cᵀ, (B, C, H, W) with (B, size, H) and (B, size, W) -> (B, C, size, size)"""
    batch, channels, height, width = images.shape
    narrow = images.reshape(batch, channels * height, width) @ columns.mT  # (B, C·H, size)
    return rows[:, None] @ narrow.view(batch, channels, height, -1)


def _triangle_filters(start: Tensor, end: Tensor, n_in: int, n_out: int) -> Tensor:
    """Weights (…, n_out, n_in) that resample the pixels from `start` to `end` (…) of an axis of n_in pixels."""
    start, end = start[..., None, None], end[..., None, None]
    step = (end - start) / n_out  # input pixels per output pixel, negative if mirrored
    centre = start + step * (torch.arange(n_out, device=start.device) + 0.5)[:, None]  # (…, n_out, 1)
    pixel = torch.arange(n_in, device=start.device) + 0.5
    slope = 1 / step.abs().clamp(min=1)  # a wider triangle is what antialiasing is
    outside = (pixel - (start + end) / 2).abs() - (end - start).abs() / 2 + 0.5  # inside the box ≤ 0, outside ≥ 1
    weights = 1 - (pixel * slope - centre * slope).abs_().maximum(outside)
    weights.clamp_(min=0)
    return weights.div_(weights.sum(-1, keepdim=True))


def draw_crop(
    n: int,
    *,
    shape: tuple[int, int],
    generator: torch.Generator,
    min_scale: float = 0.08,
    max_scale: float = 1.0,
    ratio: tuple[float, float] = RATIO,
    aspect: Tensor | None = None,
) -> Tensor:
    """Draws crop boxes as torchvision's RandomResizedCrop: uniform area, uniform logarithm of width / height.

    Ten candidates are drawn at once and the first that fits is taken; where none fits, the largest centred box of an
    allowed ratio. Boxes end on whole pixels.

    Args:
        shape: height and width of the images, in pixels.
        min_scale, max_scale: smallest and largest area of a crop, as fractions of the picture's.
        ratio: smallest and largest width / height of a crop.
        aspect: (n,), width / height of the pictures before they were squeezed onto the images' shape, so that `ratio`
            is that of the picture's crop; by default that of `shape`.

    Returns:
        (n, 4), left, top, right, bottom as fractions of width and height.
    """
    crops = _draw_crops(n, (min_scale, max_scale), ratio, generator)
    return _boxes(crops, shape, ratio, None if aspect is None else aspect.cpu())


def _draw_crops(n: int, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator) -> Tensor:
    """(22, n): ten areas and ten ratios to choose from, and where in the picture: all that a crop needs of chance."""
    area = _uniform((10, n), *scale, generator)
    ratios = _uniform((10, n), math.log(ratio[0]), math.log(ratio[1]), generator).exp()
    return torch.cat([area, ratios, torch.rand(2, n, generator=generator)])


def _boxes(crops: Tensor, shape: tuple[int, int], ratio: tuple[float, float], aspect: Tensor | None) -> Tensor:
    """The boxes of `draw_crop`, on the device of `crops`: the same on all, for each step is rounded as IEEE 754 says.

    A GPU would multiply by the reciprocal of a number in place of dividing by it, hence the tensors of one number.
    """
    height, width = shape
    n, (low, high) = crops.shape[1], (crops.new_full((), end) for end in ratio)
    aspect = crops.new_full((n,), width / height) if aspect is None else aspect.float()
    area, ratios, place = crops.split([10, 10, 2])
    w = ((area * ratios / aspect).sqrt() * width).round()  # (10, n) pixels
    h = ((area / ratios * aspect).sqrt() * height).round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    found, first = fits.any(0), fits.int().argmax(0, keepdim=True)
    widest = ((high / aspect).clamp(max=1) * width).round().clamp(min=1)
    highest = ((aspect / low).clamp(max=1) * height).round().clamp(min=1)
    w, h = torch.where(found, w.gather(0, first)[0], widest), torch.where(found, h.gather(0, first)[0], highest)
    left = torch.where(found, place[0] * (width - w + 1), (width - w) / 2).floor()
    top = torch.where(found, place[1] * (height - h + 1), (height - h) / 2).floor()
    return torch.stack([left / width, top / height, (left + w) / width, (top + h) / height], 1)


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirrors left to right the images where `mirrored` (B,) is true."""
    return torch.where(_per_image(mirrored, images), images.flip(-1), images)


def draw_coin(n: int, p: float, *, generator: torch.Generator) -> Tensor:
    """(n,) bool, true with probability p: the images that an operation touches (flip, grey)."""
    return torch.rand(n, generator=generator) < p


# ------------------------------------------------------------------------------------------------ colour

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, the grey of PIL
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """x ← f·x, clamped to [0, 1]; f (B,), 1 changes nothing."""
    return _recolour(images, *_colour_matrices(torch.full_like(factor, BRIGHTNESS), factor))


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """x ← f·x + (1 − f)·m with m the image's mean grey, clamped to [0, 1]; f (B,), 1 changes nothing."""
    return _recolour(images, *_colour_matrices(torch.full_like(factor, CONTRAST), factor))


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """x ← f·x + (1 − f)·g with g the pixel's grey, clamped to [0, 1]; f (B,), 1 changes nothing."""
    return _recolour(images, *_colour_matrices(torch.full_like(factor, SATURATION), factor))


def _colour_matrices(operation: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """P and Q, (…, 3, 3), with which brightness, contrast and saturation are x ← P x + Q mean(x)."""
    operation, factor = operation[..., None, None], factor[..., None, None]
    to_grey = (1 - factor) * factor.new_tensor(LUMA).expand(3, 3)
    return factor * torch.eye(3).to(factor) + to_grey * (operation == SATURATION), to_grey * (operation == CONTRAST)


def _recolour(images: Tensor, matrix: Tensor, mean_matrix: Tensor) -> Tensor:
    """clamp(P x + Q mean(x)), one P and Q (B, 3, 3) an image."""
    _require_rgb(images, "a colour operation")
    pixels = images.flatten(2)
    mean = mean_matrix.to(images.device) @ pixels.mean(2, keepdim=True)  # (B, 3, 1)
    return torch.baddbmm(mean, matrix.to(images.device), pixels).clamp_(0, 1).view_as(images)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue of HSV by `shift` (B,) full circles; value and saturation stay.

    With c the largest less the smallest channel of a pixel, its hue in sixths of a circle is
    ±(1 + (green + blue − red − smallest) / c) with the sign of green − blue: the textbook's three cases in one line. At
    hue h, in circles, a channel is smallest + c·clip(|6·frac(h − o) − 3| − 1, 0, 1), o = 0, 1/3, 2/3 for R, G, B.
    """
    _require_rgb(images, "hue")
    red, green, blue = images.unbind(1)
    smallest = torch.minimum(red, green).minimum(blue)
    c = torch.maximum(red, green).maximum(blue).sub_(smallest)
    sixths = (green + blue).sub_(red).sub_(smallest).div_(c.clamp(min=1e-12)).add_(1).copysign_(green - blue)
    thirds = torch.arange(6, 3, -1, dtype=images.dtype, device=images.device).div_(3)  # from 2: frac needs positives
    offset = thirds.view(1, 3, 1, 1) + _per_image(shift, images)
    wave = (sixths.div_(6)[:, None] + offset).frac_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)  # (B, 3, H, W)
    return torch.addcmul((smallest - c)[:, None], wave, c.mul_(6)[:, None])


def colour_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in an order of its own for each image.

    Args:
        images: (B, 3, H, W).
        factors: (B, 4) on the CPU, of brightness, contrast, saturation and hue in this order.
        order: (B, 4) int64 on the CPU: the numbers of the operations in turn, or −1 throughout for no jitter.
    """
    _require_rgb(images, "colour_jitter")
    images, turn_of_hue = images.clone(), _turn_of_hue(order)
    for turn in range(4):
        rows = (turn_of_hue == turn).nonzero()[:, 0]
        there = rows.to(images.device)
        images[there] = _jitter_together(images[there], factors[rows], order[rows])
    return images


def _turn_of_hue(order: Tensor) -> Tensor:
    return torch.where(order[:, 0] < 0, 4, (order == HUE).int().argmax(1))  # 4: never


def _jitter_together(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Jitters images whose hue is due in the same turn; in the other turns each has the matrix of its own operation."""
    pixel, mean = _colour_matrices(order, factors.gather(1, order))
    pixel, mean = pixel.to(images.device), mean.to(images.device)
    for turn, operation in enumerate(order[:1].flatten().tolist()):
        images = hue(images, factors[:, HUE]) if operation == HUE else _recolour(images, pixel[:, turn], mean[:, turn])
    return images


def intensity_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """What of `colour_jitter` needs no colours, for any number of channels: brightness and contrast, in their order.

    Contrast is x ← f·x + (1 − f)·m with m the mean of the image's own channel: for one channel, that of `contrast`.
    """
    still = order[:, 0] < 0
    late = (order == CONTRAST).int().argmax(1) > (order == BRIGHTNESS).int().argmax(1)  # contrast comes second
    for turn in range(2):
        operation = torch.where(late, turn, 1 - turn)  # BRIGHTNESS is 0, CONTRAST 1
        factor = factors.gather(1, operation[:, None])[:, 0].where(~still, 1)
        shift = _per_image((1 - factor) * (operation == CONTRAST), images) * images.mean((2, 3), keepdim=True)
        images = torch.addcmul(shift, images, _per_image(factor, images)).clamp_(0, 1)
    return images


def draw_jitter(n: int, *, strength: float, generator: torch.Generator, p: float = 0.8) -> tuple[Tensor, Tensor]:
    """Draws `factors` and `order` (n, 4) of `colour_jitter` at strength s; an image is jittered with probability p.

    Brightness, contrast and saturation factors are uniform in [max(0, 1 − 0.8 s), 1 + 0.8 s], the shift of the hue in
    [−0.2 s, 0.2 s]; each of the 24 orders is as likely.
    """
    factors = _uniform((n, 4), max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength, generator)
    factors[:, HUE] = _uniform((n,), -0.2 * strength, 0.2 * strength, generator)
    order = torch.rand(n, 4, generator=generator).argsort(1)
    return factors, order.where(draw_coin(n, p, generator=generator)[:, None], -1)


def grey(images: Tensor) -> Tensor:
    """All three channels become the pixel's grey ("colour drop")."""
    _require_rgb(images, "grey")
    return _luma(images).repeat(1, 3, 1, 1)


def _luma(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)"""
    red, green, blue = images.split(1, 1)
    return red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


# ------------------------------------------------------------------------------------------------ Gaussian blur


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blurs with a Gaussian of standard deviation `sigma` (B,) > 0 pixels, reflecting at the border.

    The kernel has 10 % of the image's height, made odd, as in SimCLR: 3 pixels at 32, 9 at 96, 23 at 224. The padded
    image is one long row of numbers, in which the pixel below is a stride away: one pass with that stride, one with 1.
    """
    radius = max(1, int(0.1 * images.shape[2]) // 2)
    taps = (torch.arange(radius + 1) ** 2 / (-2 * sigma.cpu()[:, None] ** 2)).exp()
    taps = taps / (2 * taps.sum(1, keepdim=True) - 1)  # (B, radius + 1): the middle and one side
    taps = taps.T[:, :, None].to(images.device)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    row = padded.flatten(1)
    for stride in (padded.stride(2), 1):
        n = row.shape[1] - 2 * radius * stride
        blurred = row.narrow(1, radius * stride, n) * taps[0]
        for i in range(1, radius + 1):
            both_sides = row.narrow(1, (radius - i) * stride, n) + row.narrow(1, (radius + i) * stride, n)
            blurred.addcmul_(both_sides, taps[i])
        row = blurred
    return row.as_strided(images.shape, (row.stride(0), *padded.stride()[1:])).contiguous()


def draw_blur(n: int, *, generator: torch.Generator, p: float = 0.5, low: float = 0.1, high: float = 2.0) -> Tensor:
    """(n,), sigma uniform in [low, high] pixels with probability p, else 0: not to be blurred."""
    return _uniform((n,), low, high, generator) * draw_coin(n, p, generator=generator)


# ------------------------------------------------------------------------------------------------ the rest of Figure 4


def rotate(images: Tensor, quarter_turns: Tensor) -> Tensor:
    """Turns square images counter-clockwise by `quarter_turns` (B,) in 0…3 times 90 degrees; no interpolation."""
    if images.shape[2] != images.shape[3]:
        raise InputError(f"rotate needs square images, got {images.shape[2]} × {images.shape[3]}: crop them first")
    turns = _per_image(quarter_turns, images)
    images = torch.where(turns % 2 == 1, images.mT.flip(2), images)
    return torch.where(turns >= 2, images.flip(2, 3), images)


def draw_rotation(n: int, *, generator: torch.Generator) -> Tensor:
    """(n,) quarter turns, uniform in 0…3."""
    return torch.randint(4, (n,), generator=generator)


def cutout(images: Tensor, boxes: Tensor, *, value: float = 0.5) -> Tensor:
    """Fills the pixels whose centre lies in the image's box (DeVries & Taylor 2017); `boxes` as in `crop_resize`."""
    height, width = images.shape[2:]
    left, top, right, bottom = boxes.to(images.device)[:, :, None].unbind(1)  # (B, 1) each
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside = ((y >= top) & (y < bottom))[:, None, :, None] & ((x >= left) & (x < right))[:, None, None, :]
    return images.masked_fill(inside, value)


def draw_cutout(n: int, *, generator: torch.Generator, side: float = 0.5) -> Tensor:
    """(n, 4), squares of `side` (a fraction of the image) around a uniform centre; they may stick out of the image."""
    centre = torch.rand(n, 2, generator=generator)
    return torch.cat([centre - side / 2, centre + side / 2], 1)


def gaussian_noise(images: Tensor, noise: Tensor) -> Tensor:
    """x + noise, clamped to [0, 1]; `noise` has the images' shape."""
    return (images + noise.to(images.device)).clamp_(0, 1)


def draw_noise(shape: tuple[int, ...], *, generator: torch.Generator, sigma: float = 0.1) -> Tensor:
    """Gaussian noise of standard deviation `sigma`, independent for every number of `shape`."""
    return torch.randn(shape, generator=generator) * sigma


def sobel(images: Tensor) -> Tensor:
    """Length of each channel's Sobel gradient over 4 (a black-to-white edge has 1), clamped; reflects at the border."""
    x = F.pad(images, (1, 1, 1, 1), mode="reflect")
    across, down = x[..., 2:] - x[..., :-2], x[..., 2:, :] - x[..., :-2, :]
    across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.hypot(across, down).div_(4).clamp_(0, 1)


# ------------------------------------------------------------------------------------------------ the policies


def crop_and_flip(  # noqa: PLR0913 (each is a setting of its own)
    images: Tensor,
    *,
    generator: torch.Generator,
    size: int,
    min_scale: float = 0.08,
    max_scale: float = 1.0,
    flip: float = 0.5,
    views: int = 1,
    aspect: Tensor | None = None,
    compiled: bool = False,
) -> Tensor:
    """Random crops, mirrored or not, whose colours are as they were. Arguments, result and errors are those of
    `simclr_cifar`."""
    _check_images(images)
    if not (0 < min_scale <= max_scale <= 1 and 0 <= flip <= 1):
        raise InputError(
            f"min_scale {min_scale}, max_scale {max_scale}, flip {flip}: needs 0 < min_scale <= max_scale <= 1 and "
            "flip in [0, 1]"
        )
    n = views * len(images)
    crops, mirrored = _draw_crops(n, (min_scale, max_scale), RATIO, generator), draw_coin(n, flip, generator=generator)
    drawn = upload(torch.cat([crops, mirrored[None]]), images.device)
    aspect = None if aspect is None else upload(aspect, images.device).repeat(views)
    boxes = _boxes(drawn[:-1], images.shape[2:], RATIO, aspect)
    with torch.autocast(images.device.type, enabled=False), _full_products():  # others would cost some of the 8 bits
        return crop_resize(images.repeat(views, 1, 1, 1), boxes, size, mirrored=drawn[-1] > 0).clamp_(0, 1)


def simclr_cifar(  # noqa: PLR0913 (each is a setting of its own)
    images: Tensor,
    *,
    generator: torch.Generator,
    size: int = 32,
    strength: float = 0.5,
    min_scale: float = 0.08,
    max_scale: float = 1.0,
    flip: float = 0.5,
    views: int = 1,
    aspect: Tensor | None = None,
    compiled: bool = False,
) -> Tensor:
    """SimCLR's views of small images (Appendix B.9): crop, flip, colour jitter (p 0.8) and grey (p 0.2); no blur.

    Args:
        images: (B, C, H, W) uint8, on any device. Where C is not 3, `intensity_jitter` stands for the colour jitter,
            and no image is made grey.
        generator: on the CPU; the same state gives the same draws on every device.
        size: height and width of a view, in pixels.
        strength: of the colour jitter, see `draw_jitter`.
        min_scale, max_scale: smallest and largest area of a crop, as fractions of the picture's.
        flip: probability of mirroring; 0 for digits and text.
        views: how many of each image; view v of image i is row v·B + i of the result.
        aspect: (B,), width / height of the pictures before they were squeezed onto H × W.
        compiled: whether `torch.compile` fuses what is done on a GPU, which is slow once for each number of images and
            then faster; a CPU works in another way, in which there is nothing to compile.

    Returns:
        (views·B, C, size, size), float32 in [0, 1], on the images' device. See `normalize`.

    Raises:
        InputError: images that are not (B, C, H, W) or not uint8, a setting out of its range.
    """
    draws = _draw_views(images, views, (strength, min_scale, max_scale, flip, 0.0), aspect, generator)
    return _make_views(images, draws, size, blurred=False, compiled=compiled)


def simclr_imagenet(  # noqa: PLR0913 (each is a setting of its own)
    images: Tensor,
    *,
    generator: torch.Generator,
    size: int = 224,
    strength: float = 1.0,
    min_scale: float = 0.08,
    max_scale: float = 1.0,
    flip: float = 0.5,
    views: int = 1,
    aspect: Tensor | None = None,
    compiled: bool = False,
) -> Tensor:
    """SimCLR's views of photographs (Appendix A): those of `simclr_cifar` at strength 1, blurred with p 0.5.

    Arguments, result and errors are those of `simclr_cifar`.
    """
    draws = _draw_views(images, views, (strength, min_scale, max_scale, flip, 0.5), aspect, generator)
    return _make_views(images, draws, size, blurred=True, compiled=compiled)


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x − mean) / std a channel, in place (a batch of views is large and new); returns the images."""
    mean, std = upload(torch.tensor([mean, std], dtype=images.dtype), images.device)[:, :, None, None]
    for tile in images.split(_tile(images[0].numel())) if images.device.type == "cpu" else [images]:
        tile.sub_(mean).div_(std)
    return images


class _Draws(NamedTuple):
    """The parameters of n views, tensors of n rows on the device that makes them."""

    boxes: Tensor
    mirrored: Tensor
    factors: Tensor
    order: Tensor
    grey: Tensor
    sigma: Tensor


def _draw_views(
    images: Tensor, views: int, settings: tuple[float, ...], aspect: Tensor | None, generator: torch.Generator
) -> _Draws:
    """Draws on the CPU. For a GPU, all that was drawn goes there as one tensor, for which nobody waits."""
    strength, min_scale, max_scale, mirror, blur = settings
    _check_images(images)
    if not (0 <= strength <= 2.5 and 0 < min_scale <= max_scale <= 1 and 0 <= mirror <= 1):
        raise InputError(
            f"strength {strength}, min_scale {min_scale}, max_scale {max_scale}, flip {mirror}: needs strength in "
            "[0, 2.5], 0 < min_scale <= max_scale <= 1 and flip in [0, 1]"
        )
    n = views * len(images)
    crops = _draw_crops(n, (min_scale, max_scale), RATIO, generator)
    mirrored = draw_coin(n, mirror, generator=generator)
    factors, order = draw_jitter(n, strength=strength, generator=generator)
    colourless = draw_coin(n, 0.2, generator=generator)
    drawn = [crops, mirrored, factors, order, colourless, draw_blur(n, p=blur, generator=generator)]
    if images.device.type != "cpu":
        drawn = _upload_together(drawn, images.device)
    aspect = None if aspect is None else upload(aspect, images.device).repeat(views)
    return _Draws(_boxes(drawn[0], images.shape[2:], RATIO, aspect), *drawn[1:])


def _check_images(images: Tensor) -> None:
    if images.ndim != 4:
        raise InputError(f"a policy takes images (B, C, H, W), got shape {tuple(images.shape)}")
    if images.dtype != torch.uint8:
        raise InputError(f"a policy takes uint8 images, got {images.dtype}: pass them as decoded, 0…255")


def _upload_together(drawn: list[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of which the last, or only, axis is the image, but for (n, 4); each comes back as it was."""
    crops, mirrored, factors, order, colourless, sigma = drawn
    rows = [crops, mirrored[None], factors.T, order.T, colourless[None], sigma[None]]
    crops, mirrored, factors, order, colourless, sigma = upload(torch.cat(rows), device).split([*map(len, rows)])
    return [crops, mirrored[0] > 0, factors.T, order.T.long(), colourless[0] > 0, sigma[0]]


def _make_views(images: Tensor, draws: _Draws, size: int, *, blurred: bool, compiled: bool) -> Tensor:
    device = images.device
    with torch.autocast(device.type, enabled=False):  # bfloat16 products would cost half of the 8 bits
        if device.type == "cpu":
            return _in_tiles(images, draws, size)
        with _full_products():
            return (_compiled() if compiled else _all_at_once)(images, draws, size, blurred=blurred)


# ------------------------------------------------------------------------------------------------ on a CPU: in tiles


def _in_tiles(images: Tensor, draws: _Draws, size: int) -> Tensor:
    """The views drawn, worked through in tiles whose rows get the same operations in the same turn, or nearly."""
    channels = images.shape[1]
    out = torch.empty(len(draws.boxes), channels, size, size)
    for rows in _alike(draws, _tile(channels * max(size * size, images.shape[2] * images.shape[3]))):
        draw = _Draws(*(parameter[rows] for parameter in draws))
        x = crop_resize(images[rows % len(images)], draw.boxes, size, mirrored=draw.mirrored)
        if draw.order[0, 0] >= 0:
            x = (_jitter_together if channels == 3 else intensity_jitter)(x, draw.factors, draw.order)
        if channels == 3:
            coloured = len(rows) - int(draw.grey.sum())
            x[coloured:] = grey(x[coloured:])
        if draw.sigma[0] > 0:
            x = gaussian_blur(x, draw.sigma)
        out.index_copy_(0, rows, x.clamp_(0, 1))  # the weights of a crop sum to one but for the last bit
    return out


def _alike(draws: _Draws, tile: int) -> Iterator[Tensor]:
    """Rows, at most `tile` at a time, that agree on the turn of their hue and on blur; those to be grey come last."""
    kind = 2 * _turn_of_hue(draws.order) + (draws.sigma > 0)
    rows = (2 * kind + draws.grey).argsort(stable=True)
    for alike in rows.split(kind.bincount().tolist()):
        if len(alike):
            yield from alike.chunk(math.ceil(len(alike) / tile))


def _tile(numbers_per_image: int) -> int:
    """Images to work on at a time: 1 MiB, a core's cache."""
    return max(1, 2**18 // numbers_per_image)


# ------------------------------------------------------------------------------------------------ on a GPU: all at once


def _all_at_once(images: Tensor, draws: _Draws, size: int, *, blurred: bool) -> Tensor:
    """The views drawn, of the whole batch in each kernel. The host neither waits nor looks at a number.

    Every image goes through every operation, where it is not due with a parameter that changes nothing: what costs time
    on a GPU are kernels and bytes. Expected, not measured, for 512 views of 224 pixels, 0.3 GB of float32, on a GPU of
    4 TB/s and 45 TFLOPS in float32: the four batched matrix products of crop and blur are 0.14 TFLOP, and with their
    filters move 12 times that, 4 ms. The colours are 7 chains of element-wise operations: one by one they move it 60
    times in 90 kernels, 5 ms; fused by `torch.compile` 15 times in 10, 1 ms. Of views of 32 pixels the time is that of
    the launches, some 200 one by one and 25 when compiled.
    """
    views = len(draws.boxes) // len(images)
    x = crop_resize(images.repeat(views, 1, 1, 1), draws.boxes, size, mirrored=draws.mirrored)
    if images.shape[1] == 3:
        x = _jitter_in_any_order(x, draws.factors, draws.order)
        x = torch.where(_per_image(draws.grey, x), _luma(x), x)
    else:
        x = intensity_jitter(x, draws.factors, draws.order)
    if blurred:
        x = _blur_by_products(x, draws.sigma)
    return x.clamp(0, 1)


def _jitter_in_any_order(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """`colour_jitter` with its parameters on the images' device: three turns before the hue, the hue, three after it.

    In each of those turns an image has the operation that it has in that turn, if that is on this side of its hue.
    """
    turn, turn_of_hue = torch.arange(4, device=order.device), _turn_of_hue(order)[:, None]
    factor = factors.gather(1, order.clamp(min=0)).where(order >= 0, 1)  # 1 changes nothing
    before, after = factor.where(turn < turn_of_hue, 1), factor.where(turn > turn_of_hue, 1)
    by_pixel, by_mean = (order == SATURATION).to(factor.dtype), (order == CONTRAST).to(factor.dtype)
    for i in range(3):
        images = _towards_grey(images, before[:, i], by_pixel[:, i], by_mean[:, i])
    images = hue(images, factors[:, HUE].where(order[:, 0] >= 0, 0))
    for i in range(1, 4):
        images = _towards_grey(images, after[:, i], by_pixel[:, i], by_mean[:, i])
    return images


def _towards_grey(images: Tensor, factor: Tensor, by_pixel: Tensor, by_mean: Tensor) -> Tensor:
    """x ← f·x + (1 − f)·g, clamped, with g the pixel's grey, the image's mean grey, or black where both are 0."""
    pixel = _luma(images)
    mean = pixel.mean((2, 3), keepdim=True) * _per_image(by_mean, images)
    towards = torch.addcmul(mean, pixel, _per_image(by_pixel, images))
    return torch.lerp(towards, images, _per_image(factor, images)).clamp_(0, 1)


def _blur_by_products(images: Tensor, sigma: Tensor) -> Tensor:
    """`gaussian_blur` of square images, its parameter on their device, 0 for an image that stays sharp: B X Bᵀ.

    Pixel j is seen from pixel i in its own place and, in the mirrors at both ends, at −j and 2 (size − 1) − j.
    """
    size = images.shape[3]
    radius = max(1, int(0.1 * size) // 2)
    reach = torch.arange(radius + 1, device=images.device)
    taps = (reach**2 / (-2 * sigma.clamp(min=0.05)[:, None] ** 2)).exp()
    taps = taps / (2 * taps.sum(1, keepdim=True) - 1)  # (B, radius + 1)
    pixel = torch.arange(size, device=images.device)
    far = 3 * size
    seen = torch.stack([pixel, -pixel.where(pixel > 0, far), (2 * (size - 1) - pixel).where(pixel < size - 1, far)])
    distance = (pixel[:, None, None] - seen).abs()  # (size, 3, size)
    weight = (distance == reach[:, None, None, None]).sum(2).to(taps.dtype)  # (radius + 1, size, size)
    blur = (taps @ weight.flatten(1)).view(-1, size, size)
    return _rows_and_columns(images, blur, blur)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_all_at_once, fullgraph=True)


@contextlib.contextmanager
def _full_products() -> Iterator[None]:
    """No TF32, which Trainer allows: its 10 bits are too few for pixels whose contrast is raised afterwards."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = before


# ------------------------------------------------------------------------------------------------ helpers


def _per_image(parameter: Tensor, images: Tensor) -> Tensor:
    return parameter.to(images.device)[:, None, None, None]


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _require_rgb(images: Tensor, operation: str) -> None:
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"{operation} needs RGB images (B, 3, H, W), got shape {tuple(images.shape)}")


# ------------------------------------------------------------------------------------------------ the picture


def draw_views(images: Tensor, views: Tensor, path: str | Path, *, aspect: Tensor | None = None) -> None:
    """Writes a picture of images (B, C, H, W) uint8, one a row, and beside each its V views: (V·B, C, size, size)
    float in [0, 1], as a policy returns them. aspect: (B,), width / height of the images before they were squeezed.

    Of more than three channels the first three are shown as red, green and blue, of two the first as grey.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    rows, columns = len(images), 1 + len(views) // len(images)
    images, views = _to_look_at(images).cpu(), _to_look_at(views).cpu()
    panels = views.unflatten(0, (columns - 1, rows)).transpose(0, 1)  # (B, V, 3, size, size)
    figure = Figure(figsize=(1.4 * columns, 1.4 * rows + 0.3))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(rows, -0.3 / 1.4), autoscale_on=False)  # one for all:
    axes.set_axis_off()  # those of every image would take longer than short runs

    def show(image: Tensor, row: int, column: int, *, shape: float = 1.0) -> None:
        height, width = 0.47 * min(1.0, shape), 0.47 * min(1.0, 1 / shape)
        x, y = column + 0.5, row + 0.5
        pixels = image.permute(1, 2, 0).numpy()
        extent = (x - width, x + width, y + height, y - height)
        axes.imshow(pixels, interpolation="nearest", extent=extent, aspect="auto")
        axes.add_patch(Rectangle((x - width, y - height), 2 * width, 2 * height, fill=False, edgecolor="0.8", lw=0.6))

    for row in range(rows):
        shape = images.shape[2] / images.shape[3] if aspect is None else 1 / float(aspect[row])
        show(images[row], row, 0, shape=min(max(shape, 1 / 4), 4))  # a line of pixels is drawn as a strip
        for column, view in enumerate(panels[row], start=1):
            show(view.clamp(0, 1), row, column)
    axes.text(0.5, -0.05, "image", fontsize=9, ha="center")
    axes.text(1.03, -0.05, "views as this run draws them", fontsize=9)
    figure.savefig(path, dpi=100)


def _to_look_at(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 3, H, W)"""
    return images[:, :3] if images.shape[1] > 2 else images[:, :1].expand(-1, 3, -1, -1)
