"""`evaluate` of encoders of images and texts: retrieval and zero-shot, beside baselines, on the page and the card."""

import json
import re
import shutil

import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from hf_replearn.data.captioned_scenes import captioned_scenes
from hf_replearn.data.tokenization import train_tokenizer
from hf_replearn.recipes.evaluation import EvaluateSettings, main
from hf_replearn.settings import run

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def evaluate(*arguments: str) -> int:
    try:
        run(main, EvaluateSettings, [*arguments, "--use_cpu"])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """CLIP of transformers from random weights."""
    folder = tmp_path_factory.mktemp("clip") / "clip"
    torch.manual_seed(0)
    tokenizer = train_tokenizer("clip", ["a photo of a small red cross", "a drawing of 0 1 2 3"], vocab_size=300)
    text = SMALL | {"vocab_size": 300, "max_position_embeddings": 48, "eos_token_id": tokenizer.eos_token_id}
    vision = SMALL | {"image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    size = {"crop_size": {"height": 16, "width": 16}, "size": {"shortest_edge": 16}}
    tokenizer.model_max_length = 48
    CLIPProcessor(CLIPImageProcessor(**size), tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, scenes = tmp_path_factory.mktemp("pairs"), captioned_scenes("toy")
    scenes["train"].select(range(30)).to_parquet(folder / "train.parquet")
    scenes["test"].select(range(24)).to_parquet(folder / "test.parquet")
    return str(folder)


def test_captions_and_images_find_one_another_beside_baselines(clip, pairs, tmp_path):
    out = tmp_path / "found"
    assert evaluate("--model", clip, "--dataset", pairs, "--task", "retrieval", "--output_dir", str(out)) == 0
    report = json.loads((out / "report.json").read_text())
    assert list(report["rows"]) == [clip, "random weights", "linear map of pixels to words", "chance"]
    assert report["rows"]["chance"]["image_of_text@1"] == pytest.approx(1 / 24)
    assert 0 <= report["rows"][clip]["swapped_objects"] <= 1
    assert {test["other"] for test in report["comparisons"]} == {"random weights", "linear map of pixels to words"}
    assert (
        "24 captions" in report["protocols"]["text_of_image"]
        and "the split 'test'" in report["protocols"]["text_of_image"]
    )
    assert (out / "found.png").exists() and "data:image/png" in (out / "report.html").read_text()


def test_classes_are_told_by_their_names_beside_baselines(clip, tmp_path):
    out = tmp_path / "zero"
    prompts = ["--zero_shot", "a photo of a {}", "a drawing of {}"]
    arguments = ["--dataset", "toy", *prompts, "--test_examples", "60", "--output_dir", str(out)]
    assert evaluate("--model", clip, *arguments) == 0
    report = json.loads((out / "report.json").read_text())
    alone = ["“a photo of a {}” alone", "“a drawing of {}” alone", "names alone", "names shuffled"]
    assert list(report["rows"]) == [clip, *alone, "random weights", "largest class"]
    assert "mean of the vectors of 2 prompts, “a photo of a {}”, “a drawing of {}”" in report["protocols"]["zero_shot"]
    assert "60 of 360 test examples" in report["protocols"]["zero_shot"]
    table = torch.tensor(report["confusion"][clip])
    assert table.sum() == 60
    assert table.diagonal().sum() / 60 == pytest.approx(report["rows"][clip]["zero_shot"])
    assert (out / "similarity.png").exists()


def test_without_baselines_there_are_the_models_and_chance_alone(clip, pairs, tmp_path):
    arguments = ["--dataset", pairs, "--task", "retrieval", "--baselines", "false", "--output_dir", str(tmp_path / "a")]
    assert evaluate("--model", clip, *arguments) == 0
    assert list(json.loads((tmp_path / "a" / "report.json").read_text())["rows"]) == [clip, "chance"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--zero_shot", "a photo"], "--zero_shot 'a photo' must have one {}"),
        (
            ["--zero_shot", "a {}", "--task", "retrieval"],
            "--zero_shot and --task retrieval are judged one after the oth",
        ),
        (["--zero_shot", "a {}", "--pooling", "cls"], "--pooling has no meaning with --zero_shot: leave it out"),
        (["--task", "retrieval", "--shots", "1"], "--shots has no meaning with --task retrieval"),
        (["--task", "retrieval", "--dataset", "nothing/here/"], "there is no folder or file 'nothing/here/'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, told, clip, tmp_path, capsys):
    assert evaluate("--model", clip, "--dataset", "toy", "--output_dir", str(tmp_path / "out"), *arguments) == 2
    assert re.search(re.escape(told), capsys.readouterr().err.splitlines()[-1])


def test_an_encoder_whose_weights_have_diverged_is_refused_and_not_first_everywhere(clip, pairs, tmp_path, capsys):
    model = CLIPModel.from_pretrained(clip)
    torch.nn.init.constant_(model.text_model.final_layer_norm.weight, float("inf"))
    shutil.copytree(clip, tmp_path / "clip")
    model.save_pretrained(tmp_path / "clip")
    arguments = ["--dataset", pairs, "--task", "retrieval", "--output_dir", str(tmp_path / "out")]
    assert evaluate("--model", str(tmp_path / "clip"), *arguments) == 2
    assert "1 of its weights are not finite" in capsys.readouterr().err


def test_what_is_no_encoder_of_both_is_refused(tmp_path, capsys):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTModel(ViTConfig(image_size=16, patch_size=8, **SMALL)).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    arguments = ["--dataset", "toy", "--zero_shot", "a {}", "--output_dir", str(tmp_path / "out")]
    assert evaluate("--model", str(tmp_path / "vit"), *arguments) == 2
    assert "reads images alone: give an encoder of both" in capsys.readouterr().err
    assert evaluate(*arguments) == 2
    assert "--zero_shot is of encoders of images and texts, such as CLIP: give --model" in capsys.readouterr().err
