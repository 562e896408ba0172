"""Every method on images, found by itself: its command trains, resumes bit for bit, and exports for plain timm."""

import hashlib
import importlib
import json
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from small_runs import slow_where_like_others, small

import hf_replearn.pretraining.images as story
from hf_replearn.cli import COMMANDS
from hf_replearn.settings import run

MODULES = {
    command: importlib.import_module(f"hf_replearn.recipes.{module}")
    for command, (module, *_) in COMMANDS.items()
    if module
}
METHODS = [
    command for command, module in MODULES.items() if type(getattr(module, "METHOD", None)).__name__ == "ImageMethod"
]
pytestmark = pytest.mark.usefixtures("unshown")
STATES = [  # methods that keep something else then
    ("moco", "--version", "2", "--queue_size", "40"),
    ("dino", "--local_crops", "2", "--centring", "sinkhorn"),
]
RUNS = [(command,) for command in METHODS] + [run for run in STATES if run[0] in METHODS]
SHORT = ["--per_device_train_batch_size", "16", "--knn_steps", "0", "--learning_rate", "1e-3", "--use_cpu"]
SHORT += ["--draws", "2", "--max_steps", "3", "--save_steps", "2"]


def start(command: str, *arguments: str) -> int:
    """Runs it in this process, with a narrow head; returns its exit code."""
    settings = vars(MODULES[command])[COMMANDS[command][1]]
    arguments = [*SHORT, *small(command, settings), *arguments]
    try:
        run(MODULES[command].main, settings, arguments)
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of thirty images, of which a fifth is held out."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / label).mkdir()
        for number in range(30):
            pixels = rng.integers(0, 128, (16, 16, 3), dtype=np.uint8) + 127 * (label == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


def digest(out) -> str:
    return hashlib.sha256((out / "pretraining" / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("command", slow_where_like_others(RUNS), ids=" ".join)
def test_a_run_resumes_bit_for_bit_and_leaves_an_encoder_for_plain_timm(command, images, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    watched = ["--knn_steps", "1", "--dataset", str(images), "--output_dir", str(out)]
    assert start(*command, *watched) == 0, capsys.readouterr().err
    scores = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines() if "rankme" in line]
    assert [line["step"] for line in scores] == [0, 1, 2, 3]
    whole = digest(out)
    report = json.loads((out / "report.json").read_text())
    assert list(report["rows"])[0] == report["method"]["name"]
    method, usual = MODULES[command[0]].METHOD, {"augmentations.png", "neighbours.png", "curves.png"}
    assert (report["own_task"] is None) == (method.own_task is None)
    assert (report["figures"].keys() <= usual) == (method.pictures is None)  # none failed, which would be but a word
    asked = {line["asked"]: line for line in report["desiderata"]}
    name, shot = report["method"]["name"], report["rows"][report["method"]["name"]]["k_shot@8"]
    assert asked["few labels"]["values"] == {name: f"{shot:.3f}"}
    assert "random weights" in asked["sparsity"]["baseline"] and asked["clusters"]["baseline"] != "–"
    assert (asked["interpolation"]["values"][name] == "–") == (not hasattr(method.model_class, "codes"))
    encoder = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        features = encoder(torch.rand(2, *encoder.pretrained_cfg["input_size"]))
    assert features.shape == (2, 16) and features.isfinite().all()
    shutil.rmtree(out / "checkpoint-3")  # as if it had been killed after the second step
    shutil.rmtree(out / "pretraining")
    monkeypatch.setattr(story, "has_test_labels", lambda data: False)  # judged it was before
    monkeypatch.setattr(story, "show_own_task", lambda *args, **kwargs: None)
    assert start(*command, "--dataset", str(images), "--output_dir", str(out)) == 0, capsys.readouterr().err
    assert digest(out) == whole  # of one that was watched in every step


def no_classes(images, folder):
    shutil.copytree(images / "dark", folder)
    return []


def one_class(images, folder):
    shutil.copytree(images / "dark", folder)
    (folder / "metadata.csv").write_text("file_name,label\n" + "".join(f"{n}.png,dark\n" for n in range(30)))
    return []


def classes_that_are_ignored(images, folder):
    shutil.copytree(images, folder)
    return ["--label_type", "ignored"]


@pytest.mark.parametrize("command", [command for command in METHODS if MODULES[command].METHOD.needs_labels])
@pytest.mark.parametrize("prepare", [no_classes, one_class, classes_that_are_ignored])
def test_a_method_that_learns_from_labels_refuses_images_without(command, prepare, images, tmp_path, capsys):
    given = prepare(images, tmp_path / "images")
    assert start(command, "--dataset", str(tmp_path / "images"), "--output_dir", str(tmp_path / "run"), *given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "learns from the classes of the images" in error and "class folders" in error
    assert not list(tmp_path.glob("run/checkpoint-*"))
