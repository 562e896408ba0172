"""Landscapes that the package draws."""

import io

import numpy as np
from PIL import Image

from hf_replearn.data.images import load_images


def test_scenes_are_in_colours_and_always_the_same(tmp_path):
    data, again = load_images("toy-scenes"), load_images("toy-scenes")
    assert (len(data.train), len(data.test)) == (1200, 300) and data.fingerprint == again.fingerprint
    assert data.label_names == ["desert", "meadow", "sea", "snow"] and data.common_size == (32, 32)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in data.test], dtype=int)
    meadow = pixels[75:150, 28].mean((0, 1))
    assert meadow.argmax() == 1  # green below
    assert len(np.unique(pixels.reshape(300, -1), axis=0)) == 300
