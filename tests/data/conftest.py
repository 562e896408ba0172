import datasets
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    """A cache of the test's own, and no Hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets_cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def put(tmp_path):
    """put("cat/a.png", level) saves a small grey image below tmp_path / "images", and returns that folder."""

    def put(name, level=0, size=(6, 4)):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size[::-1], level, np.uint8)).save(path)
        return tmp_path / "images"

    return put
