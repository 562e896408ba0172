"""Sprites: small pictures of which every cause is known, drawn here. After dSprites (Matthey et al. 2017).

A white shape on black, 64 x 64 pixels, by five factors of which all 3 x 6 x 40 x 32 x 32 combinations exist. Two things
differ from dSprites: the 40 orientations are 2πi/40, so that the last is not the first again, and shapes lie on whole
pixels, so that two positions differ by the position alone.
"""

from __future__ import annotations

import io
from functools import cache

import datasets
import numpy as np
from PIL import Image

SIZE, TEMPLATE, FINE = 64, 33, 4  # pixels of an image and of a shape in a row, and points in each of them
RADIUS = 16.0  # of the circle in which every shape lies at scale 1
GRID = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}  # values of each factor
SHAPES = {"sprites": ("square", "ellipse", "heart"), "sprites-asymmetric": ("triangle", "heart", "flag")}
TRAIN, TEST, SEED = 40_000, 15_000, 0


def sprites(name: str = "sprites") -> datasets.DatasetDict:
    """40,000 different images to train on and 15,000 others to test on, of the 737,280 that there are.

    name: "sprites" are a square, an ellipse and a heart, of which the first two look the same after a quarter and a
          half turn, so that their orientation cannot be told; "sprites-asymmetric" are a triangle, a heart and a flag,
          each of which looks different in all 40 orientations.
    Columns: `image` (PNG), `shape` (ClassLabel), `scale` (0.5 … 1), `orientation` (degrees, counterclockwise), and `x`
    and `y` (pixels of the centre, from the left and from above).
    """
    codes = np.random.default_rng(SEED).permutation(np.prod(list(GRID.values())))[: TRAIN + TEST]
    factors = np.stack(np.unravel_index(codes, tuple(GRID.values())), axis=1)  # (N, 5)
    parts = {"train": factors[:TRAIN], "test": factors[TRAIN:]}
    return datasets.DatasetDict({split: _rows(name, chosen) for split, chosen in parts.items()})


def draw_sprites(factors: np.ndarray, name: str = "sprites") -> np.ndarray:
    """Images (N, 64, 64) uint8, 0 or 255, of factors (N, 5): the number of each one's value, in the order of `GRID`."""
    shape, scale, orientation, x, y = np.asarray(factors).T
    images = np.zeros((len(shape), SIZE, SIZE), np.uint8)
    for image, key, left, top in zip(images, zip(shape, scale, orientation, strict=True), x, y, strict=True):
        image[top : top + TEMPLATE, left : left + TEMPLATE] = _templates(name)[key]
    return images


def _rows(name: str, factors: np.ndarray) -> datasets.Dataset:
    files = [{"bytes": png(image), "path": None} for image in draw_sprites(factors, name)]
    features = datasets.Features(
        image=datasets.Image(decode=False),
        shape=datasets.ClassLabel(names=list(SHAPES[name])),
        scale=datasets.Value("float64"),
        orientation=datasets.Value("int64"),
        x=datasets.Value("int64"),
        y=datasets.Value("int64"),
    )
    shape, scale, orientation, x, y = factors.T
    centre = TEMPLATE // 2
    columns = {"image": files, "shape": shape, "scale": np.round(_scale(scale), 6), "orientation": orientation * 9}
    return datasets.Dataset.from_dict(columns | {"x": x + centre, "y": y + centre}, features=features)


def _scale(number: np.ndarray | int) -> np.ndarray | float:
    return 0.5 + number / 10


@cache
def _templates(name: str) -> np.ndarray:
    """Every shape at every scale and orientation, in the middle of 33 x 33 pixels: (3, 6, 40, 33, 33) uint8."""
    points = (np.arange(TEMPLATE * FINE) + 0.5) / FINE - TEMPLATE / 2
    across, up = np.meshgrid(points, -points)  # pixels from the middle, upwards as in mathematics
    found = np.empty((*list(GRID.values())[:3], TEMPLATE, TEMPLATE), np.uint8)
    for turn in range(GRID["orientation"]):
        angle = 2 * np.pi * turn / GRID["orientation"]
        u, v = (np.cos(angle) * across + np.sin(angle) * up, np.cos(angle) * up - np.sin(angle) * across)
        for scale in range(GRID["scale"]):
            radius = RADIUS * _scale(scale)
            for number, shape in enumerate(SHAPES[name]):
                inside = OUTLINES[shape](u / radius, v / radius)
                share = inside.reshape(TEMPLATE, FINE, TEMPLATE, FINE).mean((1, 3))
                found[number, scale, turn] = 255 * (share > 0.5)
    return found


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v)) < 0.66


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (u / 0.5) ** 2 + (v / 0.95) ** 2 < 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The sextic (a² + b² - 1)³ < a² b³."""
    a, b = u / 0.74, v / 0.74 + 0.1
    return (a**2 + b**2 - 1) ** 3 < a**2 * b**3


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Of two equal sides, half as high again as it is wide."""
    return (v > -0.75) & (abs(u) < 0.34 * (0.95 - v))


def _flag(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A pole on the left, and cloth on the right of its upper half."""
    pole = (abs(u + 0.3) < 0.2) & (abs(v) < 0.84)
    return pole | ((u > -0.3) & (u < 0.6) & (v > 0) & (v < 0.76))


OUTLINES = {"square": _square, "ellipse": _ellipse, "heart": _heart, "triangle": _triangle, "flag": _flag}


def png(pixels: np.ndarray) -> bytes:
    """The file of an image, (H, W) or (H, W, 3) uint8."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
