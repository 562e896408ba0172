"""`export`: what a checkpoint holds, in the format of its encoder's library."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting.few_shot import Decoder
from hf_replearn.settings import run

TEXT = ["--dataset", "toy", "--size", "tiny", "--vocab_size", "400", "--sequence_length", "32", "--use_cpu"]
TEXT += ["--per_device_train_batch_size", "8", "--eval_rows", "8", "--bf16", "false"]
IMAGES = ["--dataset", "{images}", "--backbone", "test_resnet", "--image_size", "32", "--use_cpu", "--bf16", "false"]
IMAGES += [
    "--per_device_train_batch_size",
    "16",
    "--knn_steps",
    "0",
    "--draws",
    "3",
    "--shots",
    "1",
    "--stem",
    "imagenet",
]
RUNS = {
    "masked_lm": ("MaskedLMSettings", TEXT),
    "causal_lm": ("CausalLMSettings", TEXT),
    "simclr": ("SimCLRSettings", IMAGES),
}


def recipe(name: str, settings: str, arguments: list[str]) -> int:
    module = importlib.import_module(f"hf_replearn.recipes.{name}")
    try:
        run(module.main, getattr(module, settings), arguments)
    except SystemExit as end:
        return end.code
    return 0


def export(checkpoint: Path, out: Path) -> int:
    return recipe("export", "ExportSettings", ["--checkpoint", str(checkpoint), "--output_dir", str(out)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of two steps of each method, with a checkpoint of either."""
    folder, images = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("images")
    for number in range(16):
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(images / f"{number}.png")
    patch = pytest.MonkeyPatch()
    small_runs.unshown(patch)
    for name, (settings, arguments) in RUNS.items():
        more = ["--max_steps", "2", "--save_steps", "1", "--output_dir", str(folder / name)]
        assert recipe(name, settings, [argument.format(images=images) for argument in [*arguments, *more]]) == 0
    patch.undo()
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_the_last_checkpoint_is_what_the_run_left(name, runs, tmp_path):
    assert export(runs / name / "checkpoint-2", tmp_path / "last") == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "last", runs / name))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (tmp_path / "last" / "config.json").read_text() == (runs / name / "config.json").read_text()


def test_an_earlier_one_is_another_network(runs, tmp_path):
    assert export(runs / "masked_lm" / "checkpoint-1", tmp_path / "first") == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "first", runs / "masked_lm"))
    assert not all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_run_that_was_killed_leaves_what_can_be_used(runs, tmp_path):
    """Its folder has the checkpoints, its settings and its tokenizer."""
    killed = tmp_path / "killed"
    shutil.copytree(runs / "causal_lm", killed)
    for name in ("model.safetensors", "config.json", "report.json", "generation_config.json", "README.md"):
        (killed / name).unlink(missing_ok=True)
    assert export(killed / "checkpoint-1", tmp_path / "out") == 0
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tmp_path / "out"),
        AutoModelForCausalLM.from_pretrained(tmp_path / "out"),
    )
    assert model(**tokenizer("The value", return_tensors="pt", return_token_type_ids=False)).logits.isfinite().all()


def test_a_checkpoint_as_onnx_beside_its_native_files(runs, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    out, checkpoint = tmp_path / "out", str(runs / "simclr" / "checkpoint-2")
    arguments = ["--checkpoint", checkpoint, "--format", "onnx", "--output_dir", str(out)]
    assert recipe("export", "ExportSettings", arguments) == 0
    assert (out / "config.json").read_text() == (runs / "simclr" / "config.json").read_text()
    pixels = torch.randn(2, 3, 32, 32)
    [found] = onnxruntime.InferenceSession(str(out / "model.onnx")).run(None, {"pixel_values": pixels.numpy()})
    expected = AutoModel.from_pretrained(out).eval()(pixels).pooler_output.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_transformers_loads_what_was_exported(runs, tmp_path):
    assert export(runs / "simclr" / "checkpoint-1", tmp_path / "images") == 0
    assert AutoModel.from_pretrained(tmp_path / "images")(torch.zeros(1, 3, 32, 32)).pooler_output.isfinite().all()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nowhere", "there is no such folder"),
        ("masked_lm", "is the folder of a run: give one of its checkpoints"),
        ("damaged", "model.safetensors is damaged"),
        ("another", "is not a checkpoint that can be used: its save was cut short (no manifest.json)"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(what, message, runs, tmp_path, capsys):
    if what == "damaged":
        shutil.copytree(runs / "masked_lm" / "checkpoint-1", tmp_path / what)
        file = tmp_path / what / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)
    if what == "another":
        (tmp_path / what).mkdir()
    place = runs / what if what == "masked_lm" else tmp_path / what
    assert export(place, tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_file_is_overwritten(runs, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert export(runs / "masked_lm" / "checkpoint-1", tmp_path / "out") == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_longer_run_goes_on_from_a_finished_one(runs, tmp_path):
    """--max_steps larger, with --allow_change: the steps that were done are not done again."""
    out = tmp_path / "longer"
    shutil.copytree(runs / "causal_lm", out)
    before = load_file(out / "model.safetensors")
    more = [*TEXT, "--max_steps", "4", "--save_steps", "1", "--allow_change", "--output_dir", str(out)]
    assert recipe("causal_lm", "CausalLMSettings", more) == 0
    steps = [line.split(",")[0] for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == ['{"step": 1', '{"step": 2', '{"step": 4']
    assert (out / "checkpoint-4").is_dir()
    assert not all(torch.equal(before[key], value) for key, value in load_file(out / "model.safetensors").items())


@pytest.mark.parametrize(
    ("command", "settings", "arguments"),
    [
        ("evaluation", "EvaluateSettings", ["--model", "{}", "--dataset", "toy"]),
        ("finetune", "FinetuneSettings", ["--model", "{}", "--dataset", "toy"]),
        ("masked_lm", "MaskedLMSettings", ["--init", "{}", "--dataset", "toy"]),
        ("causal_lm", "CausalLMSettings", ["--init", "{}", "--dataset", "toy"]),
    ],
)
def test_commands_that_want_an_encoder_say_how_to_get_it(command, settings, arguments, runs, tmp_path, capsys):
    checkpoint = runs / "causal_lm" / "checkpoint-1"
    given = [argument.format(checkpoint) for argument in arguments]
    assert recipe(command, settings, [*given, "--use_cpu", "--output_dir", str(tmp_path / "out")]) == 2
    assert f"hf-replearn export --checkpoint {checkpoint}" in capsys.readouterr().err


def test_prompting_says_so_too(runs):
    checkpoint = runs / "causal_lm" / "checkpoint-1"
    with pytest.raises(InputError, match=f"hf-replearn export --checkpoint {checkpoint}"):
        Decoder.load(str(checkpoint), dtype="float32")
