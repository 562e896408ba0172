"""`hr.encode` and `hf-replearn encode`: the features that an evaluation sees, of what a notebook or a folder holds."""

import importlib
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
from datasets import Dataset
from PIL import Image

import hf_replearn as hr
from hf_replearn.data.decoding import centre_crop
from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.errors import InputError
from hf_replearn.representation import extract
from hf_replearn.settings import run
from hf_replearn.sharing.export import export_timm


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "resnet"
    network = timm.create_model("test_resnet", num_classes=0)
    export_timm(network, folder, architecture="test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    return str(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = str(tmp_path_factory.mktemp("models") / "bert")
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["[PAD]", "?", *"abcdef"])}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="?", model_max_length=16
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes, train and test, and its images in order."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for number in range(count):
            path = root / split / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)
    return root


def command(*arguments) -> int:
    recipe = importlib.import_module("hf_replearn.recipes.encode")
    try:
        run(recipe.main, recipe.EncodeSettings, ["--use_cpu", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


TEXTS = ["a b c d", "f", "c c", "d e f a b c"]


# ---- from Python


def test_images_in_every_form_have_the_features_of_their_files(resnet, photos):
    paths = sorted((photos / "train").rglob("*.png"))
    images = [Image.open(path) for path in paths]
    rows = Dataset.from_dict({"image": [{"path": str(path), "bytes": None} for path in paths]})
    encoder = find_encoder(resnet, modality="image")
    expected = extract(encoder.network, rows, preprocess=encoder.preprocess).x.numpy()
    arrays = [np.asarray(image) for image in images]
    decoded = rows.rename_column("image", "photo").cast_column("photo", datasets.Image())
    for data in (images, arrays, np.stack(arrays), decoded, tuple(images)):
        found = hr.encode(resnet, data, use_cpu=True)
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


def test_greys_transparency_and_orientation_are_read_as_from_files(resnet, tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        "grey.png": Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)),
        "16.png": Image.fromarray(rng.integers(0, 2**16, (40, 40), dtype=np.uint16)),
        "clear.png": Image.fromarray(rng.integers(0, 256, (40, 40, 4), dtype=np.uint8)),
        "cmyk.tif": Image.fromarray(rng.integers(0, 256, (40, 40, 4), dtype=np.uint8), mode="CMYK"),
        "turned.jpg": Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)),
    }
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"exif": turned} if name == "turned.jpg" else {}))
    opened = [Image.open(tmp_path / name) for name in pictures]
    files = Dataset.from_dict({"image": [{"path": str(tmp_path / name), "bytes": None} for name in pictures]})
    files = files.cast_column("image", datasets.Image(decode=False))
    np.testing.assert_array_equal(hr.encode(resnet, opened, use_cpu=True), hr.encode(resnet, files, use_cpu=True))
    one = np.asarray(opened[0])
    np.testing.assert_array_equal(*(hr.encode(resnet, [grey], use_cpu=True) for grey in (one, one[:, :, None])))


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_images_of_as_many_channels_as_the_encoder_takes(tmp_path, channels):
    """uint8 and, with the same levels, uint16; the features are those of the network for pixels that were stacked."""
    network = timm.create_model("test_resnet", num_classes=0, in_chans=channels).eval()
    about = {"architecture": "test_resnet", "arguments": {"in_chans": channels}, "image_size": 32}
    export_timm(network, tmp_path, mean=(0.5,) * channels, std=(0.5,) * channels, **about)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, channels), dtype=np.uint8)
    found = hr.encode(str(tmp_path), images, use_cpu=True)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(found, network(pixels).detach().numpy(), rtol=1e-4, atol=1e-4)
    deep = hr.encode(str(tmp_path), images.astype(np.uint16) * 257, use_cpu=True)
    np.testing.assert_array_equal(found, deep)


def test_texts_keep_their_order_and_layers_have_names(bert):
    rows = Dataset.from_dict({"text": TEXTS})
    encoder = find_encoder(bert, modality="text", all_layers=True, pooling="cls").try_on(rows)
    expected = extract(encoder.network, rows, preprocess=encoder.preprocess).x.numpy()
    for layer, place in (("last", 2), (1, 1), ("block 1", 1), ("0", 0), ("embeddings", 0)):
        found = hr.encode(bert, TEXTS, pooling="cls", layer=layer, use_cpu=True)
        np.testing.assert_allclose(found, expected[:, 16 * place : 16 * place + 16], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(hr.encode(bert, rows, use_cpu=True), hr.encode(bert, TEXTS, use_cpu=True))
    with pytest.raises(InputError, match=r"no layer 'block 7': there are 0 embeddings, 1 block 1, 2 block 2"):
        hr.encode(bert, TEXTS, layer="block 7", use_cpu=True)


def test_a_function_and_a_module_encode_too():
    found = hr.encode(lambda texts: [[len(text)] for text in texts], TEXTS)
    assert found.tolist() == [[len(text)] for text in TEXTS]
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    images = [np.full((2, 2, 3), n, np.uint8) for n in range(3)]
    found = hr.encode((network, lambda image: torch.from_numpy(np.array(image)).float()), images)
    expected = network(torch.from_numpy(np.stack(images)).float()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


NOISE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the list is empty"),
        ("a text", "'a text' is not several: give a list"),
        (Image.fromarray(NOISE), "an image is not several"),
        (NOISE, r"an array of shape \(8, 8, 3\) may be one image or several"),
        ([NOISE, "cat.png"], "of several kinds, image, text: encode them apart"),
        ([Path("cat.png")], "item 0 is a .*Path, neither an image .* open it with PIL.Image.open"),
        ([NOISE, torch.zeros(3, 8, 8)], "item 1 is a Tensor, neither"),
        ([(NOISE, 1)], "item 0 is a tuple, .* without labels"),
        ([None], "item 0 is a NoneType, neither an image"),
        ([NOISE / 255], "image 0 is an array of float64, of which nobody says what is black and white"),
        ([NOISE.transpose(2, 0, 1)], r"image 0 is an array of shape \(3, 8, 8\): its channels are the first axis, or"),
        ([NOISE[0, 0]], r"sound 0 cannot be used: an array of uint8"),
        ({"text": ["a"]}, "a dict is no list of images, texts or sounds"),
        (3, "a int is no list"),
        (Dataset.from_dict({"label": [1]}), r"the columns label \(int64\) is not clear"),
        (Dataset.from_dict({"a": ["x"], "b": ["y"]}), "is not clear: keep one"),
        (Dataset.from_dict({"text": ["x", None]}), "row 1 has no text"),
    ],
)
def test_data_that_are_neither_images_nor_texts(data, message):
    with pytest.raises(InputError, match=message) as error:
        hr.encode("nowhere", data)
    assert "\n" not in str(error.value)


def test_a_string_is_a_text_and_no_path(resnet, bert, photos):
    path = str(next(photos.rglob("*.png")))
    with pytest.raises(InputError, match="is an encoder of images, and these are texts"):
        hr.encode(resnet, [path])
    assert hr.encode(bert, [path], use_cpu=True).shape == (1, 16)


# ---- from the command line


def test_the_file_has_features_labels_and_the_names_of_classes(resnet, photos, tmp_path, capsys):
    out = tmp_path / "new" / "features.npz"
    assert command("--model", resnet, "--dataset", photos, "--output", out) == 0
    told = capsys.readouterr().out
    assert "train: 6 x 96 features" in told and "pooled by its own" in told
    found = np.load(out)
    assert sorted(found) == ["classes", "test", "test_labels", "train", "train_labels"]
    assert found["classes"].tolist() == ["cat", "dog"] and found["train_labels"].tolist() == [0, 0, 0, 1, 1, 1]
    for split in ("train", "test"):
        images = [Image.open(path) for path in sorted((photos / split).rglob("*.png"))]
        np.testing.assert_array_equal(found[split], hr.encode(resnet, images, use_cpu=True))
    assert command("--model", resnet, "--dataset", photos, "--output", out) == 2
    assert "is there already" in capsys.readouterr().err
    assert command("--model", resnet, "--dataset", photos, "--output", tmp_path / "features.npy") == 2
    assert "must end in .npz" in capsys.readouterr().err


def test_the_features_are_those_that_an_evaluation_keeps(resnet, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    recipe = importlib.import_module("hf_replearn.recipes.evaluation")
    arguments = ["--model", resnet, "--dataset", str(photos), "--baselines", "false", "--shots", "1", "--use_cpu"]
    run(recipe.main, recipe.EvaluateSettings, [*arguments, "--output_dir", str(tmp_path / "out")])
    kept = [np.load(path) for path in (tmp_path / "cache" / "hf_replearn").glob("features-*.npy")]
    assert command("--model", resnet, "--dataset", photos, "--output", tmp_path / "features.npz") == 0
    found = np.load(tmp_path / "features.npz")
    assert len(kept) == 2
    for split in ("train", "test"):
        assert any(np.array_equal(found[split], array) for array in kept)


def test_data_without_labels_keep_their_rows(bert, resnet, photos, tmp_path):
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(TEXTS) + "\n")
    out = tmp_path / "texts.npz"
    assert command("--model", bert, "--dataset", tmp_path / "texts.csv", "--layer", "block 1", "--output", out) == 0
    found = np.load(out)
    assert list(found) == ["train"]
    np.testing.assert_array_equal(found["train"], hr.encode(bert, TEXTS, layer=1, use_cpu=True))
    out = tmp_path / "images.npz"
    options = ("--label_type", "ignored", "--output", out)
    assert command("--model", resnet, "--dataset", photos, *options) == 0
    assert sorted(np.load(out)) == ["test", "train"]


def test_scores_of_pairs(bert, tmp_path):
    rows = "\n".join(f"{a},{b},{n / 2}" for n, (a, b) in enumerate(zip(TEXTS, TEXTS[::-1], strict=True)))
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"sentence1,sentence2,score\n{rows}\n")
    out = tmp_path / "pairs.npz"
    columns = ("--text_columns", "sentence1,sentence2", "--label_column", "score", "--label_type", "numbers")
    assert command("--model", bert, "--dataset", tmp_path, *columns, "--output", out) == 0
    found = np.load(out)
    assert sorted(found) == ["test", "test_labels", "train", "train_labels"]
    assert found["test"].shape == (4, 16) and found["test_labels"].tolist() == [0, 0.5, 1, 1.5]


@pytest.mark.parametrize(("size", "channels", "crop_pct"), [((40, 36), 3, 1.0), ((90, 64), 3, 0.8), ((50, 40), 5, 1.0)])
def test_a_resnet_for_small_images_gets_others_as_it_was_trained(size, channels, crop_pct, tmp_path):
    """Its image processor only repeats pixels: of images that are not of its size, it would take every so-manieth."""
    small = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "in_chans": channels}
    encoder = timm.create_model("resnet18", num_classes=0, **small)
    encoder.conv1, encoder.maxpool = torch.nn.Conv2d(channels, 64, 3, padding=1, bias=False), torch.nn.Identity()
    images = list(np.random.default_rng(0).integers(0, 256, (4, *size, channels), dtype=np.uint8))
    how = {"mean": (0.4,) * channels, "std": (0.2,) * channels, "crop_pct": crop_pct}
    export_timm(encoder.eval(), tmp_path, architecture="resnet18", arguments=small, image_size=24, **how)
    crops = [
        [centre_crop(Image.fromarray(x[..., c]), 24, crop_pct=crop_pct)[0] for c in range(channels)] for x in images
    ]
    with torch.no_grad():
        trained = encoder((torch.stack([torch.stack(crop) for crop in crops]) / 255 - 0.4) / 0.2)
    torch.testing.assert_close(torch.from_numpy(hr.encode(tmp_path, images)), trained, rtol=1e-4, atol=1e-5)


def test_levels_of_a_part_of_sixteen_bits_need_their_range(tmp_path):
    """As on the command line: or scans of 12 bits would be nearly black to the encoder."""
    network = timm.create_model("test_resnet", num_classes=0, in_chans=1)
    about = {"architecture": "test_resnet", "arguments": {"in_chans": 1}, "image_size": 32}
    export_timm(network, tmp_path, mean=(0.5,), std=(0.5,), **about)
    grey = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    scans = list(grey.astype(np.uint16) * 16)
    for given in (scans, [Image.fromarray(scan) for scan in scans]):
        with pytest.raises(
            InputError, match="3 16-bit images have levels from 0 to 4,080 only, .* --value_range 0,4095"
        ):
            hr.encode(tmp_path, given)
        found = hr.encode(tmp_path, given, value_range=(0, 4080))
        np.testing.assert_allclose(found, hr.encode(tmp_path, list(grey)), rtol=1e-5, atol=1e-6)
    rows = Dataset.from_dict({"image": [Image.fromarray(scan) for scan in scans]})
    np.testing.assert_array_equal(hr.encode(tmp_path, rows, value_range=(0, 4080)), found)
    with pytest.raises(InputError, match="--value_range must be LOW,HIGH"):
        hr.encode(tmp_path, scans, value_range=(9, 3))
