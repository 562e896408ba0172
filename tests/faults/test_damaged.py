"""A damaged checkpoint is never used silently, and nothing in one is ever executed."""

import os

import pytest
import torch
import trials
from safetensors.torch import load_file

from hf_replearn.training.checkpoints import read_manifest, seal


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "manifest.json"]


def test_these_are_all_files_and_none_is_a_pickle_of_objects(whole):
    for recipe in trials.PRETRAINING:
        checkpoint = whole(recipe) / f"checkpoint-{trials.STEPS}"
        left = {path.name for path in checkpoint.iterdir()}
        code = {"configuration_simclr.py", "modeling_simclr.py", "trunk.py"}
        assert left - {"config.json", "generation_config.json"} - code == set(FILES)
        assert not list(whole(recipe).rglob("training_args.bin"))
        assert set(read_manifest(checkpoint)["files"]) == left - {"manifest.json"}


@pytest.mark.parametrize("file", FILES)
def test_one_bit(file, whole, copied, data, tmp_path):
    out = copied("masked_lm")
    flip(out / "checkpoint-6" / file)
    again = trials.start("masked_lm", trials.arguments("masked_lm", data, out), tmp_path / "log")
    assert again.wait() == [0], again.printed()[-3000:]
    assert f"checkpoint-6 is not used: {file} is damaged" in again.printed()
    assert (out / "damaged-checkpoint-6" / file).exists()
    assert trials.digest(out) == trials.digest(whole("masked_lm"))


def test_no_checkpoint_is_left(whole, copied, data, tmp_path):
    """The run begins anew, says so, and ends with the same bits."""
    out = copied("masked_lm")
    for checkpoint in out.glob("checkpoint-*"):
        os.truncate(checkpoint / "trainer_state.json", 10)
    again = trials.start("masked_lm", trials.arguments("masked_lm", data, out), tmp_path / "log")
    assert again.wait() == [0], again.printed()[-3000:]
    assert again.printed().count("is not used") == 2
    assert trials.digest(out) == trials.digest(whole("masked_lm"))


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_sealed_pickle_of_a_stranger_is_not_executed(file, whole, copied, data, tmp_path):
    out, trap = copied("causal_lm"), tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(trap),)

    evil, circumstances = Evil(), read_manifest(out / "checkpoint-6")["circumstances"]
    torch.save({"python": evil, "state": evil}, out / "checkpoint-6" / file)
    seal(out / "checkpoint-6", circumstances)
    opened = trials.start("causal_lm", trials.arguments("causal_lm", data, out), tmp_path / "log")
    assert opened.wait() == [1]
    assert "weights_only" in opened.printed() or "Unsupported" in opened.printed()
    assert not trap.exists()
    torch.load(out / "checkpoint-6" / file, weights_only=False)  # what the trap would have done
    assert trap.exists()


def test_the_result_is_finite_and_differs_from_the_start(whole):
    weights = load_file(whole("causal_lm") / "model.safetensors")
    first = load_file(whole("causal_lm") / "checkpoint-6" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    assert any(not torch.equal(value, first[f"model.{key}"]) for key, value in weights.items())
