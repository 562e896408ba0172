"""Every recipe on a GPU: it trains, goes on to the same bits after it was stopped, exports what it has, and is judged
there. `python -m pytest -m gpu` runs these; they need no download."""

import hashlib
import importlib
import json
import shutil

import pytest
import timm
import torch
from small_runs import small
from transformers import AutoModel

from hf_replearn import architectures
from hf_replearn.architectures import FLEX
from hf_replearn.cli import COMMANDS
from hf_replearn.settings import run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
STEPS = ["--max_steps", "20", "--save_steps", "10", "--full_determinism"]
IMAGES = ["--dataset", "toy", "--draws", "2", "--per_device_train_batch_size", "64", "--learning_rate", "1e-3"]
IMAGES += ["--knn_steps", "10"]
TEXTS = ["--dataset", "toy", "--size", "tiny", "--vocab_size", "1000", "--sequence_length", "32", "--eval_rows", "16"]


def recipe(command: str):
    module, settings, _ = COMMANDS[command]
    module = importlib.import_module(f"hf_replearn.recipes.{module}")
    return module, getattr(module, settings)


def of_kind(kind: str) -> list[str]:
    named = [command for command, (module, *_) in COMMANDS.items() if module]
    return [name for name in named if type(getattr(recipe(name)[0], "METHOD", None)).__name__ == kind]


def start(command: str, *arguments: str) -> None:
    module, settings = recipe(command)
    try:
        run(module.main, settings, list(arguments))
    except SystemExit as end:
        assert not end.code


def twice(command: str, out, *arguments: str) -> None:
    """Trains; then again from the middle, as if it had been killed there, to the same bits."""
    start(command, *arguments, *STEPS, "--output_dir", str(out))
    weights = out / "checkpoint-20" / "model.safetensors"
    whole = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert torch.cuda.get_device_name() in json.loads((out / "report.json").read_text())["training"]["hardware"]
    shutil.rmtree(out / "checkpoint-20")
    start(command, *arguments, *STEPS, "--output_dir", str(out))
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == whole


@pytest.mark.parametrize("command", of_kind("ImageMethod"))
def test_images(command, tmp_path):
    out = tmp_path / "run"
    twice(command, out, *IMAGES, *small(command, recipe(command)[1]))
    exported = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0).eval().cuda()
    with torch.no_grad():
        features = exported(torch.rand(2, *exported.pretrained_cfg["input_size"], device="cuda"))
    assert features.isfinite().all()
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert all(0 <= rows[row]["knn@20"] <= 1 for row in rows)


@pytest.mark.parametrize("form", [(), ("--torch_compile", "true"), ("--weights", "bfloat16")], ids=" ".join)
@pytest.mark.parametrize("command", of_kind("TextMethod"))
def test_texts(command, form, tmp_path):
    out = tmp_path / "run"
    twice(command, out, *TEXTS, *form)
    on_cpu = AutoModel.from_pretrained(out, dtype=torch.float32).eval()
    tokens = torch.randint(5, 900, (2, 16))
    with torch.no_grad():
        before = on_cpu(tokens).last_hidden_state
        after = on_cpu.cuda()(tokens.cuda()).last_hidden_state.cpu()
    assert torch.allclose(before, after, atol=1e-2)


@pytest.mark.parametrize("compiled", ["true", "false"])
@pytest.mark.parametrize(("command", "architecture"), [("masked-lm", "bert"), ("causal-lm", "qwen3")])
def test_documents_kept_apart_by_flex_attention(command, architecture, compiled, tmp_path):
    """Its loss on held-out text, which PyTorch's fused attention tells, is that of a run that knows nothing else."""
    losses = []
    for attention in (FLEX, ()):
        out = tmp_path / f"run{len(losses)}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(architectures, "FLEX", attention)
            given = [*TEXTS, "--architecture", architecture, "--packing", "documents", "--sequence_length", "512"]
            start(command, *given, *STEPS, "--torch_compile", compiled, "--output_dir", str(out))
        losses.append(json.loads((out / "report.json").read_text())["training"]["held_out"]["this model"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@pytest.mark.parametrize("command", of_kind("PixelMethod"))
def test_images_as_rows_of_colours(command, tmp_path):
    out = tmp_path / "run"
    twice(command, out, *IMAGES, "--image_size", "8", "--colours", "17", "--size", "tiny")
    features = AutoModel.from_pretrained(out).eval().cuda()(torch.randint(17, (2, 64), device="cuda"))
    assert features.last_hidden_state.isfinite().all()


def test_an_evaluation_on_the_device_is_that_of_the_cpu(tmp_path):
    out = tmp_path / "run"
    start("simclr", *IMAGES, *small("simclr", recipe("simclr")[1]), *STEPS, "--output_dir", str(out))
    found = {}
    for device in ("cuda", "cpu"):
        told = ["--use_cpu"] if device == "cpu" else []
        given = ["--model", str(out), "--dataset", "toy", "--suite", "quick", *told]
        start("evaluate", *given, "--output_dir", str(tmp_path / device))
        found[device] = next(iter(json.loads((tmp_path / device / "report.json").read_text())["rows"].values()))
    for metric, value in found["cpu"].items():
        if metric.startswith(("knn", "linear", "k_shot")):
            assert found["cuda"][metric] == pytest.approx(value, abs=0.02), metric
