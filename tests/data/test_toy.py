import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from hf_replearn.data.toy import digits


def test_digits_are_scikit_learns_in_80_20_by_class():
    splits = digits()
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 1437, "test": 360}
    counts = {split: np.bincount(rows["label"][:]) for split, rows in splits.items()}
    assert (np.abs(counts["test"] / (counts["test"] + counts["train"]) - 0.2) < 0.01).all()
    assert splits["train"].features["label"].names == list("0123456789")

    pixels, labels = load_digits(return_X_y=True)
    ours = {
        (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).tobytes(), row["label"])
        for rows in splits.values()
        for row in rows
    }
    theirs = {
        (np.rint(image.reshape(8, 8) / 16 * 255).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(pixels, labels, strict=True)
    }
    assert ours == theirs


def test_digits_are_the_same_every_time():
    assert digits()["test"][:] == digits()["test"][:]
