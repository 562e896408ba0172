"""Small data that needs no network."""

import io

import datasets
import numpy as np
from PIL import Image


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
                {"image": [_png(images[row]) for row in chosen], "label": labels[chosen]}, features=features
            )
            for split, chosen in zip(("train", "test"), rows, strict=True)
        }
    )


def prose() -> datasets.DatasetDict:
    """English prose that comes with Python: its own documentation topics (`help("…")`), paragraph by paragraph.

    Column `text`. About 300,000 characters; every tenth paragraph is held out as `validation`.
    """
    from pydoc_data.topics import topics

    blocks = [" ".join(block.split()) for name in sorted(topics) for block in topics[name].split("\n\n")]
    prose = [block for block in dict.fromkeys(blocks) if len(block) > 80]  # some stand in two topics
    parts = {"train": [text for i, text in enumerate(prose) if i % 10 != 9], "validation": prose[9::10]}
    return datasets.DatasetDict({name: datasets.Dataset.from_dict({"text": texts}) for name, texts in parts.items()})


def _png(pixels: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}
