"""Examples as a page shows them, and those that are nearest to one another."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from hf_replearn.data.decoding import picture_of
from hf_replearn.data.sounds import read_wave
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.retrieval import neighbours
from hf_replearn.representation import Features

QUERIES, NEIGHBOURS = 6, 6
SIDE = 48  # pixels of a picture, at most


def drawn_queries(rows: int, *, seed: int) -> list[int]:
    """Some rows, the same for every encoder."""
    return np.random.default_rng(seed).permutation(rows)[:QUERIES].tolist()


def nearest_examples(
    features: Features, rows, queries: Sequence[int], names: Sequence[str] | None, *, side: int = SIDE
) -> list[list[dict]]:
    """The nearest neighbours of each query among the other rows, as `shown`. Raises InputError for NaN."""
    check_finite(features.x, "test")
    nearest = neighbours(features, features.x[list(queries)], k=NEIGHBOURS + 1).tolist()
    others = [[key for key in keys if key != query][:NEIGHBOURS] for query, keys in zip(queries, nearest, strict=True)]
    return [[shown(rows[key], names, side=side) for key in keys] for keys in others]


def shown(example: dict, names: Sequence[str] | None, *, side: int = SIDE) -> dict[str, str]:
    """A row of a dataset as a page shows it: a small picture, of a sound its spectrum over time, or the
    beginning of a text, and its class, "" without one.

    names: of the classes, by number; None: no classes.
    """
    label = "" if names is None else names[example["label"]]
    if "image" not in example and "audio" not in example:
        text = " / ".join(example[name] for name in ("text", "text_pair") if name in example)
        return {"text": text if len(text) <= 140 else text[:139] + "…", "label": label}
    image = spectrum_of(read_wave(example["audio"])) if "audio" in example else picture_of(example)
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return {"image": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", "label": label}


def spectrum_of(wave: np.ndarray) -> Image.Image:
    """The power (decibels, 60 from black to white) of the frequencies of a sound (T,), low ones below, over time."""
    size = min(256, len(wave))
    starts = np.linspace(0, len(wave) - size, 2 * SIDE).astype(int)
    frames = np.stack([wave[start : start + size] for start in starts]) * np.hanning(size)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames)).T[::-1] + 1e-6)  # (frequencies, 2 SIDE)
    return Image.fromarray((255 * (1 + (power - power.max()) / 60).clip(0, 1)).astype(np.uint8))
