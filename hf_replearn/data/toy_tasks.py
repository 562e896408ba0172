"""Examples with several labels each, made here, to learn several tasks from."""

from __future__ import annotations

import datasets
import numpy as np
from datasets import ClassLabel, Value

from hf_replearn.data.decoding import picture_of
from hf_replearn.data.toy import digits, png
from hf_replearn.data.toy_questions import COLOURS, NAMES, NUMBERS, PLACES, THINGS

TOYS = {  # name of --tasks -> what it stands for
    "toy": ("first=toy-pairs#first", "second=toy-pairs#second"),
    "toy-texts": ("colour=toy-texts#colour", "number=toy-texts#number", "place=toy-texts#place"),
}
KEPT = {"colour": COLOURS[:4], "place": PLACES[:4]}


def pair_up(
    images: np.ndarray, labels: np.ndarray, *, shift: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two images in each of `count` pictures, and their labels: (count, H, W) uint8 and (count, 2).

    images: (N, H, W) uint8, light on black. The first lies at the top left, the second `shift` pixels further down and
    to the right; where both are, the lighter of the two counts; then the picture has the size of one again. So Sabour
    et al. 2017 made MultiMNIST of 36 x 36 pixels, which Sener & Koltun 2018 bring to 28 x 28.
    """
    from PIL import Image

    size = images.shape[1:]
    chosen = rng.integers(0, len(images), (count, 2))
    canvas = np.zeros((count, size[0] + shift, size[1] + shift), np.uint8)
    canvas[:, : size[0], : size[1]] = images[chosen[:, 0]]
    second = canvas[:, shift:, shift:]
    np.maximum(second, images[chosen[:, 1]], out=second)
    small = [np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.BILINEAR)) for one in canvas]
    return np.stack(small), labels[chosen]


def pairs(images: np.ndarray, labels: np.ndarray, names: list[str], **about) -> datasets.Dataset:
    """`pair_up` as a dataset with the columns `image`, `first` and `second`."""
    pictures, both = pair_up(images, labels, **about)
    label = ClassLabel(names=names)
    features = datasets.Features(image=datasets.Image(decode=False), first=label, second=label)
    columns = {"image": list(map(png, pictures)), "first": both[:, 0], "second": both[:, 1]}
    return datasets.Dataset.from_dict(columns, features=features)


def digit_pairs() -> datasets.DatasetDict:
    """Two of scikit-learn's digits in each picture of 16 x 16 pixels, 2,000 to train on and 500 to test on, of digits
    that are not among those to train on."""
    rng, found = np.random.default_rng(0), {}
    for split, rows in digits().items():
        images = np.stack([np.asarray(picture_of(row).convert("L")) for row in rows])
        found[split] = pairs(
            images.repeat(2, axis=1).repeat(2, axis=2), np.array(rows["label"][:]), [str(digit) for digit in range(10)],
            shift=4, count={"train": 2000, "test": 500}[split], rng=rng,
        )  # fmt: skip
    return datasets.DatasetDict(found)


def told_of_two() -> datasets.DatasetDict:
    """Texts of two people and what they keep, 1,200 to train on and 300 to test on: `colour`, `place` and `number` (a
    tenth of it) are those of the first. Who does not know the order of words cannot tell which of the two that is."""
    rng, found = np.random.default_rng(0), {}
    for split, count in {"train": 1200, "test": 300}.items():
        rows: dict[str, list] = {"text": [], "colour": [], "number": [], "place": []}
        for _ in range(count):
            people, things = rng.choice(NAMES, 2, replace=False), rng.choice(THINGS, 2, replace=False)
            numbers, colours, places = (rng.integers(0, top, 2) for top in (len(NUMBERS), 4, 4))
            told = [
                f"{people[i]} keeps {NUMBERS[numbers[i]]} {KEPT['colour'][colours[i]]} {things[i]} in "
                f"{KEPT['place'][places[i]]}."
                for i in range(2)
            ]
            for column, value in (("text", " ".join(told)), ("colour", colours[0]), ("place", places[0])):
                rows[column].append(value)
            rows["number"].append((numbers[0] + 2) / 10)
        classes = {name: ClassLabel(names=list(values)) for name, values in KEPT.items()}
        features = datasets.Features(text=Value("string"), number=Value("float64"), **classes)
        found[split] = datasets.Dataset.from_dict(rows, features=features)
    return datasets.DatasetDict(found)
