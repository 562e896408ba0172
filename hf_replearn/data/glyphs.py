"""Glyphs: made-up letters of made-up alphabets, each written by several hands, drawn here. After Omniglot (Lake et al.
2015): many classes with few images each, for learning from few examples.

A letter is two to four strokes of a pen, quadratic curves whose three points lie on a grid. A hand moves these points a
little, tilts and stretches the letter, and has a pen of its own width. Dark ink on white, 28 x 28 pixels.
"""

from __future__ import annotations

import datasets
import numpy as np

from hf_replearn.data.sprites import png

SIZE, FINE = 28, 2  # pixels of an image in a row, and points in each of them
ALPHABETS = {"train": ("aru", "belin", "cyma", "dosk", "eltha", "foren", "gith", "holm"), "test": ("ystra", "zeph")}
LETTERS, HANDS, SEED = 10, 20, 0
STEPS = np.linspace(0, 1, 24)[:, None]  # of a curve


def glyphs() -> datasets.DatasetDict:
    """Ten letters of each of eight alphabets to train on and of two others to test on, each written by 20 hands.

    No letter of `test` is in `train`. Columns: `image` (PNG, grey), `label` (ClassLabel, such as "aru/3"), `alphabet`.
    """
    rng, known = np.random.default_rng(SEED), set()
    return datasets.DatasetDict({split: _alphabets(rng, names, known) for split, names in ALPHABETS.items()})


def _alphabets(rng: np.random.Generator, names: tuple[str, ...], known: set[bytes]) -> datasets.Dataset:
    """All letters of some alphabets. known: the letters that there are already, of which none comes again."""
    columns: dict[str, list] = {"image": [], "label": [], "alphabet": []}
    for name in names:
        for letter in range(LETTERS):
            strokes = _letter(rng, known)
            for _ in range(HANDS):
                columns["image"].append({"bytes": png(_written(rng, strokes)), "path": None})
                columns["label"].append(f"{name}/{letter}")
                columns["alphabet"].append(name)
    features = datasets.Features(
        image=datasets.Image(decode=False),
        label=datasets.ClassLabel(names=list(dict.fromkeys(columns["label"]))),
        alphabet=datasets.Value("string"),
    )
    return datasets.Dataset.from_dict(columns, features=features)


def _letter(rng: np.random.Generator, known: set[bytes]) -> np.ndarray:
    """A new letter: strokes (2 to 4, 3 points, 2) on a grid of 5 x 5 in -1…1. No stroke is a dot."""
    while True:
        strokes = rng.integers(-2, 3, (rng.integers(2, 5), 3, 2))
        long = np.linalg.norm(strokes[:, 2] - strokes[:, 0], axis=1) >= 2
        if long.all() and np.ptp(strokes.reshape(-1, 2), axis=0).min() >= 3 and strokes.tobytes() not in known:
            known.add(strokes.tobytes())
            return strokes / 2


def _written(rng: np.random.Generator, strokes: np.ndarray) -> np.ndarray:
    """(28, 28) uint8: a letter as one hand writes it once."""
    points = strokes + rng.normal(0, 0.13, strokes.shape)
    angle, (wide, high) = rng.normal(0, 0.12), rng.uniform(0.85, 1.15, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = points @ (turn * [wide, high]).T * 0.68 + rng.normal(0, 0.04, 2)
    first, middle, last = points[:, None, 0], points[:, None, 1], points[:, None, 2]
    ink = ((1 - STEPS) ** 2 * first + 2 * STEPS * (1 - STEPS) * middle + STEPS**2 * last).reshape(-1, 2)
    places = (np.arange(SIZE * FINE) + 0.5) / (SIZE * FINE) * 2 - 1
    away = (places[:, None, None] - ink[:, 1]) ** 2 + (places[None, :, None] - ink[:, 0]) ** 2
    distance = np.sqrt(away.min(axis=2))
    dark = np.clip((rng.uniform(0.075, 0.115) - distance) / 0.05 + 0.5, 0, 1)
    dark = dark.reshape(SIZE, FINE, SIZE, FINE).mean(axis=(1, 3))
    return np.rint(255 * (1 - dark)).astype(np.uint8)
