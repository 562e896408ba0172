"""Checkpoints of other people's models, and a few texts and pictures."""

import numpy as np
import pytest
import transformers
from datasets import Dataset
from families import PICTURES, TEXTS, make_tokenizer, with_large_weights
from PIL import Image


@pytest.fixture(scope="session")
def models_of(tmp_path_factory):
    """Family -> the folder of its checkpoint, made when it is first asked for."""
    root = tmp_path_factory.mktemp("families")

    def folder(family):
        path = root / family
        if not path.exists():
            with_large_weights({**TEXTS, **PICTURES}[family]()).save_pretrained(path)
            make_tokenizer(path, decoder=family in ("gpt2", "llama"))
            if family in PICTURES:
                transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)
        return str(path)

    return folder


@pytest.fixture
def texts():
    return Dataset.from_dict(
        {"text": ["w7", "w1 w2 w3", "w9 w8 w7 w6 w5 w4 w3", "w1 w2 w3 w4 w5 w6 w7 w8 w9"], "label": [0, 1, 0, 1]}
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(root / f"{number}.png")
    files = [{"path": str(root / f"{number}.png"), "bytes": None} for number in range(3)]
    return Dataset.from_dict({"image": files, "label": [0, 1, 0]})
