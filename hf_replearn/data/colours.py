"""Colours as people see them: CIE L*a*b* of sRGB, with the white of D65.

L, lightness, is 0 (black) to 100 (white); a goes from green to red and b from blue to yellow, both 0 for greys; a step
of 1 is about as much as can be seen (CIE 1976; IEC 61966-2-1).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
TO_XYZ /= TO_XYZ.sum(1, keepdims=True)  # white is 1, 1, 1
EPSILON, KAPPA = 216 / 24389, 24389 / 27  # where the cube root becomes a line, and its slope


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB in [0, 1] -> L, a, b; both (B, 3, H, W) float32."""
    linear = torch.where(images > 0.04045, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4, images / 12.92)
    x, y, z = map(_root, _mixed(TO_XYZ, linear))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(images: Tensor) -> Tensor:
    """L, a, b -> sRGB, clamped to [0, 1] where a colour cannot be shown; both (B, 3, H, W) float32."""
    lightness, a, b = images.unbind(1)
    y = (lightness + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], 1)
    xyz = torch.where(roots**3 > EPSILON, roots**3, (116 * roots - 16) / KAPPA)
    linear = torch.stack(_mixed(np.linalg.inv(TO_XYZ), xyz), 1).clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def lightness(picture: Image.Image) -> Image.Image:
    """L of an RGB picture as a grey one: 0 to 100 as 0 to 255. It is not the picture's luma, Pillow's mode L."""
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
    levels = (rgb_to_lab(pixels)[0, 0] * 2.55).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(levels.numpy())


def _mixed(matrix: np.ndarray, images: Tensor) -> list[Tensor]:
    """Each channel of matrix times images, (B, H, W), with no tensor that would have to go to a GPU."""
    return [sum(float(share) * channel for share, channel in zip(row, images.unbind(1), strict=True)) for row in matrix]


def _root(xyz: Tensor) -> Tensor:
    return torch.where(xyz > EPSILON, xyz.clamp(min=EPSILON) ** (1 / 3), (KAPPA * xyz + 16) / 116)
