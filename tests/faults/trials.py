"""Runs of the real recipes, small ones, each in processes of its own, and the blows they are dealt."""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import forked
import numpy as np
import pytest
from PIL import Image
from small_runs import unshown

from hf_replearn.cli import COMMANDS
from hf_replearn.settings import run

SETTINGS = {module: settings for module, settings, _ in COMMANDS.values() if module}
IMAGES = ("simclr", "byol", "moco", "dino")
PRETRAINING = ("simclr", "masked_lm", "causal_lm")
STEPS, SAVE_STEPS = 7, 2
COMMON = ["--use_cpu", "--bf16", "false", "--max_steps", str(STEPS), "--save_steps", str(SAVE_STEPS)]
COMMON += ["--per_device_train_batch_size", "8", "--logging_steps", "1", "--save_total_limit", "3"]
TEXT = ["--size", "tiny", "--vocab_size", "400", "--sequence_length", "32", "--eval_rows", "16", "--eval_steps", "3"]
TEXT += ["--dropout", "0.1", "--short_rows", "0.3"]
SIMCLR = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
SIMCLR += ["--image_size", "16", "--stem", "cifar", "--augmentation", "cifar", "--knn_steps", "0"]
SIMCLR += ["--optimizer", "adamw", "--learning_rate", "1e-3"]


def make_data(folder: Path) -> None:
    """Forty images and a page of text: an epoch is a few steps, so that seven steps end in the middle of one."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (18, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.png")
    (folder / "text").mkdir()
    words = rng.choice(["a", "the", "sea", "ship", "sails", "wind", "blows", "over", "far", "night"], (120, 12))
    lines = [" ".join(line) + "." for line in words]
    (folder / "text" / "train.txt").write_text("\n\n".join(lines[:90]))
    (folder / "text" / "validation.txt").write_text("\n\n".join(lines[90:]))


def arguments(recipe: str, data: Path, out: Path, *more: str) -> list[str]:
    own, kind = (SIMCLR, "images") if recipe in IMAGES else (TEXT, "text")
    return [*COMMON, *own, "--dataset", str(data / kind), "--output_dir", str(out), *more]


def start(recipe: str, given: list[str], log: Path, *, processes: int = 1, blow: Callable[[], None] | None = None):
    """Starts a recipe. blow: called in each process before the recipe, to prepare what will happen to it."""
    importlib.import_module("hf_replearn.training.trainer")  # before the fork: slow
    module = importlib.import_module(f"hf_replearn.recipes.{recipe}")

    def main() -> None:
        unshown(pytest.MonkeyPatch())
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may have changed it
        if blow is not None:
            blow()
        run(module.main, getattr(module, SETTINGS[recipe]), given)

    return forked.start(main, log, processes=processes)


def shards(*blows: Callable[[], None], **sizes: int) -> Callable[[], None]:
    """What the launcher tells a process by the profile fsdp2.yaml, or with sizes (dp_replicate=2, dp_shard=2) by
    hsdp.yaml; then other blows."""

    def blow() -> None:
        told = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
        told |= {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
        told |= {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"} if sizes else {}
        os.environ.update(told | {f"PARALLELISM_CONFIG_{name}_SIZE".upper(): str(n) for name, n in sizes.items()})
        for another in blows:
            another()

    return blow


def digest(out: Path) -> str:
    """Of all weights that a run leaves, bit by bit."""
    files = sorted(path for path in out.rglob("*.safetensors") if "checkpoint-" not in str(path.relative_to(out)))
    assert files, f"{out} holds no weights: {sorted(path.name for path in out.iterdir())}"
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: object, name: str, do: Callable[[], None], *, calls: int = 1, rank: int | None = None) -> None:
    """From now on `do()` follows the so manieth call of `owner.name`, in one rank or all."""
    _around(owner, name, lambda: None, do, calls, rank)


def before(owner: object, name: str, do: Callable[[], None], *, calls: int = 1, rank: int | None = None) -> None:
    _around(owner, name, do, lambda: None, calls, rank)


def _around(owner, name, first, last, calls, rank) -> None:
    inner, count = getattr(owner, name), 0

    def outer(*args, **kwargs):
        nonlocal count
        count += 1
        now = count == calls and rank in (None, int(os.environ.get("RANK", 0)))
        if now:
            first()
        result = inner(*args, **kwargs)
        if now:
            last()
        return result

    setattr(owner, name, outer)
