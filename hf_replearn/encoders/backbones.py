"""Image encoders by name: a timm architecture, or a timm checkpoint from the Hub or a local folder with its weights."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn

from hf_replearn.errors import InputError


@dataclass(frozen=True)
class Backbone:
    """A timm architecture with the arguments that rebuild it and, for a checkpoint, the weights to start from.

    mean, std: of the input, per channel, as the checkpoint or architecture has them.
    """

    architecture: str
    arguments: dict
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: dict[str, Tensor] | None = None
    source: str | None = None  # the checkpoint as it was named
    hub_id: str | None = None  # and whether that is on the Hub


def find_backbone(name: str, *, image_size: int, arguments: dict | None = None, stem: str = "imagenet") -> Backbone:
    """`name` is a timm architecture (`resnet18`), a Hub id (`timm/resnet18.a1_in1k`) or the folder of a checkpoint.

    Networks tied to one image size are built for `image_size` (pixels). Raises InputError when there is no such
    backbone, naming the nearest, when it does not take the arguments, or has no stem that `stem` could replace.
    """
    arguments = dict(arguments or {})
    if not ("/" in name or Path(name).is_dir()):
        architecture = name.split(".")[0]
        if not timm.is_model(architecture):
            nearest = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.4))
            raise InputError(
                f"unknown backbone {name!r}; {f'the nearest are {nearest}' if nearest else 'see timm.list_models()'}"
            )
        default = timm.get_pretrained_cfg(architecture)
        if default.fixed_input_size:
            arguments.setdefault("img_size", image_size)
        try:
            with torch.device("meta"):
                network = timm.create_model(architecture, num_classes=0, **arguments)
        except (TypeError, ValueError, AssertionError) as error:
            raise InputError(f"backbone {name!r} with {arguments}: {' '.join(str(error).split())}") from error
        if stem == "cifar" and not (isinstance(network, ResNet) and isinstance(network.conv1, nn.Conv2d)):
            raise InputError(f"--stem cifar replaces the 7x7 convolution of a ResNet, which {name!r} does not have")
        return Backbone(architecture, arguments, default.mean, default.std)
    if Path(name).is_dir() and not Path(name, "config.json").exists():
        raise InputError(f"backbone {name!r} is a folder without a timm checkpoint (config.json and model.safetensors)")
    if stem == "cifar":
        raise InputError(f"--stem cifar would throw the stem of the checkpoint {name!r} away: leave it out")
    source = f"local-dir:{name}" if Path(name).is_dir() else f"hf-hub:{name}"
    try:
        network = timm.create_model(source, pretrained=True, num_classes=0, **arguments)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"backbone {name!r} could not be loaded: {' '.join(str(error).split())[:300]}") from error
    known = network.pretrained_cfg
    arguments |= {key: value for key, value in network._model_args.items() if key not in ("num_classes", "pretrained")}
    hub_id = name if source.startswith("hf-hub:") else None
    return Backbone(
        known["architecture"], arguments, known["mean"], known["std"], network.state_dict(), source=name, hub_id=hub_id
    )


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
