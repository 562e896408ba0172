"""`hf-replearn episodes`: a run leaves what it promises, goes on bit for bit after it was killed, and says in one line
what is wrong with its input."""

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import hf_replearn.sharing.results
from hf_replearn.methods.protonet import ProtoNetForPreTraining
from hf_replearn.recipes import episodes, export
from hf_replearn.settings import run

SMALL = ["--image_size", "16", "--use_cpu", "--bf16", "false", "--way", "3", "--queries", "2", "--max_steps", "4"]
SMALL += ["--backbone", "conv4", "--backbone_args", "{'width': 4}", "--save_steps", "2", "--logging_steps", "1"]
SMALL += ["--test_way", "3", "--test_queries", "2", "--test_episodes", "20"]
METHODS = list(episodes.KINDS)


def start(*arguments: str) -> int:
    try:
        run(episodes.main, episodes.EpisodesSettings, [*SMALL, *arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """Twelve classes of five images, each of its own colour."""
    folder, rng = tmp_path_factory.mktemp("letters"), np.random.default_rng(0)
    for name in "abcdefghijkl":
        (folder / name).mkdir()
        for number in range(5):
            pixels = rng.integers(0, 64, (16, 16, 3)) + rng.integers(0, 190, 3) * 0 + 15 * (ord(name) - 97)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(hf_replearn.sharing.results, "write_curves", lambda folder: False)


@pytest.fixture(scope="module")
def finished(letters, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "proto"
    assert start("--dataset", str(letters), "--turned", "true", "--jitter", "1", "--output_dir", str(out)) == 0
    return out


def test_a_run_leaves_an_encoder_its_report_and_pictures(finished):
    left = {path.name for path in finished.iterdir()}
    assert left >= {"config.json", "model.safetensors", "preprocessor_config.json", "pretraining", "README.md",
                    "report.json", "report.html", "log.jsonl", "recipe.yaml", "episodes.png", "checkpoint-4",
                    "classifier"}  # fmt: skip
    report = json.loads((finished / "report.json").read_text())
    assert list(report["rows"]) == ["ProtoNet", "random weights", "plain classifier", "raw pixels"]
    for scores in report["rows"].values():
        assert set(scores) == {f"nearest_mean{kind}@3w1s{end}" for kind in ("", "_cosine") for end in ("", "_ci95")}
        assert 0 <= scores["nearest_mean@3w1s"] <= 1
    assert report["training"]["examples"] == 4 * 3 * (1 + 2)
    assert (report["data"]["train"], report["data"]["test"]) == (45, 15)
    assert "3 of 12 classes, drawn at random" in report["data"]["held_out"]
    assert "nearest mean" in (finished / "README.md").read_text()


def test_the_encoder_loads_without_this_package(finished):
    from transformers import AutoImageProcessor, AutoModel

    encoder = AutoModel.from_pretrained(finished, trust_remote_code=True).eval()
    trained = ProtoNetForPreTraining.from_pretrained(finished, subfolder="pretraining").eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    pixels = AutoImageProcessor.from_pretrained(finished)(image, return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels, torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 - 1, atol=1e-6)
    with torch.no_grad():
        found = encoder(pixels).pooler_output
        assert found.shape == (1, 4) and torch.equal(found, trained.model(pixels).pooler_output)


def test_any_timm_backbone_is_trained_and_exported_for_plain_timm(letters, tmp_path):
    out = tmp_path / "resnet"
    arguments = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
    assert start("--dataset", str(letters), *arguments, "--beside", "false", "--output_dir", str(out)) == 0
    network = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0).eval()
    assert network(torch.rand(2, *network.pretrained_cfg["input_size"])).shape == (2, 16)


LIKE_OTHERS = ("fomaml", "anil")  # as MAML, with less of its gradient


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name for name in METHODS]
)
@pytest.mark.usefixtures("unshown")
def test_a_run_that_was_killed_goes_on_bit_for_bit(method, letters, tmp_path, capsys):
    out, arguments = tmp_path / "run", ["--dataset", str(letters), "--method", method, "--jitter", "1"]
    arguments += ["--beside", "false", "--output_dir", str(out)]
    arguments += ["--test_steps", "5"] if method == "reptile" else []  # of 50
    assert start(*arguments) == 0, capsys.readouterr().err
    whole = (out / "pretraining" / "model.safetensors").read_bytes()
    shutil.rmtree(out / "checkpoint-4")  # as if it had been killed after the third step
    shutil.rmtree(out / "pretraining")
    assert start(*arguments) == 0, capsys.readouterr().err
    assert (out / "pretraining" / "model.safetensors").read_bytes() == whole
    assert start(*arguments, "--shots", "2") == 2
    assert "belongs to another run, with" in capsys.readouterr().err


def test_the_encoder_of_a_checkpoint_is_exported(finished, tmp_path):
    given = ["--checkpoint", str(finished / "checkpoint-4"), "--output_dir", str(tmp_path / "new")]
    run(export.main, export.ExportSettings, given)
    assert (tmp_path / "new" / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_images_that_are_decoded_as_they_are_needed_train_the_same(letters, finished, tmp_path):
    out = tmp_path / "off"
    arguments = ["--turned", "true", "--jitter", "1", "--data_on_device", "off", "--beside", "false"]
    assert start("--dataset", str(letters), *arguments, "--output_dir", str(out)) == 0
    same = [(folder / "model.safetensors").read_bytes() for folder in (out, finished)]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--way", "10"], "--way 10: 'letters0' has 9 classes to draw episodes from: lower --way"),
        (["--shots", "4"], "have fewer images than the 6 that --test_shots 4 and --test_queries 2 take"),
        (["--test_way", "13"], "of the classes held out: --test_way 13"),
        (["--held_out", "z"], "--held_out 'z' is no class here"),
        (["--group_by", "alphabet"], "--group_by 'alphabet' does not exist"),
        (["--within_group", "true"], "--within_group is of classes in groups"),
        (["--way", "1"], "--way must be between 2 and 10000, got 1"),
        (["--backbone", "conv5"], "unknown backbone 'conv5'"),
        (["--image_size", "8"], "--image_size must be between 16"),
        (["--max_minutes", "1", "--warmup_steps", "5"], "a share of the run below 1"),
        (["--method", "matchingnet"], "matchingnet"),
        (["--dataset", "{}/a"], "has not one of several for each image"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, letters, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_replearn.training.trainer.PretrainingTrainer.training_step", None)
    given = ["--dataset", str(letters), "--output_dir", str(tmp_path / "out")]
    assert start(*given, *(argument.format(letters) for argument in arguments)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_without_classes_held_out_there_is_no_score(letters, tmp_path, capsys):
    out = tmp_path / "all"
    assert start("--dataset", str(letters), "--held_out", "0", "--beside", "false", "--output_dir", str(out)) == 0
    assert "No score was measured" in capsys.readouterr().out
    assert (out / "model.safetensors").exists()


def test_scores_and_a_picture_come_into_the_card(letters, finished, tmp_path, capsys):
    from hf_replearn.recipes import evaluation

    model = tmp_path / "model"
    shutil.copytree(finished, model)
    (model / "episodes.png").unlink()  # as of a run without classes held out
    given = ["--model", str(model), "--dataset", str(letters), "--held_out", "0.5", "--task", "episodes", "--way", "3"]
    given += ["--queries", "2", "--episodes", "20", "--use_cpu", "--add_to_card", "true"]
    run(evaluation.main, evaluation.EvaluateSettings, [*given, "--output_dir", str(tmp_path / "out")])
    report = json.loads((model / "report.json").read_text())
    [metric] = [
        name for name in report["rows"]["ProtoNet"] if name.startswith("nearest_mean_letters") and "ci" not in name
    ]
    assert metric.endswith("@3w1s") and (model / "episodes.png").exists()
    assert "as ProtoNet tells them" in report["figures"]["episodes.png"]
    assert "accuracy, nearest mean, 3 classes, 1 image each" in (model / "README.md").read_text()
