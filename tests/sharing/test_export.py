"""What export_timm writes is loaded, bit for bit, by plain timm and plain transformers without this package."""

import json

import elsewhere
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from hf_replearn.sharing.export import UPSAMPLING, export_sentence_transformers, export_timm, fold_cifar_stem

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SMALL = {"layers": [1, 1, 1, 1], "channels": [16, 16, 32, 32]}

LOAD = """
import sys
import timm, torch
from transformers import AutoImageProcessor, AutoModel
for folder in sys.argv[1:]:
    x = torch.load(folder + "/x.pt", weights_only=True)
    wrapped = AutoModel.from_pretrained(folder).eval()
    plain = timm.create_model("local-dir:" + folder, pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        torch.save({"transformers": wrapped(pixel_values=x).pooler_output, "timm": plain(x)}, folder + "/y.pt")
assert "hf_replearn" not in sys.modules
"""


def trained(architecture: str, **arguments) -> nn.Module:
    """A network whose batch statistics are not those of a new one."""
    network = timm.create_model(architecture, num_classes=0, **arguments)
    return with_statistics(network, arguments.get("img_size", 32), arguments.get("in_chans", 3))


def with_statistics(network: nn.Module, size: int, channels: int = 3) -> nn.Module:
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    network.train()
    for _ in range(3):
        network(torch.randn(8, channels, size, size) * 2)
    return network.eval()


def cifar_resnet(channels: int = 3) -> nn.Module:
    network = timm.create_model("resnet18", num_classes=0, **SMALL, in_chans=channels)
    network.conv1, network.maxpool = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.Identity()
    return with_statistics(network, 32, channels)


NETWORKS = {  # arguments and image size
    "resnet18": (SMALL, 32),
    "vit_tiny_patch16_224": ({"img_size": 64, "depth": 2}, 64),
    "test_convnext": ({}, 64),
}


def test_bit_equal_in_plain_timm_and_plain_transformers(tmp_path):
    expected = {}
    for architecture, (arguments, size) in NETWORKS.items():
        encoder, out = trained(architecture, **arguments), tmp_path / architecture
        about = {"architecture": architecture, "arguments": arguments, "image_size": size, "mean": MEAN, "std": STD}
        export_timm(encoder, out, **about)
        x = torch.randn(3, 3, size, size)
        torch.save(x, out / "x.pt")
        with torch.no_grad():
            expected[out] = encoder(x)
    elsewhere.run(LOAD, *expected, folder=tmp_path)
    for out, y in expected.items():
        loaded = torch.load(out / "y.pt", weights_only=True)
        assert torch.equal(loaded["transformers"], y), out.name
        assert torch.equal(loaded["timm"], y), out.name


@pytest.mark.parametrize("channels", [3, 1, 5])
def test_a_folded_cifar_stem_is_the_same_function(channels):
    encoder = cifar_resnet(channels)
    folded = fold_cifar_stem(encoder, "resnet18", SMALL | {"in_chans": channels})
    x = torch.randn(4, channels, 32, 32)
    repeated = x.repeat_interleave(UPSAMPLING, 2).repeat_interleave(UPSAMPLING, 3)
    with torch.no_grad():  # float32 sums in another order: a few units in the last place
        torch.testing.assert_close(folded(repeated), encoder(x), rtol=1e-5, atol=1e-6)


def test_the_image_processor_of_a_folded_stem_repeats_the_pixels(tmp_path):
    from transformers import AutoImageProcessor, AutoModel

    encoder = cifar_resnet()
    export_timm(encoder, tmp_path, architecture="resnet18", arguments=SMALL, image_size=32, mean=MEAN, std=STD)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    inputs = AutoImageProcessor.from_pretrained(tmp_path)(Image.fromarray(pixels), return_tensors="pt")
    x = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    with torch.no_grad():
        loaded = AutoModel.from_pretrained(tmp_path).eval()(**inputs).pooler_output
        torch.testing.assert_close(loaded, encoder(x[None]), rtol=1e-5, atol=1e-6)


def test_the_preprocessing_travels(tmp_path):
    encoder = trained("resnet18", **SMALL)
    export_timm(
        encoder, tmp_path, architecture="resnet18", arguments=SMALL, image_size=48, mean=MEAN, std=STD, crop_pct=0.875
    )
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0)
    config = timm.data.resolve_model_data_config(loaded)
    assert tuple(config["input_size"]) == (3, 48, 48)
    assert (tuple(config["mean"]), tuple(config["std"]), config["crop_pct"]) == (MEAN, STD, 0.875)
    assert json.loads((tmp_path / "config.json").read_text())["num_classes"] == 0
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5).get_classifier().out_features == 5


@pytest.fixture
def bert(tmp_path):
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordPiece({"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", eos_token="c"
    )
    tokenizer.save_pretrained(tmp_path / "bert")
    config = transformers.BertConfig(
        vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_sentence_transformers_loads_the_folder_and_gives_the_pooled_features(bert, pooling):
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    from hf_replearn.encoders.inputs import ProcessorInputs
    from hf_replearn.encoders.pooling import Pooling

    export_sentence_transformers(bert, max_length=3, pooling=pooling)
    texts = ["a b", "c", "b c a b a b"]
    theirs = SentenceTransformer(str(bert), device="cpu").encode(texts, convert_to_tensor=True)
    inputs = ProcessorInputs(AutoTokenizer.from_pretrained(bert), 3)([{"text": text, "label": 0} for text in texts])
    with torch.no_grad():
        ours = Pooling(AutoModel.from_pretrained(bert).eval(), how=pooling)(inputs)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


def test_the_files_for_sentence_transformers_name_its_modules(bert):
    """Where the library is not installed, at least its documented format."""
    export_sentence_transformers(bert, max_length=3)
    modules = json.loads((bert / "modules.json").read_text())
    assert [module["type"].split(".")[-1] for module in modules] == ["Transformer", "Pooling"]
    pooling = json.loads((bert / modules[1]["path"] / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 8
    assert [name for name, on in pooling.items() if on is True] == ["pooling_mode_mean_tokens"]
