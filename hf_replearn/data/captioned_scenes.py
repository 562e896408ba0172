"""Scenes with captions, made here: two objects, and where one lies of the other. Some pairs of colour and shape are
only shown to test on."""

from __future__ import annotations

import io
import itertools

import datasets
import numpy as np
from PIL import Image

SIDE = 32  # pixels
COLOURS = {
    "red": (255, 0, 0), "green": (0, 178, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "purple": (153, 0, 204),
    "white": (255, 255, 255),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
RADII = {"small": 3.2, "large": 6.0}  # pixels
PLACES = {  # relation -> (x, y) of the first object and of the second
    "left of": ((8, 16), (24, 16)),
    "right of": ((24, 16), (8, 16)),
    "above": ((16, 8), (16, 24)),
    "below": ((16, 24), (16, 8)),
}
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
HELD_OUT = {("red", "circle"), ("blue", "square"), ("green", "cross")}
COUNTS = {  # name of the dataset -> scenes of each split
    "captioned-scenes": {"train": 30_000, "test": 1000, "unseen": 1000},
    "toy": {"train": 2000, "test": 300, "unseen": 300},
}


def captioned_scenes(name: str) -> datasets.DatasetDict:
    """32 x 32 pixels, in colours, each with one caption: "a small red cross left of a large blue circle".

    Two objects of 2 sizes, 6 colours and 4 shapes in 4 relations: 9,216 captions. Places are shaken by up to two pixels
    on a ground of grey noise. In `unseen` one object at least is of a pair of colour and shape that no scene of `train`
    and `test` has, though each colour and each shape is there in others. Within `test`, and within `unseen`, no two
    captions say the same, as "a above b" and "b below a" do; they may be in `train` too, of another scene.

    name: of COUNTS. Columns: `image` (PNG bytes) and `text`.
    """
    rng, splits = np.random.default_rng(0), {}
    features = datasets.Features(image=datasets.Image(decode=False), text=datasets.Value("string"))
    for split, count in COUNTS[name].items():
        scenes = _drawn(rng, count, unseen=split == "unseen", repeated=split == "train")
        rows = {"image": [_picture(rng, *scene) for scene in scenes], "text": [_caption(*scene) for scene in scenes]}
        splits[split] = datasets.Dataset.from_dict(rows, features=features)
    return datasets.DatasetDict(splits)


def _drawn(rng: np.random.Generator, count: int, *, unseen: bool, repeated: bool) -> list[tuple]:
    """(first object, second object, relation) of so many scenes, an object being (size, colour, shape)."""
    objects, relations = list(itertools.product(RADII, COLOURS, SHAPES)), list(PLACES)
    scenes, known = [], set()
    while len(scenes) < count:
        a, b, where = rng.integers(0, (len(objects), len(objects), len(relations)))
        scene = objects[a], objects[b], relations[where]
        held_out = any(thing[1:] in HELD_OUT for thing in scene[:2])
        if held_out == unseen and (repeated or scene not in known):
            known |= {scene, (scene[1], scene[0], INVERSE[scene[2]])}
            scenes.append(scene)
    return scenes


def _caption(first: tuple[str, str, str], second: tuple[str, str, str], relation: str) -> str:
    return f"a {' '.join(first)} {relation} a {' '.join(second)}"


def _picture(rng: np.random.Generator, first: tuple, second: tuple, relation: str) -> dict:
    """The bytes of a PNG file."""
    pixels = 255 * (rng.random((SIDE, SIDE, 3)) * 0.15 + 0.1)
    for (size, colour, shape), place in zip((first, second), PLACES[relation], strict=True):
        x, y = np.array(place) + rng.uniform(-2, 2, 2)
        pixels[_mask(shape, RADII[size], x, y)] = COLOURS[colour]
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def _mask(shape: str, radius: float, x: float, y: float) -> np.ndarray:
    """(SIDE, SIDE) bool: the pixels of a shape around a place."""
    row, column = np.mgrid[:SIDE, :SIDE]
    right, down = column - x, row - y
    if shape == "circle":
        return right**2 + down**2 <= radius**2
    if shape == "square":
        return np.maximum(abs(right), abs(down)) <= 0.9 * radius
    if shape == "triangle":
        return (down <= 0.9 * radius) & (down >= 2 * abs(right) - radius)
    near, far = np.minimum(abs(right), abs(down)), np.maximum(abs(right), abs(down))
    return (near <= 0.35 * radius) & (far <= radius)
