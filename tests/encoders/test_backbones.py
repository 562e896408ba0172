"""Encoders by name: architectures, checkpoints with their weights intact, and clear errors."""

import pytest
import timm
import torch

from hf_replearn.encoders.backbones import find_backbone
from hf_replearn.errors import InputError
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


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, r"unknown backbone 'resnet81'; the nearest are .*resnet"),
        ("resnet18", {"arguments": {"layer": 2}}, "layer"),
        ("vit_tiny_patch16_224", {"stem": "cifar"}, "--stem cifar replaces the 7x7 convolution of a ResNet"),
        ("nobody/nothing", {}, "could not be loaded"),
        ("nobody/nothing", {"stem": "cifar"}, "throw the stem of the checkpoint"),
    ],
)
def test_errors_say_what_to_do(name, options, message):
    with pytest.raises(InputError, match=message) as error:
        find_backbone(name, image_size=32, **options)
    assert "\n" not in str(error.value)
