"""Scenes in space of which every cause is known, drawn here. After 3D Shapes (Burgess & Kim 2018), whose generator was
never published.

An object stands before the corner of a room, 64 x 64 pixels in colours, by six factors of which all
10 x 10 x 10 x 8 x 4 x 15 combinations exist. Rays are marched through the distances to a surface (Hart 1996).
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from functools import cache

import datasets
import numpy as np

from hf_replearn.data.sprites import png

SIZE, FINE = 64, 2  # pixels of an image in a row, and rays in each of them
GRID = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "azimuth": 15}
SHAPES = ("cube", "cylinder", "sphere", "capsule")
AZIMUTHS = np.linspace(-30, 30, GRID["azimuth"])  # degrees
SCALES = np.linspace(0.7, 1.25, GRID["scale"])  # of the object: half its width, about
TRAIN, TEST, SEED = 10_000, 6_000, 0
WALLS, CLOSE, MARCHES = -3.2, 1e-3, 40  # places of both walls; from the surface; steps of a ray
MIDDLE, RADIUS = np.array([0.0, 0.0, 1.25]), 1.95  # of a sphere that holds every object
LIGHT = np.array([0.75, 0.25, 1.0]) / np.linalg.norm([0.75, 0.25, 1.0])


def scenes3d() -> datasets.DatasetDict:
    """10,000 different images to train on and 6,000 others to test on, of the 480,000 that there are.

    Columns: `image` (PNG), `floor_hue`, `wall_hue` and `object_hue` (0 … 0.9 of the circle of colours), `scale`
    (0.7 … 1.25), `shape` (ClassLabel) and `azimuth` (degrees by which the camera went around).
    """
    codes = np.random.default_rng(SEED).permutation(np.prod(list(GRID.values())))[: TRAIN + TEST]
    factors = np.stack(np.unravel_index(codes, tuple(GRID.values())), axis=1)  # (N, 6)
    parts = {"train": factors[:TRAIN], "test": factors[TRAIN:]}
    return datasets.DatasetDict({split: _rows(chosen) for split, chosen in parts.items()})


def draw_scenes(factors: np.ndarray) -> np.ndarray:
    """Images (N, 64, 64, 3) uint8 of factors (N, 6): the number of each one's value, in the order of `GRID`."""
    images = np.empty((len(factors), SIZE, SIZE, 3), np.uint8)
    for image, (*hues, scale, shape, azimuth) in zip(images, np.asarray(factors).tolist(), strict=True):
        colours = np.array([_colour(hue) for hue in hues])  # (3, 3): of floor, wall and object
        image[:] = np.rint(255 * np.clip(_light(scale, shape, azimuth) @ colours, 0, 1))
    return images


def _rows(factors: np.ndarray) -> datasets.Dataset:
    files = [{"bytes": png(draw_scenes(row[None])[0]), "path": None} for row in factors]
    kinds = {name: datasets.Value("float64") for name in GRID} | {"shape": datasets.ClassLabel(names=list(SHAPES))}
    columns = dict(zip(GRID, factors.T, strict=True))
    for name in ("floor_hue", "wall_hue", "object_hue"):
        columns[name] = columns[name] / 10
    columns |= {"scale": SCALES[columns["scale"]].round(6), "azimuth": AZIMUTHS[columns["azimuth"]].round(6)}
    features = datasets.Features({"image": datasets.Image(decode=False)} | kinds)
    return datasets.Dataset.from_dict({"image": files} | columns, features=features)


@cache
def _colour(hue: int) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(hue / 10, 0.75, 1.0)


# ---- light: what of each pixel is floor, wall and object, and how bright it is


@cache
def _light(scale: int, shape: int, azimuth: int) -> np.ndarray:
    """Brightness of floor, wall and object in each pixel, 0 where another is seen: (64, 64, 3)."""
    origin, rays = _rays(np.radians(45 + AZIMUTHS[azimuth]))
    distance = OBJECTS[SHAPES[shape]](SCALES[scale])
    planes = [_plane(origin, rays, axis, place) for axis, place in ((2, 0.0), (0, WALLS), (1, WALLS))]
    nearest = np.minimum.reduce(planes)
    reached = _march(distance, np.broadcast_to(origin, rays.shape), rays)
    seen = reached < nearest
    points = origin + rays * np.where(seen, reached, nearest)[:, None]
    normals = np.zeros_like(rays)
    for axis, plane in zip((2, 0, 1), planes, strict=True):
        normals[~seen & (plane == nearest), axis] = 1
    normals[seen] = _normals(distance, points[seen])
    bright = 0.45 + 0.55 * np.clip(normals @ LIGHT, 0, None)
    dark = ~seen & np.isfinite(_march(distance, points, np.broadcast_to(LIGHT, rays.shape)))
    bright[dark] = 0.45
    material = np.where(seen, 2, np.where(planes[0] == nearest, 0, 1))
    light = np.eye(3)[material] * bright[:, None]
    return light.reshape(SIZE, FINE, SIZE, FINE, 3).mean((1, 3)).astype(np.float32)


def _rays(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera is (3,), and the directions of its rays (R, 3), line by line."""
    origin = np.array([6.2 * np.cos(angle), 6.2 * np.sin(angle), 3.0])
    forward = np.array([0.0, 0.0, 0.95]) - origin
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    places = ((np.arange(SIZE * FINE) + 0.5) / (SIZE * FINE) * 2 - 1) * 0.42
    across, down = np.meshgrid(places, places)
    rays = forward + across[..., None] * right - down[..., None] * up
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return origin, rays.reshape(-1, 3)


def _plane(origin: np.ndarray, rays: np.ndarray, axis: int, place: float) -> np.ndarray:
    """How far it is to a plane along each ray (R,); infinite where the ray leads away from it."""
    with np.errstate(divide="ignore"):
        far = (place - origin[axis]) / rays[:, axis]
    return np.where(far > 0, far, np.inf)


def _march(distance: Callable, starts: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """How far it is to the object along each ray (R,); infinite where it passes by."""
    gone, found = np.full(len(rays), 0.02), np.full(len(rays), np.inf)
    along = ((MIDDLE - starts) * rays).sum(1)
    missed = ((MIDDLE - starts) ** 2).sum(1) - along**2
    left = np.flatnonzero((missed < RADIUS**2) & (along > -RADIUS))
    for _ in range(MARCHES):
        step = distance(starts[left] + rays[left] * gone[left, None])
        gone[left] += step
        there = step < CLOSE
        found[left[there]] = gone[left[there]]
        left = left[~there & (gone[left] < along[left] + RADIUS)]
    return found


def _normals(distance: Callable, points: np.ndarray) -> np.ndarray:
    """Of the surface at points (R, 3), by differences."""
    steps = np.eye(3) * 1e-4
    slopes = np.stack([distance(points + step) - distance(points - step) for step in steps], axis=1)
    return slopes / np.linalg.norm(slopes, axis=1, keepdims=True)


def _cube(half: float) -> Callable:
    half = 0.85 * half

    def distance(p: np.ndarray) -> np.ndarray:
        q = abs(p - [0, 0, half]) - half
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)

    return distance


def _cylinder(half: float) -> Callable:
    def distance(p: np.ndarray) -> np.ndarray:
        q = np.stack([np.hypot(p[:, 0], p[:, 1]) - 0.8 * half, abs(p[:, 2] - half) - half], axis=1)
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)

    return distance


def _sphere(half: float) -> Callable:
    return lambda p: np.linalg.norm(p - [0, 0, half], axis=1) - half


def _capsule(half: float) -> Callable:
    """A cylinder whose ends are half spheres."""
    radius = 0.6 * half

    def distance(p: np.ndarray) -> np.ndarray:
        q = p - [0, 0, radius]
        q[:, 2] -= np.clip(q[:, 2], 0, 1.2 * half)
        return np.linalg.norm(q, axis=1) - radius

    return distance


OBJECTS = {"cube": _cube, "cylinder": _cylinder, "sphere": _sphere, "capsule": _capsule}
