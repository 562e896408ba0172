"""Small data that needs no network."""

import io
import os
from collections.abc import Container

import datasets
import numpy as np
from datasets import Value
from PIL import Image

from hf_replearn.errors import InputError

# A file of sound as `datasets.Audio(decode=False)` has it, which needs another library even to pass it on.
AUDIO = {"bytes": Value("binary"), "path": Value("string")}


def is_made_here(dataset: object, names: Container[str]) -> bool:
    """Whether data of these names are meant, which this package makes. Raises InputError where a file or folder of
    that name lies here too, for either could be meant."""
    if not isinstance(dataset, str) or dataset not in names:
        return False
    if os.path.lexists(dataset):
        raise InputError(
            f"{dataset!r} is the name of data that this package makes, and lies here: say ./{dataset} for yours, or "
            "start from another place for the package's"
        )
    return True


def digits() -> datasets.DatasetDict:
    """The 1,797 handwritten digits embedded in scikit-learn (8 x 8 pixels, grey), 80 % train and 20 % test, stratified.

    Columns: `image` (PNG bytes; the 17 ink levels 0..16 spread over 0..255) and `label` (ClassLabel "0".."9").
    Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI, test part.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    rows = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    features = datasets.Features(
        image=datasets.Image(decode=False), label=datasets.ClassLabel(names=[str(digit) for digit in range(10)])
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"image": [png(images[row]) for row in chosen], "label": labels[chosen]}, features=features
            )
            for split, chosen in zip(("train", "test"), rows, strict=True)
        }
    )


def scenes() -> datasets.DatasetDict:
    """Landscapes of four kinds, 1,200 to train on and 300 to test on, drawn here: 32 x 32 pixels, in colours.

    What they show tells their colours, as in photographs: sky is blue, or red over the desert, grass has blades, sand
    has dunes, the sea has waves, snow is bright. Columns as of `digits`.
    """
    rng = np.random.default_rng(0)
    kinds = {  # colours of ground and sky, and the ground's pattern: its strength, and waves in a line and in a column
        "desert": ((205, 160, 95), (235, 170, 120), 22, (0.25, 0.5)),
        "meadow": ((80, 150, 60), (120, 175, 230), 30, (2.2, 0.3)),
        "sea": ((30, 90, 150), (150, 190, 235), 25, (0.6, 1.8)),
        "snow": ((228, 234, 242), (90, 120, 175), 8, (0.3, 0.2)),
    }
    parts = {"train": 300, "test": 75}
    found = {split: {"image": [], "label": []} for split in parts}
    for split, count in parts.items():
        for label, about in enumerate(kinds.values()):
            found[split]["image"] += [png(_landscape(rng, *about)) for _ in range(count)]
            found[split]["label"] += [label] * count
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.ClassLabel(names=list(kinds)))
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_dict(rows, features=features) for split, rows in found.items()}
    )


def _landscape(rng: np.random.Generator, ground, sky, strength: float, waves: tuple[float, float]) -> np.ndarray:
    """(32, 32, 3) uint8: sky, sun or moon, and ground with a pattern, no two alike."""
    row, column = np.mgrid[:32, :32]
    horizon = rng.integers(10, 20) + rng.uniform(0, 3) * np.sin(column * rng.uniform(0.1, 0.4) + rng.uniform(0, 6))
    phase = rng.uniform(0, 6, 2)
    pattern = strength * np.sin(waves[0] * column + phase[0]) * np.sin(waves[1] * row + phase[1])
    image = np.where((row > horizon)[..., None], np.add(ground, pattern[..., None]), np.add(sky, 2.0 * row[..., None]))
    disc = (row - rng.integers(3, 8)) ** 2 + (column - rng.integers(4, 28)) ** 2 < rng.uniform(2, 12)
    image[disc & (row < horizon)] = (250, 240, 190)
    image = image * rng.uniform(0.75, 1.1) + rng.normal(0, 3, (32, 32, 1))
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def tones() -> datasets.DatasetDict:
    """Sounds of six kinds, 600 to train on and 150 to test on, made here: 1 s at 8,000 Hz, 16 bits, in a little noise.

    A tone that rises, falls, swings (vibrato), beats (tremolo) or stays, and a band of noise; pitch, speed, strength
    and overtones are of each sound, and tell nothing of its kind. Rising and falling have the same spectrum on the
    whole: which it is, the order of its frames tells. Columns: `audio` (the bytes of a .wav file) and `label`.
    """
    rng, kinds = np.random.default_rng(0), ["falling", "noise", "rising", "steady", "tremolo", "vibrato"]
    features = datasets.Features(audio=AUDIO, label=datasets.ClassLabel(names=kinds))
    splits = {}
    for split, each in {"train": 100, "test": 25}.items():
        labels = np.tile(np.arange(len(kinds)), each)
        sounds = [{"bytes": _wav(_tone(rng, kinds[label])), "path": None} for label in labels]
        splits[split] = datasets.Dataset.from_dict({"audio": sounds, "label": labels}, features=features)
    return datasets.DatasetDict(splits)


def _tone(rng: np.random.Generator, kind: str, *, rate: int = 8000) -> np.ndarray:
    """(rate,) in -1...1: one second of a kind of sound."""
    time, (pitch, end) = np.arange(rate) / rate, np.sort(rng.uniform(200, 1000, 2) * [0.8, 1.4])
    speed, phase = rng.uniform(4, 9), rng.uniform(0, 2 * np.pi, 4)
    swing = np.sin(2 * np.pi * speed * time + phase[0])
    course = {
        "rising": pitch * (end / pitch) ** time,
        "falling": end * (pitch / end) ** time,
        "vibrato": pitch * (1 + 0.06 * swing),
    }
    angle = 2 * np.pi * np.cumsum(course.get(kind, np.full(rate, pitch))) / rate
    overtones = rng.uniform(0, 0.5, 2)
    wave = np.sin(angle + phase[1]) + sum(a * np.sin(n * angle + phase[n]) for n, a in enumerate(overtones, start=2))
    if kind == "noise":  # a band around the pitch
        spectrum = np.fft.rfft(rng.normal(size=rate))
        wave = np.fft.irfft(spectrum * np.exp(-0.5 * ((np.arange(len(spectrum)) - pitch) / 60) ** 2), rate)
    if kind == "tremolo":
        wave = wave * (0.55 + 0.45 * swing)
    wave = wave * rng.uniform(0.1, 0.5) / np.abs(wave).max()
    return wave + rng.normal(0, 0.003, rate)


def _wav(wave: np.ndarray, *, rate: int = 8000) -> bytes:
    from scipy.io import wavfile

    file = io.BytesIO()
    wavfile.write(file, rate, np.rint(wave.clip(-1, 1) * 32767).astype(np.int16))
    return file.getvalue()


def prose() -> datasets.DatasetDict:
    """English prose that comes with Python: its own documentation topics (`help("…")`), paragraph by paragraph.

    Column `text`. About 300,000 characters; every tenth paragraph is held out as `validation`.
    """
    from pydoc_data.topics import topics

    blocks = [" ".join(block.split()) for name in sorted(topics) for block in topics[name].split("\n\n")]
    prose = [block for block in dict.fromkeys(blocks) if len(block) > 80]  # some stand in two topics
    parts = {"train": [text for i, text in enumerate(prose) if i % 10 != 9], "validation": prose[9::10]}
    return datasets.DatasetDict({name: datasets.Dataset.from_dict({"text": texts}) for name, texts in parts.items()})


def png(pixels: np.ndarray) -> dict:
    """An image as `datasets.Image(decode=False)` has it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}
