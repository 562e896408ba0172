"""One object for anybody's encoder: a folder, a module with its preprocessing, a function; or one line why not."""

import numpy as np
import pytest
import sentence_transformers
import timm
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch import nn

from hf_replearn.data.decoding import picture_of
from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.encoders.sentence_modules import read_sentence_modules
from hf_replearn.errors import InputError
from hf_replearn.representation import extract


def features_of(encoder, rows):
    encoder.try_on(rows)
    return extract(encoder.network, rows, preprocess=encoder.preprocess).x


def colours(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, :32, :32] / 255


def small_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())


# ---- objects


def test_a_module_with_its_preprocessing(pictures):
    network = small_net().train()
    encoder = find_encoder((network, colours), modality="image", named="my net")
    found = features_of(encoder, pictures)
    assert network.training  # as it was found
    expected = network.eval()(torch.stack([colours(picture_of(row)) for row in pictures]))
    torch.testing.assert_close(found, expected)
    assert (encoder.layers, encoder.widths, encoder.input_shape) == (["last"], [4], (3, 32, 32))
    assert not encoder.comparable and encoder.source is None


def test_a_function_of_images_or_texts_gives_arrays_or_lists(pictures, texts):
    sizes = find_encoder(lambda images: [image.size for image in images], modality="image")
    assert features_of(sizes, pictures).tolist() == [[36, 40]] * 3
    lengths = find_encoder(lambda some: np.array([[len(text), 1] for text in some]), modality="text")
    assert features_of(lengths, texts)[:, 0].tolist() == [len(text) for text in texts["text"][:]]


def test_a_module_of_texts_takes_what_its_function_makes_of_a_list(texts):
    embeddings = nn.EmbeddingBag(128, 5)

    def letters(some):
        flat = torch.tensor([ord(letter) for text in some for letter in text])
        starts = torch.tensor([0, *np.cumsum([len(text) for text in some])[:-1]])
        return {"input": flat, "offsets": starts}

    encoder = find_encoder((embeddings, letters), modality="text")
    torch.testing.assert_close(features_of(encoder, texts), embeddings(**letters(texts["text"][:])).detach())


def test_a_timm_network_by_itself_has_timms_preprocessing(pictures):
    network = timm.create_model("test_resnet", num_classes=0).eval()
    encoder = find_encoder(network, modality="image")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    found = features_of(encoder, pictures)
    expected = network(torch.stack([transform(picture_of(row)) for row in pictures]))
    torch.testing.assert_close(found, expected)
    assert encoder.input_shape == (3, 160, 160)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((nn.Flatten(), colours), "is a module without parameters: nothing in it was learnt"),
        (small_net(), "is a module without its preprocessing: give .module, preprocess."),
        (3, "is no encoder: give a folder, a Hub id"),
        (None, "is no encoder"),
        ((small_net(), colours, 1), "is no encoder"),
        ((small_net(), "resize"), "is no encoder"),
    ],
)
def test_what_is_no_encoder(given, message):
    with pytest.raises(InputError, match=message) as error:
        find_encoder(given, modality="image")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((small_net(), lambda image: colours(image)[:1]), "^mine cannot read these examples: .* 1 channels"),
        ((nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), colours), "^mine cannot read these examples: mat1 and mat2"),
        ((small_net()[:1], colours), r"^mine gives \[3, 4, 15, 15\] for 3 examples, not one vector an example"),
        ((small_net(), np.array), "^mine cannot read these examples: its preprocessing makes a ndarray of an image"),
        ((small_net(), lambda image: torch.rand(3, 8, 8)), "^mine gives other numbers each time"),
        (lambda images: torch.rand(len(images), 2), "^mine gives other numbers each time"),
        (lambda images: np.full((len(images), 2), np.nan), "^mine gives NaN"),
        (lambda images: {"features": 1}, "^mine gives dict for 3 examples"),
        (lambda images: [["a"]] * len(images), "^mine cannot read these examples: could not convert"),
    ],
)
def test_what_the_trial_says_of_objects(pictures, given, message):
    with pytest.raises(InputError, match=message) as error:
        find_encoder(given, modality="image", named="mine").try_on(pictures)
    assert "\n" not in str(error.value)


# ---- layers have names


LAYERS = {
    "bert": ["embeddings", "block 1", "block 2"],
    "gpt2": ["embeddings", "block 1", "block 2"],
    "bart": ["embeddings", "block 1", "block 2"],
    "vit": ["embeddings", "block 1", "block 2"],
    "resnet": ["stem", "stage 1", "stage 2", "stage 3", "stage 4"],
    "convnext": ["stem", "stage 1", "stage 2", "stage 3", "stage 4"],
    "swin": ["stem", "stage 1", "stage 2"],
}


@pytest.mark.parametrize("family", LAYERS)
def test_layers_have_names(models_of, texts, pictures, family):
    modality = "text" if family in ("bert", "gpt2", "bart") else "image"
    rows = texts if modality == "text" else pictures
    encoder = find_encoder(models_of(family), modality=modality, all_layers=True).try_on(rows)
    assert encoder.layers == LAYERS[family] and len(encoder.widths) == len(encoder.layers)
    assert find_encoder(models_of(family), modality=modality).try_on(rows).layers == ["last"]


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("test_resnet", ["act1", "layer1", "layer2", "layer3", "layer4"]),
        ("test_vit", [f"blocks.{number}" for number in range(6)]),
        ("test_convnext", [f"stages.{number}" for number in range(4)]),
    ],
)
def test_stages_of_timm_are_called_as_timm_calls_them(pictures, tmp_path, architecture, layers):
    """And hold what timm's own `forward_intermediates` gives, averaged over positions."""
    network = timm.create_model(architecture, num_classes=0).eval()
    timm.models.save_for_hf(network, str(tmp_path))
    encoder = find_encoder(str(tmp_path), modality="image", all_layers=True).try_on(pictures)
    assert encoder.layers == layers
    batch = encoder.preprocess([pictures[0]])
    found = encoder.network(batch)[0].split(encoder.widths)
    last, maps = network.forward_intermediates(batch["pixel_values"])
    torch.testing.assert_close(found[0], maps[0].mean((2, 3))[0])
    torch.testing.assert_close(found[-1], network.forward_head(last)[0])
    assert encoder.input_shape == tuple(batch["pixel_values"].shape[1:])


# ---- sentence-transformers


def sentence_model(body, path, *modules, **options):
    kinds = sentence_transformers.sentence_transformer.modules
    made = SentenceTransformer(modules=[kinds.Transformer(body), *modules], **options)
    made.save(str(path))
    return made


POOLINGS = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "lasttoken": "last",
    "weightedmean": "weightedmean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    ("cls", "mean"): "cls+mean",
}


@pytest.fixture(scope="module")
def kinds():
    from sentence_transformers.sentence_transformer import modules

    return modules


@pytest.mark.parametrize("mode", POOLINGS, ids=str)
def test_a_folder_is_pooled_as_sentence_transformers_does_it(models_of, texts, tmp_path, kinds, mode):
    made = sentence_model(models_of("bert"), tmp_path, kinds.Pooling(32, pooling_mode=mode), device="cpu")
    encoder = find_encoder(str(tmp_path), modality="text")
    expected = torch.from_numpy(made.encode(texts["text"][:]))
    torch.testing.assert_close(features_of(encoder, texts), expected, rtol=1e-5, atol=1e-5)
    assert encoder.pooling == POOLINGS[mode]


def test_dense_layers_length_and_prompts_are_followed_too(models_of, texts, tmp_path, kinds):
    dense = kinds.Dense(32, 7, activation_function=nn.ReLU())
    again = kinds.Dense(7, 5, bias=False, activation_function=nn.Identity(), use_residual=True)
    modules = (kinds.Pooling(32), dense, again, kinds.Normalize())
    prompts = {"prompts": {"ask": "w5 w6 "}, "default_prompt_name": "ask"}
    made = sentence_model(models_of("bert"), tmp_path, *modules, device="cpu", **prompts)
    expected = torch.from_numpy(made.encode(texts["text"][:]))
    encoder = find_encoder(str(tmp_path), modality="text", all_layers=True)
    found = features_of(encoder, texts)
    torch.testing.assert_close(found[:, -5:], expected, rtol=1e-5, atol=1e-5)
    assert encoder.widths == [32, 32, 5] and encoder.pooling == "mean, Dense, Dense, Normalize"
    plain = find_encoder(str(tmp_path), modality="text", pooling="cls")  # in the place of all that the folder says
    body = find_encoder(models_of("bert"), modality="text", pooling="cls")
    torch.testing.assert_close(features_of(plain, texts), features_of(body, texts))


def test_length_and_capitals_of_old_versions(models_of, tmp_path, kinds):
    sentence_model(models_of("bert"), tmp_path, kinds.Pooling(32), device="cpu")
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 5, "do_lower_case": true}')
    (tmp_path / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}'
    )
    encoder = find_encoder(str(tmp_path), modality="text")
    assert (encoder.max_length, encoder.pooling) == (5, "cls+mean")
    rows = Dataset.from_dict({"text": ["W7 W8 w1 w2 w3 w4", "w1"]})
    expected = torch.from_numpy(SentenceTransformer(str(tmp_path), device="cpu").encode(rows["text"][:]))
    torch.testing.assert_close(features_of(encoder, rows), expected, rtol=1e-5, atol=1e-5)
    assert find_encoder(str(tmp_path), modality="text", max_length=9).max_length == 9


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (["Transformer", "WeightedLayerPooling", "Pooling"], "they begin with Transformer, WeightedLayerPooling"),
        (["Transformer", "Pooling", "LSTM"], "there is a LSTM"),
    ],
)
def test_modules_that_are_not_known_are_refused_unless_pooling_is_given(models_of, tmp_path, modules, message):
    import json
    import shutil

    shutil.copytree(models_of("bert"), tmp_path, dirs_exist_ok=True)
    assert read_sentence_modules(str(tmp_path)) is None
    listed = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{n}_x" * (n > 0)} for n, kind in enumerate(modules)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match=f"or give --pooling.: {message}"):
        find_encoder(str(tmp_path), modality="text")
    assert find_encoder(str(tmp_path), modality="text", pooling="mean").pooling == "mean"


# ---- what it is for


def test_images_for_an_encoder_of_texts_and_the_other_way_round(models_of):
    with pytest.raises(InputError, match="is an encoder of texts, and these are images"):
        find_encoder(models_of("bert"), modality="image")
    with pytest.raises(InputError, match="is an encoder of images, and these are texts"):
        find_encoder(models_of("vit"), modality="text")
    for modality in ("image", "text"):
        assert find_encoder(models_of("clip"), modality=modality).pooling == "its own"


def test_random_weights_beside_a_checkpoint(models_of, texts):
    encoder = find_encoder(models_of("bert"), modality="text", pooling="cls").try_on(texts)
    torch.manual_seed(0)
    other = encoder.untrained().try_on(texts)
    assert other.widths == encoder.widths and other.network.how == "cls" and other.layers == ["last"]
    assert not torch.equal(features_of(other, texts), features_of(encoder, texts))
