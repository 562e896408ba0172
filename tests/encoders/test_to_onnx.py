"""An encoder as an ONNX file gives the features that PyTorch gives, for other batches and lengths too; or one line."""

import importlib

import numpy as np
import pytest
import timm
import torch
import transformers
from families import make_tokenizer

import hf_replearn as hr
from hf_replearn.encoders import to_onnx
from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.errors import InputError
from hf_replearn.representation import extract
from hf_replearn.settings import run
from hf_replearn.sharing.export import export_sentence_transformers, export_timm

onnxruntime = pytest.importorskip("onnxruntime")


def export(*arguments) -> int:
    recipe = importlib.import_module("hf_replearn.recipes.export")
    try:
        run(recipe.main, recipe.ExportSettings, ["--format", "onnx", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


def features_by_onnx(folder, inputs):
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return session.run(["features"], {name: np.asarray(tensor) for name, tensor in inputs.items()})[0]


def test_images(pictures, tmp_path):
    network = timm.create_model("test_resnet", num_classes=0)
    export_timm(network, tmp_path / "run", architecture="test_resnet", image_size=32, mean=(0.4,) * 3, std=(0.2,) * 3)
    assert export("--model", tmp_path / "run", "--output_dir", tmp_path / "onnx") == 0
    encoder = find_encoder(str(tmp_path / "run"), modality="image")
    expected = extract(encoder.network, pictures, preprocess=encoder.preprocess).x
    rows = [pictures[number] for number in (0, 1, 2, 0, 1)]  # more than the exporter saw
    found = features_by_onnx(tmp_path / "onnx", {"pixel_values": encoder.preprocess(rows)["pixel_values"]})
    np.testing.assert_allclose(found, expected[[0, 1, 2, 0, 1]], rtol=1e-4, atol=1e-4)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "onnx")
    assert tuple(processor.data_config["mean"]) == (0.4,) * 3


def test_images_of_other_channels(tmp_path):
    network = timm.create_model("test_resnet", num_classes=0, in_chans=2).eval()
    about = {"architecture": "test_resnet", "arguments": {"in_chans": 2}, "image_size": 32}
    export_timm(network, tmp_path / "run", mean=(0.5,) * 2, std=(0.5,) * 2, **about)
    assert export("--model", tmp_path / "run", "--output_dir", tmp_path / "onnx") == 0
    pixels = torch.randn(2, 2, 32, 32)
    found = features_by_onnx(tmp_path / "onnx", {"pixel_values": pixels})
    np.testing.assert_allclose(found, network(pixels).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_texts_of_any_length_pooled_as_the_folder_says(models_of, tmp_path):
    """Also of one token more, and one text at a time."""
    torch.manual_seed(0)
    transformers.AutoModel.from_pretrained(models_of("bert")).save_pretrained(tmp_path / "run")
    make_tokenizer(tmp_path / "run")
    export_sentence_transformers(tmp_path / "run", max_length=20, pooling="cls")
    assert export("--model", tmp_path / "run", "--output_dir", tmp_path / "onnx") == 0
    texts = ["w1", "w2 w3 w4 w5 w6 w7 w8 w9", "w1 w2", "w9 w8 w7 w6"]
    expected = hr.encode(str(tmp_path / "run"), texts, use_cpu=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "onnx")
    for some in ([0, 1, 2, 3], [1], [0]):
        inputs = tokenizer([texts[place] for place in some], padding=True, return_tensors="np")
        found = features_by_onnx(tmp_path / "onnx", inputs)
        np.testing.assert_allclose(found, expected[some], rtol=1e-4, atol=1e-4)


def test_a_file_with_other_features_is_not_kept(models_of, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(to_onnx, "CLOSE", 0.0)
    assert export("--model", models_of("resnet"), "--output_dir", tmp_path / "onnx") == 2
    assert "its ONNX file gives features that differ by" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_one_line(models_of, tmp_path, capsys):
    for family, message in (("clip", "reads both images and texts"), ("t5", "cannot be written as ONNX by torch")):
        assert export("--model", models_of(family), "--output_dir", tmp_path / "onnx") == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: --model {models_of(family)}") and message in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --checkpoint, of a run, or --model"),
        (["--model", "a", "--checkpoint", "b"], "give --checkpoint, of a run, or --model"),
        (["--model", "a", "--format", "native"], "is in its library's own format already: give --format onnx"),
        (["--model", "nowhere/at-all"], "--model nowhere/at-all is no encoder that is known here"),
    ],
)
def test_what_to_give(arguments, message, tmp_path, capsys):
    assert export(*arguments, "--output_dir", tmp_path / "onnx") == 2
    assert message in capsys.readouterr().err


def test_missing_libraries_are_named_with_pip(monkeypatch):
    monkeypatch.setattr(to_onnx, "NEEDED", ("json", "a_library_that_is_not_there"))
    with pytest.raises(InputError, match=r"needs a_library_that_is_not_there: pip install 'hf-replearn\[onnx\]'"):
        to_onnx.check_onnx()
