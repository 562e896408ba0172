"""In bfloat16 on a CPU some gradients are not defined: which layers these are, and that a run says so."""

import pytest
import torch
from torch import nn

import hf_replearn as hr
from hf_replearn.errors import InputError
from hf_replearn.pretraining.bfloat16 import undefined_gradients

LAYERS = {"narrow": nn.Conv2d(8, 8, 3, stride=2, padding=1), "point": nn.Conv2d(8, 8, 1, stride=2)}
LAYERS |= {"dense": nn.Conv2d(8, 8, 3, padding=1), "grouped": nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)}


LAYERS |= {"wide": nn.Conv2d(8, 8, (3, 1), stride=2, padding=(1, 0)), "far": nn.Conv2d(8, 8, 5, stride=4, padding=2)}


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1, 1, ["narrow", "grouped", "far"]),
        (4, 1, ["narrow", "grouped", "far"]),
        (1, 4, []),
        (3, 3, ["far"]),
        (4, 4, []),
    ],
)
def test_layers_on_maps_narrower_than_their_stride_are_named(height, width, expected):
    model = nn.ModuleDict(LAYERS)
    with torch.no_grad(), undefined_gradients(model) as found:
        for layer in model.values():
            layer(torch.randn(2, 8, height, width))
    LAYERS["narrow"](torch.randn(2, 8, 1, 1))  # nobody looks any more
    assert found == expected


def test_a_run_that_has_them_is_refused_in_bfloat16_and_not_else(tmp_path):
    small = {"backbone": "resnet18", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}, "stem": "imagenet"}
    small |= {"image_size": 16, "per_device_train_batch_size": 32, "max_steps": 1, "knn_steps": 0, "use_cpu": True}
    with pytest.raises(InputError, match=r"layer4\.0\.conv1, a convolution on maps narrower than its stride"):
        hr.pretrain("simclr", dataset="toy", output_dir=tmp_path / "a", bf16=True, **small)
    assert hr.pretrain("simclr", dataset="toy", output_dir=tmp_path / "b", bf16=False, **small)
