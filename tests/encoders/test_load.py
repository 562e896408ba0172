"""Other people's models: features are those of plain transformers, of the part that reads the data, or one line says
what is wrong with the checkpoint."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from families import PICTURES, TEXTS, make_tokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForImageClassification, AutoModelForSequenceClassification

from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.load import (
    channels_of,
    channels_read_by,
    choose_length,
    load_network,
    load_processor,
    uses_token_types,
)
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.encoders.trial import try_encoder
from hf_replearn.encoders.weights import load_whole
from hf_replearn.errors import InputError
from hf_replearn.representation import extract, fingerprint
from hf_replearn.sharing.export import export_timm


def features_of(folder, rows, *, images=False):
    """Of all rows in one batch, by way of the trial; and the network."""
    config, processor = load_processor(folder, images=images)
    encoder = Pooling(load_network(AutoModel, folder, config))
    preprocess = ProcessorInputs(processor, None if images else 16, token_types=uses_token_types(config))
    try_encoder(encoder, rows, preprocess=preprocess, named=folder)
    return extract(encoder, rows, preprocess=preprocess).x, encoder.encoder


# ---- texts


@torch.no_grad()
@pytest.mark.parametrize("family", TEXTS)
def test_features_in_a_batch_are_those_of_plain_transformers_alone(models_of, texts, family):
    found, _ = features_of(models_of(family), texts)
    auto = transformers.T5EncoderModel if family == "t5 encoder" else AutoModel
    plain = auto.from_pretrained(models_of(family)).eval()
    if family in ("bart", "marian", "t5"):
        plain = plain.get_encoder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(models_of(family))
    for row, text in enumerate(texts["text"][:]):
        inputs = dict(tokenizer(text, return_tensors="pt"))
        if family not in ("bert", "albert", "electra", "convbert", "xlnet"):
            inputs.pop("token_type_ids", None)
        expected = plain(**inputs).last_hidden_state.mean(1)[0]
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_numbers_that_differ(models_of, texts, tmp_path):
    """Positions of RoBERTa are counted from the padding number of the model, 1 here, whatever the tokenizer's is."""
    found, encoder = features_of(models_of("roberta"), texts)
    assert encoder.config.pad_token_id == 1
    plain = AutoModel.from_pretrained(models_of("roberta")).eval()
    expected = plain(torch.tensor([[2, 6, 7, 8, 3]])).last_hidden_state.mean(1)[0]
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-4)
    config, tokenizer = load_processor(models_of("roberta"), images=False)
    assert choose_length(None, config, tokenizer) == 30 and tokenizer.pad_token_id == 0


@pytest.mark.parametrize("family", ["t5", "xlnet"])
def test_a_model_without_a_limit_is_limited_by_its_tokenizer(models_of, family):
    config, tokenizer = load_processor(models_of(family), images=False)
    assert choose_length(None, config, tokenizer) == 30
    tokenizer.model_max_length = 1000
    assert choose_length(None, config, tokenizer) == 128


def test_a_decoder_is_classified_by_its_last_word(models_of, texts):
    """By the padding number of the tokenizer, which is what stands there."""
    config, tokenizer = load_processor(models_of("gpt2"), images=False, num_labels=3)
    network = load_network(AutoModelForSequenceClassification, models_of("gpt2"), config).eval()
    preprocess = ProcessorInputs(tokenizer, 16)
    batch = preprocess(list(texts))
    batch.pop("labels")
    with torch.no_grad():
        together = network(**batch).logits
        states = network.transformer(**batch).last_hidden_state
    last = batch["attention_mask"].sum(1) - 1
    torch.testing.assert_close(together, network.score(states[torch.arange(4), last]))


# ---- images


@torch.no_grad()
@pytest.mark.parametrize("family", PICTURES)
def test_features_of_images_are_the_networks_own_pooling(models_of, pictures, family):
    found, encoder = features_of(models_of(family), pictures, images=True)
    processor = transformers.AutoImageProcessor.from_pretrained(models_of(family))
    pixels = processor([Image.open(row["image"]["path"]) for row in pictures], return_tensors="pt")["pixel_values"]
    plain = AutoModel.from_pretrained(models_of(family)).eval()
    if family in ("clip", "siglip"):
        expected = plain.vision_model(pixels).pooler_output
        assert type(encoder) is type(plain.vision_model)
    elif family == "vit_mae":
        plain.config.mask_ratio = 0.0
        expected = plain(pixels, noise=torch.arange(16.0).expand(3, 16)).last_hidden_state[:, 0]
    elif family == "vit":  # whose pooler the checkpoint lacks, and whose classifier reads the class token
        expected = plain(pixels).last_hidden_state[:, 0]
    else:
        expected = plain(pixels).pooler_output.flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert encoder.num_parameters() <= plain.num_parameters()


@torch.no_grad()
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_the_tower_of_texts(models_of, texts, family):
    found, encoder = features_of(models_of(family), texts)
    plain = AutoModel.from_pretrained(models_of(family)).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(models_of(family))
    padding = {"padding": "max_length", "max_length": 40} if family == "siglip" else {}  # as its model card asks for
    for row, text in enumerate(texts["text"][:]):
        expected = plain.text_model(tokenizer(text, return_tensors="pt", **padding)["input_ids"]).pooler_output
        torch.testing.assert_close(found[row], expected[0], rtol=1e-4, atol=1e-4)
    config, _ = load_processor(models_of(family), images=False)
    untrained = load_network(AutoModel, models_of(family), config, pretrained=False)
    assert type(untrained) is type(encoder) and untrained.num_parameters() == encoder.num_parameters()


def test_a_folder_of_timms_own_writer(pictures, tmp_path):
    network = timm.create_model("resnet18", num_classes=10, layers=[1] * 4, channels=[8, 8, 16, 32]).eval()
    arguments = {"layers": [1] * 4, "channels": [8, 8, 16, 32], "num_classes": 10}
    timm.models.save_for_hf(network, str(tmp_path), model_args=arguments)
    found, encoder = features_of(str(tmp_path), pictures, images=True)
    assert found.shape == (3, 32)
    assert torch.equal(encoder.timm_model.conv1.weight, network.conv1.weight)


# ---- heads


@pytest.mark.parametrize(
    ("family", "auto"), [("roberta", AutoModelForSequenceClassification), ("resnet", AutoModelForImageClassification)]
)
def test_a_head_is_fresh_as_a_whole_and_the_body_the_checkpoints(models_of, tmp_path, family, auto):
    """RoBERTa's head has two layers; the ResNet's is a list; and no head is that of an earlier run of the same seed."""
    config, _ = load_processor(models_of(family), images=family == "resnet", num_labels=3)
    torch.manual_seed(7)
    first = load_network(auto, models_of(family), config)
    with torch.no_grad():
        for parameter in first.base_model.parameters():
            parameter.add_(0.01)
    first.save_pretrained(tmp_path)
    torch.manual_seed(7)
    config, _ = (
        load_processor(models_of(family), images=True, num_labels=3) if family == "resnet" else (first.config, 0)
    )
    second = load_network(auto, str(tmp_path), config)
    before, after = first.state_dict(), second.state_dict()
    body = f"{first.base_model_prefix}."
    assert before.keys() == after.keys() and any(not name.startswith(body) for name in before)
    for name, weight in before.items():
        if name.startswith(body):
            assert torch.equal(weight, after[name]), name
        elif weight.ndim > 1:
            assert not torch.equal(weight, after[name]), name


def test_a_classifier_that_timm_takes_out_of_its_head_is_not_missed(pictures, tmp_path, capsys):
    arguments = {"depths": [1] * 4, "dims": [8, 8, 16, 32]}
    network = timm.create_model("convnext_atto", num_classes=5, **arguments).eval()
    timm.models.save_for_hf(network, str(tmp_path), model_args=arguments)
    found, _ = features_of(str(tmp_path), pictures, images=True)
    assert found.shape == (3, 32) and "not used" not in capsys.readouterr().err


def test_the_head_of_a_timm_network_is_fresh(tmp_path):
    network = timm.create_model("resnet18", num_classes=3, layers=[1] * 4, channels=[8, 8, 16, 32])
    timm.models.save_for_hf(network, str(tmp_path), model_args={"layers": [1] * 4, "channels": [8, 8, 16, 32]})
    config, _ = load_processor(str(tmp_path), images=True, num_labels=3)
    torch.manual_seed(1)
    loaded = load_network(AutoModelForImageClassification, str(tmp_path), config)
    torch.manual_seed(1)
    again = load_network(AutoModelForImageClassification, str(tmp_path), config)
    assert torch.equal(loaded.timm_model.conv1.weight, network.conv1.weight)
    assert loaded.timm_model.fc.weight.shape == network.fc.weight.shape
    assert not torch.equal(loaded.timm_model.fc.weight, network.fc.weight)
    assert torch.equal(loaded.timm_model.fc.weight, again.timm_model.fc.weight)  # of one seed, one head


def test_a_kind_of_model_without_a_classifier(models_of):
    config, _ = load_processor(models_of("clip"), images=True, num_labels=2)
    with pytest.raises(InputError, match="transformers has no such network for this kind of model"):
        load_network(AutoModelForImageClassification, models_of("clip"), config)


# ---- checkpoints that are not what their configuration says


def edited(source, folder, *, weights=None, **changes):
    """A copy of a checkpoint with other weights, {name: tensor} -> the same, and other settings in config.json."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    if weights is not None:
        save_file(weights(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def without(part):
    return lambda weights: {name: tensor for name, tensor in weights.items() if part not in name}


def wrapped(weights):
    """As a network that DistributedDataParallel or torch.compile has wrapped is saved by hand."""
    return {f"module.{name}": tensor for name, tensor in weights.items()}


WRONG = {
    "wrapped": ({"weights": wrapped}, r"lacks .*; the file has them all as module\."),
    "half": ({"weights": without("layer.1.")}, r"lacks 16 of the \d+ weights of BertModel, .*encoder.layer.1"),
    "one": ({"weights": without("layer.0.output.dense.bias")}, "lacks 1 of the"),
    "shallow": ({"num_hidden_layers": 1}, "has a layer encoder.layer.1 that its configuration leaves out"),
    "none": ({"num_hidden_layers": 0}, "has a layer encoder.layer.0 that its configuration leaves out"),
    "deep": ({"num_hidden_layers": 3}, "lacks 16 of the"),
    "wide": ({"intermediate_size": 32}, "has shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_weights_that_are_missing_or_left_over(models_of, tmp_path, case):
    """Whatever loads them: for features, for a classifier, and to go on training."""
    changes, message = WRONG[case]
    folder = edited(models_of("bert"), tmp_path / case, **changes)
    config, _ = load_processor(folder, images=False, num_labels=2)
    for auto in (AutoModel, AutoModelForSequenceClassification):
        with pytest.raises(InputError, match=message):
            load_network(auto, folder, config)
    with pytest.raises(InputError, match="^--init .*" + message.replace("BertModel", "BertForMaskedLM")):
        load_whole(transformers.AutoModelForMaskedLM, folder, setting="--init", fresh_head=True)


def test_stages_and_towers_that_are_missing(models_of, texts, tmp_path):
    folder = edited(models_of("resnet"), tmp_path / "missing", weights=without("stages.3"))
    config, _ = load_processor(folder, images=True)
    with pytest.raises(InputError, match="lacks"):
        load_network(AutoModel, folder, config)
    folder = edited(models_of("clip"), tmp_path / "tower", weights=without("vision_model.encoder"))
    features_of(folder, texts)  # the other tower is whole
    config, _ = load_processor(folder, images=True)
    with pytest.raises(InputError, match="lacks 32 of the"):
        load_network(AutoModel, folder, config)


def test_a_head_that_is_missing_is_named_or_refused(models_of, tmp_path, capsys):
    folder = edited(models_of("bert"), tmp_path / "headless", weights=without("cls."))
    load_whole(transformers.AutoModelForMaskedLM, folder, setting="--init", fresh_head=True)
    assert "has no such head: cls.predictions" in capsys.readouterr().err
    with pytest.raises(InputError, match="lacks"):
        load_whole(transformers.AutoModelForMaskedLM, folder)


@pytest.mark.parametrize("family", [*TEXTS, *PICTURES])
def test_what_is_not_used_of_layers_is_named(models_of, tmp_path, capsys, family):
    """Of whole checkpoints nothing, whatever heads and second halves they have; of adapters, which they are."""
    config, _ = load_processor(models_of(family), images=family in PICTURES)
    load_network(AutoModel, models_of(family), config)
    assert "not used" not in capsys.readouterr().err
    if family == "bert":
        name = "bert.encoder.layer.0.attention.self.query.lora_A.weight"
        folder = edited(models_of("bert"), tmp_path / "adapted", weights=lambda old: old | {name: torch.ones(4, 32)})
        load_network(AutoModel, folder, config)
        assert f"{name} in layers of BertModel are not used" in capsys.readouterr().err


BROKEN = {
    "cut": lambda folder: (folder / "model.safetensors").write_bytes(
        (folder / "model.safetensors").read_bytes()[:5000]
    ),
    "header": lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 400),
    "empty": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "none": lambda folder: (folder / "model.safetensors").unlink(),
    "pickle": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch PWNED'\ntR."),
    ),
    "empty config": lambda folder: (folder / "config.json").write_text(""),
    "list": lambda folder: (folder / "config.json").write_text("[]"),
    "no type": lambda folder: (folder / "config.json").write_text('{"hidden_size": 32}'),
    "other type": lambda folder: (folder / "config.json").write_text('{"model_type": "never-heard-of"}'),
    "text sizes": lambda folder: (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": "big"}'),
    "own code": lambda folder: (folder / "config.json").write_text(
        '{"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine", "AutoModel": "code.Mine"}}'
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_checkpoint_is_one_line(models_of, tmp_path, how, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    shutil.copytree(models_of("bert"), folder)
    BROKEN[how](folder)
    (folder / "code.py").write_text("open('PWNED', 'w')\nclass Mine: pass\n")
    with pytest.raises(InputError) as error:
        config, _ = load_processor(str(folder), images=False)
        load_network(AutoModel, str(folder), config)
    assert str(error.value).startswith(f"--model {folder} ") and "\n" not in str(error.value)
    assert not (tmp_path / "PWNED").exists()
    if how == "own code":
        assert "code that comes with a model is not run" in str(error.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/no/such/folder", "there is no such folder"),
        ("./nowhere", "there is no such folder"),
        ("resnet18", "timm has weights of resnet18 under timm/resnet18.a1_in1k, "),
        ("resnet18.a1_in1k", "timm has weights of resnet18 under timm/resnet18.a1_in1k, "),
        ("timm/resnet18.nope", "timm has weights of resnet18 under timm/resnet18.a1_in1k, "),
    ],
)
def test_a_name_that_cannot_be_right_is_told_what_is(name, said):
    with pytest.raises(InputError) as error:
        load_processor(name, images=True)
    assert str(error.value).startswith(f"--model {name} is not an encoder of images: {said}")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_networks_of_other_channels_get_them(models_of, tmp_path, channels):
    """Of transformers' and of timm's format, of images of the very size that they take."""
    vit, half = edited(models_of("vit"), tmp_path / "vit", num_channels=channels), [0.5] * channels
    path = Path(vit, "preprocessor_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": half, "image_std": half}))
    export_timm(
        timm.create_model("resnet10t", num_classes=0, in_chans=channels), tmp_path / "timm", architecture="resnet10t",
        arguments={"in_chans": channels} if channels != 3 else {}, image_size=32, mean=half, std=half,
    )  # fmt: skip
    for folder in (vit, str(tmp_path / "timm")):
        config, processor = load_processor(folder, images=True)
        assert channels_of(config) == channels_read_by(folder) == channels
        size = 32 if folder != vit else config.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)
        file = io.BytesIO()
        np.save(file, pixels)
        row = {"image": {"bytes": file.getvalue(), "path": None}, "channels": channels}
        batch = ProcessorInputs(processor, channels=channels)([row, row])["pixel_values"]
        expected = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        torch.testing.assert_close(batch, expected.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


def test_what_is_no_encoder_of_images_reads_no_channels(models_of, tmp_path):
    assert channels_read_by(models_of("bert")) is None and channels_read_by(str(tmp_path)) is None
    assert channels_read_by(models_of("clip")) == 3


# ---- what a cache of features goes by


def test_the_same_encoder_has_the_same_fingerprint(models_of, texts):
    """Of a masked LM there is no pooler in the checkpoint: a random one would be another each time."""
    found = set()
    for _ in range(2):
        config, tokenizer = load_processor(models_of("bert"), images=False)
        encoder = Pooling(load_network(AutoModel, models_of("bert"), config))
        found.add(fingerprint(encoder, texts, preprocess=ProcessorInputs(tokenizer, 16)))
    assert len(found) == 1
    encoder.unpadded = True
    found.add(fingerprint(encoder, texts, preprocess=ProcessorInputs(tokenizer, 16)))
    found.add(fingerprint(encoder, texts, preprocess=ProcessorInputs(tokenizer, 8)))
    assert len(found) == 3


def test_other_words_are_another_fingerprint(models_of, texts, tmp_path):
    """Two tokenizers of one size and name that agree on the rows that are looked at."""
    rows, prints = texts.map(lambda row: {"text": "[MASK]"}), set()
    encoder = Pooling(AutoModel.from_pretrained(models_of("bert")))
    for words in ("w{}", "v{}"):
        tokenizer = make_tokenizer(tmp_path, words=(words,))
        prints.add(fingerprint(encoder, rows, preprocess=ProcessorInputs(tokenizer, 16)))
    assert len(prints) == 2
