"""Runs whose weights are in parts (FSDP2): they cannot be lost, go on in other parts, and leave what others leave."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trials
from PIL import Image
from safetensors.torch import load_file
from test_damaged import flip
from test_not_finite import poison
from transformers import BertConfig, GPT2Config
from trials import after, arguments, die, shards, start

from hf_replearn.methods.causal_lm import CausalLMConfig, CausalLMForPreTraining
from hf_replearn.methods.masked_lm import MaskedLMConfig, MaskedLMForPreTraining
from hf_replearn.training.checkpoints import problem

ROOT = Path(__file__).parents[2]


def killed():
    """After step 6, before it is saved: the checkpoint of step 4 is sealed, which is done beside the training."""
    from hf_replearn.training.trainer import PretrainingTrainer

    after(PretrainingTrainer, "_finish_sealing", die, calls=3)


def exits(started, *codes: int) -> None:
    assert started.wait() == list(codes), started.printed()[-3000:]


@pytest.mark.parametrize(
    "recipe", ["masked_lm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("byol", "causal_lm", "moco"))]
)
def test_killed_and_a_part_damaged(recipe, whole, data, tmp_path):
    """The run goes on from the checkpoint before, and ends with the same bits."""
    given = arguments(recipe, data, tmp_path / "out")
    exits(start(recipe, given, tmp_path / "log", processes=2, blow=shards(killed)), -9, -9)
    part = next((tmp_path / "out" / "checkpoint-4" / "optimizer").glob("shard-00002-*"))
    flip(part)
    again = start(recipe, given, tmp_path / "again", processes=2, blow=shards())
    exits(again, 0, 0)
    assert f"checkpoint-4 is not used: optimizer/{part.name} is damaged" in again.printed()
    assert trials.digest(tmp_path / "out") == trials.digest(whole(recipe, processes=2, sharded=True))


@pytest.mark.slow
def test_a_run_in_parts_is_the_run_of_two_processes(whole, tmp_path):
    """Whose gradients are the same sums in another order; and its files are safetensors and no pickle of objects."""
    parts, copies = (load_file(whole("simclr", processes=2, sharded=s) / "model.safetensors") for s in (True, False))
    assert parts.keys() == copies.keys()
    for name, tensor in copies.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
    out = whole("simclr", processes=2, sharded=True)
    names = {path.name for path in (out / "checkpoint-7").rglob("*") if path.is_file()}
    shard = {f"shard-0000{n}-model-00001-of-00001.safetensors" for n in (1, 2)}
    others = {"config.json", "configuration_simclr.py", "manifest.json", "trainer_state.json", "scheduler.pt"}
    assert names == shard | others | {"rng_state_0.pth", "rng_state_1.pth"}
    from hf_replearn.recipes.export import ExportSettings, main

    main(ExportSettings(checkpoint=str(out / "checkpoint-7"), output_dir=str(tmp_path / "exported")))
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    assert all(torch.equal(tensor, parts[name]) for name, tensor in exported.items())


@pytest.mark.slow
def test_other_parts(whole, data, tmp_path):
    """Of two shards a run is refused in one line what was not said to be allowed: then it
    goes on without shards, and with them again."""
    out = tmp_path / "out"
    shutil.copytree(whole("masked_lm", processes=2, sharded=True), out)
    refused = start("masked_lm", arguments("masked_lm", data, out), tmp_path / "log")
    exits(refused, 2)
    assert "processes 2 instead of 1, sharding '2 shards' instead of 'none'" in refused.printed()
    assert refused.printed().strip().splitlines()[-1].startswith("error: ")
    given = arguments("masked_lm", data, out, "--max_steps", "8", "--allow_change")
    alone = start("masked_lm", given, tmp_path / "alone")
    exits(alone, 0)
    assert problem(out / "checkpoint-8") is None and (out / "checkpoint-8" / "optimizer.pt").exists()
    parts = start("masked_lm", [*given, "--max_steps", "9"], tmp_path / "parts", processes=2, blow=shards())
    exits(parts, 0, 0)
    assert (out / "checkpoint-9" / "weights").is_dir()


@pytest.mark.slow
def test_four_parts_go_on_as_two(data, tmp_path):
    given = arguments("causal_lm", data, tmp_path / "out")
    sizes = {"dp_replicate": 2, "dp_shard": 2}
    exits(start("causal_lm", given, tmp_path / "log", processes=4, blow=shards(killed, **sizes)), *[-9] * 4)
    refused = start("causal_lm", given, tmp_path / "refused", processes=2, blow=shards())
    assert 2 in refused.wait()
    assert "processes 4 instead of 2, sharding '2 x 2 shards' instead of '2 shards'" in refused.printed()
    allowed = [*given, "--allow_change"]
    exits(start("causal_lm", allowed, tmp_path / "allowed", processes=2, blow=shards()), 0, 0)
    steps = [json.loads(line)["step"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, 8))


def test_a_folder_that_one_process_does_not_see(data, tmp_path):
    """As on two machines without a common disk: a part of each checkpoint would be lost."""

    def elsewhere():
        if os.environ["RANK"] == "1":
            (tmp_path / "elsewhere").mkdir()
            os.chdir(tmp_path / "elsewhere")
        else:
            os.chdir(tmp_path)

    given = arguments("masked_lm", data, Path("out"))
    refused = start("masked_lm", given, tmp_path / "log", processes=2, blow=shards(elsewhere))
    exits(refused, 2, 2)
    assert "error: --output_dir out: 1 of 2 processes do not see this folder" in refused.printed()
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_loss_that_is_not_finite_in_one_part(data, tmp_path):
    """The step is left out in all parts alike; it would be the end without leave for it."""
    given = arguments("masked_lm", data, tmp_path / "out", "--on_nonfinite", "skip", "--max_skipped", "1")
    stopped = start("masked_lm", given, tmp_path / "log", processes=2, blow=shards(poison(3, 5, rank=1)))
    exits(stopped, 1, 1)
    assert "It is left out, the 1. of at most 1" in stopped.printed()
    assert stopped.printed().count("error: step 5: the loss") == 1
    assert problem(tmp_path / "out" / "checkpoint-4") is None


def test_scores_on_the_way(data, tmp_path):
    """All processes compute them, as each has a part of the weights: they are those of a run that is not in parts."""
    folder, rng = tmp_path / "images", np.random.default_rng(0)
    for number in range(48):
        path = folder / ("test" if number % 3 == 0 else "train") / f"class_{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 200, (16, 16, 3)) + 55 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    scores = {}
    for kind, blow in (("copies", None), ("parts", shards())):
        out = tmp_path / kind
        given = arguments("simclr", data, out, "--knn_steps", "2", "--draws", "2", "--max_steps", "4")
        given[given.index("--dataset") + 1] = str(folder)
        exits(start("simclr", given, tmp_path / f"{kind}.log", processes=2, blow=blow), 0, 0)
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        scores[kind] = [(line["step"], line["knn@20"], line["rankme"]) for line in lines if "rankme" in line]
    assert [step for step, *_ in scores["parts"]] == [0, 2, 4]
    np.testing.assert_allclose(scores["parts"], scores["copies"], rtol=1e-3)


@pytest.mark.slow
def test_the_profile_on_a_machine_without_gpus(data, tmp_path):
    """accelerate alone would give each process all weights, and say nothing."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/fsdp2.yaml"]
    command += ["--num_processes", "2", "--main_process_port", "0", "recipes/masked_lm.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    given = arguments("masked_lm", data, tmp_path / "out", "--max_steps", "2")
    run = subprocess.run([*command, *given], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    parts = sorted((tmp_path / "out" / "checkpoint-2" / "weights").iterdir())
    assert len(parts) == 2
    for part in parts:
        assert all(tensor.numel() < 400 * 128 for tensor in load_file(part).values())


SIZE = {"vocab_size": 64, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    tokens = torch.randint(0, 64, (3, 16))
    if kind == "masked":
        model = MaskedLMForPreTraining(MaskedLMConfig(encoder=BertConfig(**SIZE, hidden_dropout_prob=0.0)))
        positions = torch.arange(4).repeat(3, 1)
        batch = {"input_ids": tokens, "positions": positions, "labels": tokens[:, :4]}
    else:
        config = GPT2Config(vocab_size=64, n_layer=2, n_embd=32, n_head=2, n_positions=16)
        model = CausalLMForPreTraining(CausalLMConfig(decoder=config))
        batch = {"input_ids": tokens, "labels": tokens}
    model.train()

    def gradients():
        model.zero_grad()
        torch.manual_seed(0)
        model(**batch).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients()
    model.model.gradient_checkpointing_enable()
    assert model.model.is_gradient_checkpointing
    calls = 0
    layer = next(module for name, module in model.named_modules() if name.endswith((".layer.0", ".h.0")))

    def counted(*_):
        nonlocal calls
        calls += 1

    next(module for module in layer.modules() if not list(module.children())).register_forward_pre_hook(counted)
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert calls == 2  # forwards, and again for the backward pass
