"""A run on images with captions: what it leaves, that others load it, that it goes on, and what it refuses."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys

import forked
import pytest
import timm
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPModel,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
    pipeline,
)

from hf_replearn.data.captioned_scenes import captioned_scenes
from hf_replearn.data.tokenization import train_tokenizer
from hf_replearn.encoders.pair_encoder import read_pair_encoder
from hf_replearn.methods.clip import CLIPForPreTraining
from hf_replearn.recipes.clip import CLIPSettings, main
from hf_replearn.settings import run
from hf_replearn.training.trainer import PretrainingTrainer

SHORT = ["--image_encoder", "clip-tiny", "--text_encoder", "clip-tiny", "--image_size", "32", "--min_scale", "1"]
SHORT += ["--max_length", "16", "--vocab_size", "300", "--projection_dim", "16", "--per_device_train_batch_size", "16"]
SHORT += ["--max_steps", "3", "--save_steps", "2", "--use_cpu", "--bf16", "false"]
TIMM = ["--image_encoder", "resnet10t", "--image_encoder_args"]
TIMM += ["{'channels': [8, 8, 16, 16], 'stem_width': 8, 'output_stride': 16}"]


def start(*arguments: str) -> int:
    try:
        run(main, CLIPSettings, [*SHORT, *arguments])
    except SystemExit as end:
        return end.code
    return 0


def digest(out) -> str:
    return hashlib.sha256((out / "pretraining" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder with 48 scenes to train on, 20 to test on."""
    folder, scenes = tmp_path_factory.mktemp("pairs"), captioned_scenes("toy")
    scenes["train"].select(range(48)).to_parquet(folder / "train.parquet")
    scenes["test"].select(range(20)).to_parquet(folder / "test.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def ran(pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert start("--dataset", pairs, "--output_dir", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def joined(pairs, tmp_path_factory):
    """Of timm's network, whose maps are pooled by attention, and under SigLIP's loss with cached gradients."""
    out = tmp_path_factory.mktemp("runs") / "joined"
    arguments = ["--loss", "siglip", "--negatives", "32", "--min_scale", "0.5"]
    assert start("--dataset", pairs, *TIMM, *arguments, "--output_dir", str(out)) == 0
    return out


def test_a_run_leaves_scores_beside_baselines_and_a_picture(ran):
    report = json.loads((ran / "report.json").read_text())
    assert list(report["rows"]) == ["CLIP", "random weights", "linear map of pixels to words", "chance"]
    assert {"text_of_image@10", "image_of_text@1", "swapped_objects"} <= report["rows"]["CLIP"].keys()
    assert report["rows"]["chance"]["text_of_image@5"] == pytest.approx(5 / 20)
    assert report["encoder"]["architecture"] == "CLIPModel" and report["data"]["train"] == 48
    assert "found.png" in report["figures"] and (ran / "report.html").exists()


def test_plain_transformers_loads_a_clip_model_that_gives_our_vectors(ran):
    """Also through the pipeline; the end of a text is found by its own number, which is not 2."""
    plain = CLIPModel.from_pretrained(ran).eval()
    ours = CLIPForPreTraining.from_pretrained(ran / "pretraining").eval().encoder
    assert plain.config.text_config.eos_token_id == 3
    tokens = AutoTokenizer.from_pretrained(ran)(
        ["a red cross", "a small blue square"], padding=True, return_tensors="pt"
    )
    pixels = AutoImageProcessor.from_pretrained(ran)(Image.new("RGB", (32, 32), (255, 0, 0)), return_tensors="pt")
    with torch.no_grad():
        found = plain(**tokens, **pixels)
        texts, images = ours.text(tokens["input_ids"], tokens["attention_mask"]), ours.image(pixels["pixel_values"])
    assert torch.allclose(found.text_embeds, texts, atol=1e-5) and torch.allclose(found.image_embeds, images, atol=1e-5)
    assert torch.allclose(found.logits_per_image, ours.logits(images, texts), atol=1e-4)
    told = pipeline("zero-shot-image-classification", str(ran))
    labels = told(Image.new("RGB", (32, 32)), candidate_labels=["a", "b"], hypothesis_template="{}")
    assert {answer["label"] for answer in labels} == {"a", "b"}


def test_two_folders_and_a_file_that_joins_them_load_without_this_package(joined, tmp_path):
    """Each folder by its own library, both by the code beside them."""
    report = json.loads((joined / "report.json").read_text())
    assert report["encoder"]["architecture"] == "resnet10t and CLIPTextModel"
    assert timm.create_model(f"local-dir:{joined / 'image_encoder'}", pretrained=True).num_features == 16
    code = (joined / "dual_encoder.py").read_text()
    assert not re.search(r"^(from|import) hf_replearn", code, flags=re.MULTILINE)
    spec = importlib.util.spec_from_file_location("dual_encoder", joined / "dual_encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.DualEncoder.from_folder(joined)
    ours = CLIPForPreTraining.from_pretrained(joined / "pretraining").eval().encoder
    tokens = AutoTokenizer.from_pretrained(joined / "text_encoder")(["a red cross"], return_tensors="pt")
    picture = AutoImageProcessor.from_pretrained(joined / "image_encoder")(
        Image.new("RGB", (32, 32)), return_tensors="pt"
    )
    with torch.no_grad():
        for name, given in (("image", picture.values()), ("text", (tokens["input_ids"], tokens["attention_mask"]))):
            one, other = (getattr(encoder, name)(*given) for encoder in (model, ours))
            assert torch.allclose(one, other, atol=1e-5)
    assert torch.equal(model.bias, ours.bias) and model.bias != -10


@pytest.mark.parametrize("which", ["ran", "joined"])
def test_the_card_says_how_to_use_it(which, monkeypatch, request):
    folder = request.getfixturevalue(which)
    first, second = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Image.new("RGB", (32, 32), (0, 0, 255)).save("image.png")
    names: dict = {}
    for snippet in (first, second):
        exec(snippet, names)
    assert names["cosines"].shape == (1, 2) and names["cosines"].abs().max() <= 1
    assert type(names["model"]).__name__ == "CLIPForPreTraining"
    sys.modules.pop("dual_encoder", None)


@pytest.mark.parametrize("which", ["ran", "joined"])
@pytest.mark.usefixtures("unshown")
def test_a_run_that_was_killed_goes_on_bit_for_bit(which, pairs, tmp_path, request):
    first, again = request.getfixturevalue(which), tmp_path / "run"
    shutil.copytree(first, again)
    shutil.rmtree(again / "checkpoint-3")  # as if it had been killed after the second step
    (again / "pretraining" / "model.safetensors").unlink()
    arguments = [*TIMM, "--loss", "siglip", "--negatives", "32", "--min_scale", "0.5"] * (which == "joined")
    assert start("--dataset", pairs, *arguments, "--output_dir", str(again)) == 0
    assert digest(again) == digest(first)


@pytest.mark.parametrize("which", ["ran", "joined"])
def test_both_towers_of_a_checkpoint_are_exported(which, tmp_path, request):
    from hf_replearn.recipes.export import ExportSettings
    from hf_replearn.recipes.export import main as export

    folder = request.getfixturevalue(which)
    export(ExportSettings(checkpoint=str(folder / "checkpoint-3"), output_dir=str(tmp_path / "out")))
    first, second = (read_pair_encoder(str(place)).texts(["a red cross"]) for place in (folder, tmp_path / "out"))
    assert torch.equal(first, second)


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    """A ViT and a BERT without a pooler, as masked language modelling leaves it."""
    folder = tmp_path_factory.mktemp("towers")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(image_size=32, patch_size=16, **small)).save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "vit")
    tokenizer = train_tokenizer("bert", ["a red cross above a blue square"], vocab_size=100)
    bert = BertConfig(vocab_size=128, max_position_embeddings=32, **small)
    BertModel(bert, add_pooling_layer=False).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    return folder


def test_a_vit_and_a_bert_leave_as_one_model_of_transformers(towers, pairs, tmp_path, capsys):
    arguments = ["--image_encoder", str(towers / "vit"), "--text_encoder", str(towers / "bert"), "--max_steps", "1"]
    code = start("--dataset", pairs, *arguments, "--output_dir", str(tmp_path / "out"))
    assert code == 0
    assert "will be written as a VisionTextDualEncoderModel of transformers" in capsys.readouterr().out
    plain = VisionTextDualEncoderModel.from_pretrained(tmp_path / "out").eval()
    ours = CLIPForPreTraining.from_pretrained(tmp_path / "out" / "pretraining").eval().encoder
    tokens = AutoTokenizer.from_pretrained(tmp_path / "out")(["a red cross"], return_tensors="pt")
    with torch.no_grad():
        texts = ours.text(tokens["input_ids"], tokens["attention_mask"])
        found = plain.get_text_features(**tokens).pooler_output
    assert torch.allclose(torch.nn.functional.normalize(found, dim=-1), texts, atol=1e-5)


def test_a_locked_tower_leaves_as_it_came(towers, pairs, tmp_path):
    arguments = ["--image_encoder", str(towers / "vit"), "--lock", "image", "--max_steps", "1"]
    assert start("--dataset", pairs, *arguments, "--output_dir", str(tmp_path / "out")) == 0
    before = ViTModel.from_pretrained(towers / "vit", add_pooling_layer=False).state_dict()
    after = CLIPForPreTraining.from_pretrained(tmp_path / "out" / "pretraining").encoder.image.network.state_dict()
    assert before and all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--negatives", "24"], "--negatives 24 must be a multiple of 16, the pairs that 1 process"),
        (["--per_device_train_batch_size", "64"], "a batch of 64 pairs is larger than the data, 48"),
        (["--lock", "image"], "--lock image: clip-tiny has random weights, and would keep them"),
        (["--lock", "text"], "--lock text: clip-tiny has random weights, and would keep them"),
        (["--image_size", "40", "--patch_size", "16"], "--image_size 40 is no multiple of --patch_size 16"),
        (["--image_encoder", "resnet10t", "--patch_size", "8"], "--patch_size is of --image_encoder clip-tiny"),
        (["--image_encoder_args", "{'a': 1}"], "--image_encoder_args is of timm's networks, and --image_encoder clip"),
        (["--image_pooling", "attention"], "--image_pooling attention is of timm's networks"),
        (["--text_encoder", "no/such/folder"], "--model no/such/folder is not a transformers encoder of texts"),
        (["--tokenizer", "no/such/folder"], "--tokenizer 'no/such/folder' is no folder"),
        (["--dataset", "no/such/folder"], "there is no folder or file 'no/such/folder'"),
        (["--text_column", "words"], "--text_column 'words' holds no texts; the columns are image, text"),
        (["--loss", "coca"], "--loss must be one of clip, siglip"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(arguments, told, pairs, tmp_path, capsys):
    assert start("--dataset", pairs, "--output_dir", str(tmp_path / "out"), *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(told, error.splitlines()[-1]), error
    assert not list(tmp_path.glob("out/checkpoint-*"))


@pytest.mark.usefixtures("unshown")
def test_two_processes_train_one_model_with_cached_gradients(pairs, tmp_path):
    """Each takes 4 pairs at a time, 8 in all, of 16 in a loss."""
    arguments = ["--dataset", pairs, "--per_device_train_batch_size", "4", "--negatives", "16", "--max_steps", "2"]
    arguments += ["--output_dir", str(tmp_path / "out")]
    processes = forked.start(lambda: sys.exit(start(*arguments)), tmp_path / "log", processes=2)
    assert processes.wait(300) == [0, 0], processes.printed()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["training"]["examples"] == 32 and report["training"]["hardware"].startswith("2 processes")


@pytest.mark.usefixtures("unshown")
def test_a_run_that_is_told_to_stop_saves_and_goes_on_bit_for_bit(ran, pairs, tmp_path):
    """By a signal in its first step, in a process of its own."""
    out = tmp_path / "run"
    arguments = ["--dataset", pairs, "--output_dir", str(out)]

    def interrupted():
        first = PretrainingTrainer.training_step

        def step(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            return first(*args, **kwargs)

        PretrainingTrainer.training_step = step
        sys.exit(start(*arguments))

    process = forked.start(interrupted, tmp_path / "log")
    assert process.wait(300) == [75], process.printed()
    assert not (out / "report.json").exists() and (out / "checkpoint-1").exists()
    assert start(*arguments) == 0
    assert digest(out) == digest(ran)
