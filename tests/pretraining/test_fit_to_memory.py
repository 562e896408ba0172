"""`--per_device_train_batch_size auto`: the number is found, written down, and kept by a run that goes on."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from hf_replearn.errors import InputError
from hf_replearn.pretraining.memory import _sizes, fit_to_memory
from hf_replearn.settings import run
from hf_replearn.training import memory
from hf_replearn.training.sharding import Layout

IMAGES = ["--backbone", "test_resnet", "--image_size", "32", "--stem", "imagenet", "--knn_steps", "0", "--draws", "2"]
IMAGES += ["--shots", "1"]
TEXTS = ["--size", "tiny", "--vocab_size", "400", "--sequence_length", "32", "--eval_rows", "8"]
ROOMS = {"simclr": (2e7, 1e9), "masked_lm": (5e7, 1e9)}  # bytes; more when the run is started again
MOST = {"simclr": 64, "masked_lm": 512}  # with the memory of the second start
RUNS = {"simclr": ("SimCLRSettings", IMAGES), "masked_lm": ("MaskedLMSettings", TEXTS)}


@pytest.mark.parametrize("name", RUNS)
def test_the_number_is_written_down_and_kept(name, tmp_path, monkeypatch, capsys):
    """Images without labels, which nothing is judged on."""
    images, rng, dataset = tmp_path / "images", np.random.default_rng(0), "toy"
    if name == "simclr":
        images.mkdir()
        for number in range(70):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(images / f"{number}.png")
        dataset = str(images)
    settings, arguments = RUNS[name]
    recipe = importlib.import_module(f"hf_replearn.recipes.{name}")
    more = ["--dataset", dataset, "--use_cpu", "--bf16", "false", "--max_steps", "1"]
    more += ["--output_dir", str(tmp_path / "out")]
    found = []
    for room in ROOMS[name]:
        monkeypatch.setattr(memory, "available_memory", lambda room=room: room)
        capsys.readouterr()
        run(recipe.main, getattr(recipe, settings), [*more, *arguments, "--per_device_train_batch_size", "auto"])
        found.append(yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["per_device_train_batch_size"])
    assert 1 <= found[0] < MOST[name] and found[0] == found[1]
    assert "that memory and the data allow" not in capsys.readouterr().out


def test_batches_are_of_the_data_and_divide_the_loss():
    assert _sizes(range(100), 1, least=2, together=None) == [2, 4, 8, 16, 32, 64]
    assert _sizes(range(100), 3, least=2, together=None) == [2, 4, 8, 16, 32]
    assert _sizes(range(100), 1, least=2, together=96) == [2, 4, 8, 16, 32]
    assert max(_sizes(iter(()), 2, least=1, together=None)) == 4096
    with pytest.raises(InputError, match="auto: no power of two of examples"):
        _sizes(range(100), 1, least=2, together=33)


def test_a_share_of_the_weights_cannot_be_counted(monkeypatch):
    settings = importlib.import_module("hf_replearn.recipes.masked_lm").MaskedLMSettings(
        dataset="toy", output_dir="out", per_device_train_batch_size="auto"
    )
    monkeypatch.setattr("hf_replearn.pretraining.memory.asked_layout", lambda processes: Layout(shards=processes))
    with pytest.raises(InputError, match="auto counts all weights for each GPU"):
        fit_to_memory(settings, SimpleNamespace(world_size=2), None, None, [], least=1)
