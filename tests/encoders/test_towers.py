"""Towers of a dual encoder: which class of transformers holds which of them, and that whatever holds them gives the
same vectors."""

from types import SimpleNamespace

import pytest
import timm
import torch
import transformers
from PIL import Image

from hf_replearn.data.tokenization import train_tokenizer
from hf_replearn.encoders.dual_encoder import DualEncoder
from hf_replearn.encoders.pair_encoder import read_pair_encoder
from hf_replearn.encoders.towers import find_image_tower, find_text_tower, held_by, new_text_tower, with_poolers
from hf_replearn.errors import InputError
from hf_replearn.pretraining.exported_pairs import export_pairs
from hf_replearn.sharing.export import export_timm

SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURE = {"image_size": 32, "patch_size": 16}
WORDS = {"vocab_size": 128, "max_position_embeddings": 24}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
DISTIL = {"dim": 16, "hidden_dim": 16, "n_layers": 1, "n_heads": 2} | WORDS
GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24, "vocab_size": 128}
MODERN = SMALL | WORDS | {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
CONFIGS = {
    "vit": (transformers.ViTConfig, SMALL | PICTURE),
    "clip_vision": (transformers.CLIPVisionConfig, SMALL | PICTURE),
    "resnet": (transformers.ResNetConfig, RESNET),
    "bert": (transformers.BertConfig, SMALL | WORDS),
    "distilbert": (transformers.DistilBertConfig, DISTIL),
    "modernbert": (transformers.ModernBertConfig, MODERN),
    "gpt2": (transformers.GPT2Config, GPT2),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each of CONFIGS, and of a network of timm."""
    root = tmp_path_factory.mktemp("towers")
    tokenizer = train_tokenizer("bert", ["a red cross above a blue square"], vocab_size=100)
    for name, (kind, given) in CONFIGS.items():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(kind(**given)).save_pretrained(root / name)
        if name in ("vit", "clip_vision", "resnet"):
            transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(root / name)
        else:
            tokenizer.save_pretrained(root / name)
    network = timm.create_model("test_resnet", num_classes=0)
    about = {"architecture": "test_resnet", "image_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    export_timm(network, root / "timm", **about)
    return root


def towers(folders, image: str, text: str):
    about = {"size": None, "usual_size": 32}
    return find_image_tower(str(folders / image), **about), find_text_tower(str(folders / text), max_length=None)


def exported(image, text, folder):
    """(DualEncoder, what others load of it)."""
    torch.manual_seed(1)
    description = {"projection_dim": 8, "image": image.description, "text": text.description}
    encoder = DualEncoder(image.network, text.network, description, log_scale=2.0, bias=-1.0).eval()
    config = SimpleNamespace(
        held_by=held_by(image, text)[0], image=image.about, image_size=image.size, mean=image.mean, std=image.std,
        crop_pct=1.0,
    )  # fmt: skip
    folder.mkdir()
    export_pairs(encoder, folder, config, text.tokenizer)
    return encoder, read_pair_encoder(str(folder))


@pytest.mark.parametrize(
    ("image", "text", "holds", "why"),
    [
        ("vit", "bert", "VisionTextDualEncoderModel", ""),
        ("clip_vision", "bert", "VisionTextDualEncoderModel", ""),
        ("vit", "distilbert", None, "DistilBertModel has no pooling that is learnt, but mean of its tokens"),
        ("vit", "modernbert", None, "ModernBertModel has no pooling that is learnt, but mean of its tokens"),
        ("vit", "gpt2", None, "GPT2Model has no pooling that is learnt, but last of its tokens"),
        ("resnet", "bert", None, "the configuration of ResNetModel has no hidden_size"),
        ("timm", "bert", None, "the encoder of images is a network of timm"),
    ],
)
def test_what_holds_both_towers_gives_their_vectors(image, text, holds, why, folders, tmp_path):
    starts = with_poolers(*towers(folders, image, text))
    found, told = held_by(*starts)
    assert found == holds and told == why
    encoder, loaded = exported(*starts, tmp_path / "out")
    assert (tmp_path / "out" / "dual_encoder.py").exists() is (holds is None)
    tokens = starts[1].tokenizer(["a red cross", "above a blue square a"], padding=True, return_tensors="pt")
    pixels = loaded.preprocess._pictures([Image.new("RGB", (32, 32), (200, 30, 0))])["pixel_values"]
    with torch.no_grad():
        texts = encoder.text(tokens["input_ids"], tokens["attention_mask"])
        assert torch.allclose(loaded.texts(["a red cross", "above a blue square a"]), texts, atol=1e-5)
        assert torch.allclose(loaded.images({"pixel_values": pixels}), encoder.image(pixels), atol=1e-5)
        longer = loaded.texts(["a red cross", "above a blue square above a blue square a"])
    assert torch.allclose(longer[0], texts[0], atol=1e-5)  # padding says nothing


def test_clip_from_random_weights_is_a_clip_model(tmp_path):
    tokenizer = train_tokenizer("clip", ["a red cross above a blue square"], vocab_size=300)
    image = find_image_tower("clip-tiny", size=None, usual_size=32, patch_size=16)
    text = new_text_tower("clip-tiny", tokenizer, length=12)
    assert held_by(image, text) == ("CLIPModel", "")
    encoder, loaded = exported(image, text, tmp_path / "out")
    assert loaded.max_length == 12
    assert loaded.texts(["a red cross " * 9]).isfinite().all()  # cut


def test_the_end_of_a_text_is_never_number_2_by_which_clip_would_read_its_largest_token():
    tokenizer = train_tokenizer("clip", ["zebra yak xenops"], vocab_size=300)
    text = new_text_tower("clip-tiny", tokenizer, length=12)
    tokens = tokenizer(["zebra yak", "yak"], padding=True, return_tensors="pt")
    assert tokenizer.eos_token_id != 2 and text.config.eos_token_id == tokenizer.eos_token_id
    with torch.no_grad():
        found = text.network.eval()(**tokens)
    ends = (tokens["input_ids"] == tokenizer.eos_token_id).int().argmax(1)
    assert ends[0] > ends[1] and tokens["input_ids"].argmax(1)[0] != ends[0]
    assert torch.equal(found.pooler_output, found.last_hidden_state[torch.arange(2), ends])


def test_maps_of_timm_from_random_weights_are_pooled_by_attention_and_those_of_a_checkpoint_as_they_were(folders):
    about = {"size": 64, "usual_size": 32}
    start = find_image_tower("test_resnet", **about)
    assert (start.pooling, start.places, start.features) == ("attention", [2, 2], 96)
    assert find_image_tower("test_resnet", pooling="own", **about).pooling == "own"
    assert find_image_tower(str(folders / "timm"), size=None, usual_size=32).pooling == "own"
    assert find_image_tower("test_vit", **about).pooling == "own"  # which makes no maps
    with pytest.raises(
        InputError, match=r"--image_pooling attention .* test_resnet gives \[96, 1, 1\] for an image of 32"
    ):
        find_image_tower("test_resnet", size=32, usual_size=32, pooling="attention")


def test_weights_of_a_checkpoint_are_kept_and_random_ones_drawn_anew(folders, tmp_path):
    image, text = towers(folders, "timm", "distilbert")
    kept = timm.create_model(f"local-dir:{folders / 'timm'}", pretrained=True, num_classes=0).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in image.network.state_dict().items())
    _, loaded = exported(image, text, tmp_path / "out")
    fresh = loaded.untrained()
    assert not torch.allclose(loaded.texts(["a red cross"]), fresh.texts(["a red cross"]), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("no_such_network", {}, "no_such_network"),
        ("vit", {"size": 48}, "--image_size 48: .*vit takes 32 pixels: leave it out"),
        ("vit", {"arguments": {"a": 1}}, "--image_encoder_args is of timm's networks"),
        ("bert", {}, "is an encoder of texts, and these are images"),
        ("timm", {"patch_size": 4}, "--patch_size is of --image_encoder clip-tiny"),
    ],
)
def test_what_is_no_tower_of_images_is_refused(name, more, told, folders):
    given = str(folders / name) if (folders / name).exists() else name
    with pytest.raises(InputError, match=told):
        find_image_tower(given, **{"size": None, "usual_size": 32} | more)


def test_vectors_that_are_not_finite_are_refused(folders, tmp_path):
    _, loaded = exported(*towers(folders, "timm", "bert"), tmp_path / "out")
    with torch.no_grad():
        loaded.model.text.projection.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="out gives NaN or infinite numbers for 2 of 2 texts"):
        loaded.texts(["a red cross", "a blue square"])


def test_two_folders_are_not_mistaken_for_one_encoder(folders, tmp_path):
    from hf_replearn.encoders.load import modality_of

    exported(*towers(folders, "timm", "bert"), tmp_path / "out")
    with pytest.raises(InputError, match="holds two encoders and what joins them: give .*out/image_encoder or"):
        modality_of(str(tmp_path / "out"))
    assert modality_of(str(tmp_path / "out" / "image_encoder")) == "image"
