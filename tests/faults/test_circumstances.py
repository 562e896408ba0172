"""No room, another folder's owner, other data, another world: said before the first step, never passed over."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trials
from trials import after, arguments, start

from hf_replearn.training.checkpoints import problem

ROOT = Path(__file__).parents[2]


def limit(size: int) -> None:
    """No file of this process may grow beyond `size` bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_no_room_is_found_out_before_the_first_step(data, tmp_path):
    given = arguments("masked_lm", data, tmp_path / "out")
    refused = start("masked_lm", given, tmp_path / "log", blow=lambda: limit(1_000_000))
    assert refused.wait() == [2], refused.printed()[-3000:]
    assert "MB (" in refused.printed() and "a file may have 1.00 MB at most" in refused.printed()
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_the_disk_fills_up_on_the_way(whole, data, tmp_path):
    def blow():
        from hf_replearn.training.trainer import PretrainingTrainer

        after(PretrainingTrainer, "training_step", lambda: limit(1_000_000), calls=5)

    given = arguments("masked_lm", data, tmp_path / "out")
    full = start("masked_lm", given, tmp_path / "log", blow=blow)
    assert full.wait() == [1]
    assert "checkpoint-6 could not be written" in full.printed()
    assert f"{tmp_path / 'out' / 'checkpoint-4'} is the last good checkpoint" in full.printed()
    assert problem(tmp_path / "out" / "checkpoint-4") is None
    again = start("masked_lm", given, tmp_path / "again")
    assert again.wait() == [0], again.printed()[-3000:]
    assert trials.digest(tmp_path / "out") == trials.digest(whole("masked_lm"))


@pytest.mark.parametrize(
    ("recipe", "more", "message"),
    [
        ("masked_lm", ["--per_device_train_batch_size", "4"], "per_device_train_batch_size 8 instead of 4"),
        pytest.param("masked_lm", ["--max_steps", "9"], "max_steps 7 instead of 9", marks=pytest.mark.slow),
        pytest.param(
            "masked_lm",
            ["--gradient_accumulation_steps", "2"],
            "gradient_accumulation_steps 1 instead of 2",
            marks=pytest.mark.slow,
        ),
        ("simclr", ["--temperature", "0.2"], "temperature 0.5 instead of 0.2"),
    ],
)
def test_other_settings_are_refused_or_allowed(recipe, more, message, copied, data, tmp_path):
    out = copied(recipe)
    given = arguments(recipe, data, out, *more)
    refused = start(recipe, given, tmp_path / "log")
    assert refused.wait() == [2]
    assert message in refused.printed() and "--allow_change" in refused.printed()
    allowed = start(recipe, [*given, "--allow_change"], tmp_path / "again")
    assert allowed.wait() == [0], allowed.printed()[-3000:]
    assert f"{message}: it goes on, as --allow_change says" in allowed.printed()


@pytest.mark.parametrize("recipe", ["simclr", "causal_lm"])
def test_other_data_are_refused(recipe, copied, data, tmp_path):
    """Under the same name: one image or one word is another."""
    out = copied(recipe)
    given = arguments(recipe, data, out)
    kept = tmp_path / "kept"
    shutil.copytree(data, kept)
    try:
        if recipe == "simclr":
            shutil.copy(data / "images" / "01.png", data / "images" / "02.png")
        else:
            text = data / "text" / "train.txt"
            text.write_text(text.read_text().replace("ship", "sail", 1))
        refused = start(recipe, given, tmp_path / "log")
        assert refused.wait() == [2], refused.printed()[-3000:]
        assert f"{out}/checkpoint-6 is from another run, with data '" in refused.printed()
    finally:
        shutil.rmtree(data)
        shutil.copytree(kept, data)


def test_another_number_of_processes_is_refused(copied, data, tmp_path):
    given = arguments("masked_lm", data, copied("masked_lm"))
    refused = start("masked_lm", given, tmp_path / "log", processes=2)
    assert 2 in refused.wait()
    assert "processes 1 instead of 2" in refused.printed()


def test_fewer_processes_than_asked_for_are_refused(data, tmp_path):
    """This form starts a single process on the CPU, and says nothing."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "recipes/masked_lm.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    launched = subprocess.run(
        [*command, *arguments("masked_lm", data, tmp_path / "out")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert "error: 2 processes were asked for, but 1 would train together" in launched.stderr
    assert "exit status 2" in launched.stderr  # of the recipe; accelerate itself ends with 1
    assert not (tmp_path / "out" / "log.jsonl").exists()
