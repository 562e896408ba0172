"""A loss or gradient that is not finite stops the run within its step, before it reaches the weights."""

import json
import re

import pytest
import torch
import trials
from safetensors.torch import load_file
from trials import arguments, start

from hf_replearn.training.checkpoints import problem


def poison(*steps: int, value: float = float("nan"), rank: int = 0):
    """The loss of these steps (of this start, from 1) is multiplied by `value`, and with it the gradient."""

    def blow():
        import os

        from hf_replearn.training.trainer import PretrainingTrainer

        inner, count = PretrainingTrainer.compute_loss, 0

        def outer(self, model, inputs, return_outputs=False, **kwargs):
            nonlocal count
            count += 1
            loss, outputs = inner(self, model, inputs, return_outputs=True, **kwargs)
            bad = count in steps and int(os.environ.get("RANK", 0)) == rank
            loss = loss * value if bad else loss
            return (loss, outputs) if return_outputs else loss

        PretrainingTrainer.compute_loss = outer

    return blow


def all_finite(folder) -> bool:
    return all(value.isfinite().all() for path in folder.rglob("*.safetensors") for value in load_file(path).values())


OTHERS = [
    pytest.param(7, -1e39, marks=pytest.mark.slow),
    pytest.param(4, float("inf"), marks=pytest.mark.slow),
    pytest.param(5, float("nan"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("step", "value"), [(1, float("nan")), *OTHERS])
def test_the_run_stops_and_the_last_good_checkpoint_stays(step, value, whole, data, tmp_path):
    given = arguments("masked_lm", data, tmp_path / "out")
    stopped = start("masked_lm", given, tmp_path / "log", blow=poison(step, value=value))
    assert stopped.wait() == [1]
    error = stopped.printed().rpartition("error: ")[2]
    assert error.startswith(f"step {step}: the loss or its gradient is not finite (loss ")
    rows = [int(row) for row in re.search(r"Rows of its batch: ([\d, ]+)\.", error)[1].split(",")]
    assert len(set(rows)) == 8 and max(rows) < 60
    last = max((path for path in (tmp_path / "out").glob("checkpoint-*")), default=None)
    assert (last.name if last else None) == {1: None, 4: "checkpoint-2", 5: "checkpoint-4", 7: "checkpoint-6"}[step]
    assert last is None or (problem(last) is None and f"{last} is the last good checkpoint" in error)
    assert all_finite(tmp_path / "out")
    again = start("masked_lm", given, tmp_path / "log")  # whatever it was is mended
    assert again.wait() == [0]
    assert trials.digest(tmp_path / "out") == trials.digest(whole("masked_lm"))


def test_in_one_of_two_processes(data, tmp_path):
    given = arguments("masked_lm", data, tmp_path / "out", "--gradient_accumulation_steps", "2")
    stopped = start("masked_lm", given, tmp_path / "log", processes=2, blow=poison(6, rank=1))
    assert stopped.wait() == [1, 1]
    assert stopped.printed().count("error: step 3: the loss") == 1
    assert len(re.search(r"Rows of its batch: ([\d, ]+)\.", stopped.printed())[1].split(",")) == 8  # of 2 x 2 x 8


def test_steps_left_out(whole, data, tmp_path):
    """Also the running statistics of batch normalisation are as if the batch had never been."""
    given = arguments("simclr", data, tmp_path / "out", "--on_nonfinite", "skip")

    def blow():
        from hf_replearn.methods.collating import DataCollatorForViews

        inner, count = DataCollatorForViews.views, 0

        def outer(self, batch, place):
            nonlocal count
            count += 1  # the first are those of the trial before the training
            views = inner(self, batch, place)
            return {"pixel_values": views["pixel_values"] * float("nan")} if count == 4 else views

        DataCollatorForViews.views = outer

    left_out = start("simclr", given, tmp_path / "log", blow=blow)
    assert left_out.wait() == [0], left_out.printed()[-3000:]
    assert "It is left out, the 1. of at most 10" in left_out.printed()
    assert all_finite(tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "skipped_steps" in line] == [2]
    before, after = (load_file(tmp_path / "out" / f"checkpoint-{step}" / "model.safetensors") for step in (6, 7))
    assert any(not torch.equal(before[key], after[key]) for key in before)  # it went on to learn


def test_steps_left_out_have_a_cap_that_outlives_a_restart(data, tmp_path):
    given = arguments("masked_lm", data, tmp_path / "out", "--on_nonfinite", "skip", "--max_skipped", "2")
    capped = start("masked_lm", given, tmp_path / "log", blow=poison(1, 2, 5))
    assert capped.wait() == [1]
    assert "error: step 5: the loss" in capped.printed()
    again = start("masked_lm", given, tmp_path / "again", blow=poison(2))
    assert again.wait() == [1]
    assert "error: step 6: the loss" in again.printed()
