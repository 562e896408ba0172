"""Encoders by name: architectures, checkpoints with their weights intact, and clear errors."""

import json

import pytest
import timm
import torch

from hf_replearn.encoders.backbones import count_features, find_backbone
from hf_replearn.errors import InputError
from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining
from hf_replearn.sharing.export import export_timm


def test_an_architecture():
    backbone = find_backbone("resnet18", image_size=32)
    assert (backbone.architecture, backbone.arguments, backbone.weights) == ("resnet18", {}, None)
    assert find_backbone("vit_tiny_patch16_224", image_size=64).arguments == {"img_size": 64}


def test_a_checkpoint_keeps_its_weights_and_arguments(tmp_path):
    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
    network = timm.create_model("resnet18", num_classes=0, **arguments)
    export_timm(
        network, tmp_path, architecture="resnet18", arguments=arguments, image_size=32, mean=(0.1,) * 3, std=(0.3,) * 3
    )
    backbone = find_backbone(str(tmp_path), image_size=32)
    assert backbone.architecture == "resnet18"
    assert backbone.mean == pytest.approx((0.1, 0.1, 0.1))
    assert all(torch.equal(backbone.weights[name], value) for name, value in network.state_dict().items())
    again = timm.create_model(backbone.architecture, num_classes=0, **backbone.arguments)
    again.load_state_dict(backbone.weights)


def test_a_tag_means_those_weights(tmp_path):
    """They are loaded, or refused: never random ones instead."""
    network = timm.create_model("resnet10t")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    here = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}}
    backbone = find_backbone("resnet10t.c3_in1k", image_size=32, arguments=here)
    assert (backbone.architecture, backbone.source) == ("resnet10t", "resnet10t.c3_in1k")
    assert backbone.hub_id == "timm/resnet10t.c3_in1k"
    assert torch.equal(backbone.weights["conv1.0.weight"], network.conv1[0].weight)
    assert "fc.weight" not in backbone.weights


def test_a_folder_of_timms_own_writer(tmp_path):
    """Which records the number of classes among the arguments; what the user asks for wins over what it says."""
    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 32]}
    network = timm.create_model("resnet18", num_classes=10, **arguments)
    timm.models.save_for_hf(network, str(tmp_path), model_args=arguments | {"num_classes": 10})
    backbone = find_backbone(str(tmp_path), image_size=32, arguments={"drop_path_rate": 0.1})
    assert backbone.arguments | arguments | {"drop_path_rate": 0.1} == backbone.arguments
    assert "num_classes" not in backbone.arguments
    assert torch.equal(backbone.weights["conv1.weight"], network.conv1.weight)


@pytest.mark.parametrize("channels", [1, 5])
def test_a_network_of_other_channels(channels, tmp_path):
    backbone = find_backbone("resnet10t", image_size=32, channels=channels)
    assert (backbone.channels, backbone.arguments) == (channels, {"in_chans": channels})
    assert backbone.mean == backbone.std == (0.5,) * channels and backbone.weights is None
    assert find_backbone("resnet10t", image_size=32, channels=channels, arguments={"in_chans": channels}) == backbone
    network, mean = timm.create_model("resnet10t", num_classes=0, in_chans=channels), (0.1,) * channels
    export_timm(
        network, tmp_path, architecture="resnet10t", arguments=backbone.arguments, image_size=32, mean=mean,
        std=(0.3,) * channels,
    )  # fmt: skip
    again = find_backbone(str(tmp_path), image_size=32, channels=channels)
    assert again.mean == pytest.approx(mean) and again.arguments == {"in_chans": channels} and not again.adapted
    assert torch.equal(again.weights["conv1.0.weight"], network.conv1[0].weight)
    with pytest.raises(
        InputError, match=rf"takes images of {channels} channel\(s\), not of 3: say --channels {channels}"
    ):
        find_backbone(str(tmp_path), image_size=32)


def test_published_weights_of_rgb_are_made_to_fit_one_channel(tmp_path):
    """By timm's rule: a grey image has the features that it has as RGB, before normalisation."""
    network = timm.create_model("resnet10t").eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    here = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pth")}}
    backbone = find_backbone("resnet10t.c3_in1k", image_size=32, arguments=here, channels=1)
    assert backbone.adapted and backbone.mean == (0.5,)
    grey = timm.create_model("resnet10t", num_classes=0, in_chans=1).eval()
    grey.load_state_dict(backbone.weights)
    image = torch.rand(2, 1, 32, 32)
    expected = network.forward_head(network.forward_features(image.expand(-1, 3, -1, -1)), pre_logits=True)
    torch.testing.assert_close(grey(image), expected, atol=1e-4, rtol=1e-4)


def test_the_width_is_that_of_the_features():
    """MobileNetV3 has a layer after its last feature maps, and SimCLR's head stands on that."""
    model = SimCLRForPreTraining(SimCLRConfig(backbone="mobilenetv3_small_050", projection_dim=8)).eval()
    width = count_features(model.model.encoder)
    assert model(torch.zeros(2, 2, 3, 32, 32)).pooler_output.shape == (2, 2, width) and width == 1024


@pytest.fixture
def broken(tmp_path):
    """Folders that are no checkpoint of timm, by what is wrong with them."""
    whole = tmp_path / "whole"
    export_timm(
        timm.create_model("resnet10t", num_classes=0), whole, architecture="resnet10t", image_size=32,
        mean=(0.5,) * 3, std=(0.5,) * 3,
    )  # fmt: skip
    weights, config = (whole / "model.safetensors").read_bytes(), json.loads((whole / "config.json").read_text())
    contents = {
        "nothing": (None, None),
        "list": ("[1, 2]", weights),
        "empty": ("", weights),
        "transformers": ('{"model_type": "bert"}', weights),
        "cut": (json.dumps(config), weights[: len(weights) // 2]),
        "header": (json.dumps(config), b"\xff" * 8 + weights[8:]),
        "arguments": (json.dumps(config | {"model_args": {"nonsense": 1}}), weights),
        "unknown": (json.dumps(config | {"architecture": "resnet9999"}), weights),
    }
    for name, (config, weights) in contents.items():
        (tmp_path / name).mkdir()
        if config is not None:
            (tmp_path / name / "config.json").write_text(config)
            (tmp_path / name / "model.safetensors").write_bytes(weights)
    return tmp_path


def test_folders_that_are_no_checkpoint(broken):
    for name in ("nothing", "list", "empty", "transformers", "cut", "header", "arguments", "unknown"):
        with pytest.raises(InputError, match=name) as error:
            find_backbone(str(broken / name), image_size=32)
        assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_a_folder_by_the_name_of_an_architecture(broken, monkeypatch):
    monkeypatch.chdir(broken)
    (broken / "resnet10t").mkdir()
    assert find_backbone("resnet10t", image_size=32).source is None  # nothing that could be read is in it
    (broken / "list").rename(broken / "resnet18")
    with pytest.raises(InputError, match=r"an architecture of timm, and a folder with a checkpoint.* say \./resnet18"):
        find_backbone("resnet18", image_size=32)
    with pytest.raises(InputError, match="without a timm checkpoint"):
        find_backbone("./resnet18", image_size=32)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"unknown backbone 'resnet81'; the nearest are .*resnet"),
        ("resnet18", {"arguments": {"layer": 2}}, "layer"),
        ("vit_tiny_patch16_224", {"stem": "cifar"}, "--stem cifar replaces the 7x7 convolution of a ResNet"),
        ("resnet18", {"stem": "cifar", "channels": 12}, "--stem cifar takes images of at most 8 channels, and these"),
        ("nobody/nothing", {}, "could not be loaded"),
        ("nobody/nothing", {"stem": "cifar"}, "throw the stem of the checkpoint"),
        ("resnet18.nope", {}, "timm knows no weights 'nope' of resnet18, only a1_in1k, "),
        ("resnet10t.c3_in1k", {}, "its weights could not be loaded"),
        ("resnet10t.c3_in1k", {"stem": "cifar"}, "throw the stem of the checkpoint"),
        ("resnet10t", {"arguments": {"in_chans": 1}}, "in_chans 1: say --channels 1, for the images too"),
        ("resnet10t", {"arguments": {"in_chans": 4}, "channels": 5}, "in_chans 4: say --channels 4"),
        ("test_vit", {"size": 30}, "does not take images of 30 x 30 pixels"),
        ("resnet10t", {"arguments": {"features_only": True}}, "gives list of feature maps for 2 images"),
        ("resnet10t", {"arguments": {"global_pool": ""}}, "not one vector an image"),
    ],
)
def test_errors_say_what_to_do(name, options, message):
    with pytest.raises(InputError, match=message) as error:
        find_backbone(name, image_size=options.pop("size", 32), **options)
    assert "\n" not in str(error.value)
