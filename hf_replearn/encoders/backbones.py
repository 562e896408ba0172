"""Image encoders by name: a timm architecture, or a timm checkpoint with its weights, by tag, Hub id or folder."""

from __future__ import annotations

import copy
import difflib
import json
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import load_model_config_from_hf
from timm.models.resnet import ResNet
from torch import Tensor, nn

from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError

RGB = 3  # channels
COPIES = 8  # of each channel, that the first layer of a ResNet makes where a CIFAR stem is folded into it on export
_TRIED: set[tuple] = set()  # architectures with their arguments that gave what they say, in this process
SPOKEN_FOR = ("num_classes", "pretrained")  # arguments that a checkpoint may record, and that are set here


@dataclass(frozen=True)
class Backbone:
    """A timm architecture with the arguments that rebuild it and, for a checkpoint, the weights to start from.

    mean, std: of the input, per channel, as the checkpoint or architecture has them; else 0.5.
    channels: of the input; `in_chans` of the arguments where it is not 3.
    input_size: its height and width, in pixels, as these have it; others may do as well.
    """

    architecture: str
    arguments: dict
    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    channels: int = RGB
    weights: dict[str, Tensor] | None = None
    source: str | None = None  # the checkpoint as it was named
    hub_id: str | None = None  # and whether that is on the Hub
    adapted: bool = False  # whether timm made its first weights, of RGB, fit other channels
    lightness: bool = False  # whether its one channel is the lightness of pictures, see data.colours


def find_backbone(
    name: str,
    *,
    image_size: int | None,
    arguments: dict | None = None,
    stem: str = "imagenet",
    channels: int = RGB,
) -> Backbone:
    """`name` is a timm architecture (`resnet18`: random weights), one with the tag of its weights (`resnet18.a1_in1k`),
    a Hub id (`timm/resnet18.a1_in1k`) or the folder of a checkpoint.

    Networks tied to one image size are built for `image_size` (pixels; None: their own), all for `channels`. Published
    weights of RGB are made to fit others by timm's rule: summed over the colours for one channel, else repeated. A
    folder's are taken as they are. Raises InputError when there is no such backbone or tag, naming the nearest, when
    its weights cannot be had, when it does not take the arguments or images of that size or so many channels, or has
    no stem that `stem` could replace.
    """
    arguments = dict(arguments or {})
    if taken := [key for key in SPOKEN_FOR if key in arguments]:
        raise InputError(f"--backbone_args {arguments}: {' and '.join(taken)} cannot be given, leave it out")
    if (told := arguments.pop("in_chans", channels)) != channels:
        raise InputError(f"--backbone_args in_chans {told}: say --channels {told}, for the images too")
    if channels != RGB:
        arguments["in_chans"] = channels
    if not ("/" in name or Path(name).is_dir()) or is_architecture(name):
        return _by_name(name, image_size=image_size, arguments=arguments, stem=stem, channels=channels)
    refuse_checkpoint(name, "--backbone")
    folder = Path(name) if Path(name).is_dir() else None
    if folder is None or (folder / "config.json").exists():
        _keep_stem(name, stem)
    with refusing(f"backbone {name!r} could not be loaded"):
        saved = load_model_config_from_hf(name)[2] if folder is None else _saved_arguments(folder)
    has = saved.get("in_chans", RGB)
    adapted = folder is None and has == RGB != channels
    if has != channels and not adapted:
        raise InputError(f"backbone {name!r} takes images of {has} channel(s), not of {channels}: say --channels {has}")
    with refusing(f"backbone {name!r} could not be loaded"):
        arguments = {key: value for key, value in saved.items() if key not in SPOKEN_FOR} | arguments
        source = f"hf-hub:{name}" if folder is None else f"local-dir:{folder}"
        network = timm.create_model(source, pretrained=True, num_classes=0, **arguments)
        known = network.pretrained_cfg
        architecture, own = known["architecture"], known["input_size"]
        mean, std = _of_channels(known, channels)
    if adapted:
        _check_adapted(network, name, channels)
    _try(network, name, arguments, image_size or own[-1], channels)
    return Backbone(
        architecture, arguments, mean, std, own[-1], channels, network.state_dict(),
        source=name, hub_id=name if folder is None else None, adapted=adapted,
    )  # fmt: skip


def is_architecture(name: str) -> bool:
    """Whether a folder's name is meant as that of an architecture of timm, since no checkpoint is in it. Raises
    InputError where there is one, for either could be meant."""
    if "/" in name or not timm.is_model(name.partition(".")[0]):
        return False
    if (Path(name) / "config.json").exists():
        raise InputError(
            f"backbone {name!r} is an architecture of timm, and a folder with a checkpoint here: say ./{name} for the "
            "folder, or start from another place for the architecture"
        )
    return True


def _of_channels(known: dict, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the input: as they are known, or one half where they are of other channels."""
    mean, std = known["mean"], known["std"]
    if len({*zip(mean, std, strict=True)}) == 1:  # the same for all
        return tuple(mean[:1]) * channels, tuple(std[:1]) * channels
    return (mean, std) if len(mean) == channels else ((0.5,) * channels, (0.5,) * channels)


def _check_adapted(network: nn.Module, name: str, channels: int) -> None:
    """timm leaves a first layer that is no convolution at random, and only warns."""
    first = network.pretrained_cfg.get("first_conv")
    for layer in [first] if isinstance(first, str) else first or []:
        if network.get_parameter(f"{layer}.weight").ndim != 4:
            raise InputError(
                f"backbone {name!r}: the weights of its first layer are of {RGB} channels, and timm cannot make them "
                f"fit {channels}"
            )


def has_stages(network: nn.Module) -> bool:
    """Whether a timm network tells its stages."""
    return hasattr(network, "forward_intermediates") and hasattr(network, "feature_info")


class Stages(nn.Module):
    """The stages of a timm network beside one another, each the mean over its positions: (B, C, H, W) -> (B, D0 + D1 +
    …). Of networks of tokens these are the blocks, the mean over patches.

    widths, names: of each stage; the names are timm's, such as "layer4". Only of a network that `has_stages`.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.widths = [stage["num_chs"] for stage in network.feature_info]
        self.names = [stage["module"] for stage in network.feature_info]

    def forward(self, images: Tensor) -> Tensor:
        stages = self.network.forward_intermediates(images, intermediates_only=True)
        return torch.cat([stage.mean(dim=(2, 3)) for stage in stages], dim=1)


def count_features(network: nn.Module) -> int:
    """D of a timm network without a classifier: some have a layer after their last features."""
    return getattr(network, "head_hidden_size", network.num_features)


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _by_name(name: str, *, image_size: int | None, arguments: dict, stem: str, channels: int) -> Backbone:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        nearest = ", ".join(difflib.get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.4))
        raise InputError(
            f"unknown backbone {name!r}; {f'the nearest are {nearest}' if nearest else 'see timm.list_models()'}"
        )
    if tag:
        known = [found.partition(".")[2] for found in timm.list_pretrained(f"{architecture}.*")]
        if tag not in known:
            raise InputError(
                f"backbone {name!r}: timm knows no weights {tag!r} of {architecture}, "
                + (
                    f"only {', '.join(known)}"
                    if known
                    else f"and no others; `{architecture}` starts from random weights"
                )
            )
        _keep_stem(name, stem)
    default = timm.get_pretrained_cfg(name)
    own = default.input_size[-1]
    if default.fixed_input_size:
        arguments.setdefault("img_size", image_size or own)
    with refusing(f"backbone {name!r} with {arguments}" + ": its weights could not be loaded" * bool(tag)):
        network = timm.create_model(name, pretrained=bool(tag), num_classes=0, **arguments)
    if stem == "cifar" and not (isinstance(network, ResNet) and isinstance(network.conv1, nn.Conv2d)):
        raise InputError(f"--stem cifar replaces the 7x7 convolution of a ResNet, which {name!r} does not have")
    if stem == "cifar" and not isinstance(network.bn1, nn.BatchNorm2d):
        raise InputError("--stem cifar can be exported with batch normalisation only: say --stem imagenet")
    if stem == "cifar" and channels > network.conv1.out_channels // COPIES:
        raise InputError(
            f"--stem cifar takes images of at most {network.conv1.out_channels // COPIES} channels, and these have "
            f"{channels}: say --stem imagenet"
        )
    if tag and channels != RGB:
        _check_adapted(network, name, channels)
    tried = (name, repr(arguments), image_size or own, channels)
    if tried not in _TRIED:
        _try(network, name, arguments, image_size or own, channels)
        _TRIED.add(tried)
    weights, mean_and_std = network.state_dict() if tag else None, _of_channels(vars(default), channels)
    return Backbone(
        architecture, arguments, *mean_and_std, own, channels, weights,
        source=name if tag else None, hub_id=default.hf_hub_id if tag else None, adapted=bool(tag) and channels != RGB,
    )  # fmt: skip


def _keep_stem(name: str, stem: str) -> None:
    if stem == "cifar":
        raise InputError(f"--stem cifar would throw the stem of the checkpoint {name!r} away: leave it out")


def _saved_arguments(folder: Path) -> dict:
    """What config.json says that timm built the network with."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(config, dict) or "architecture" not in config:
        raise InputError(
            f"backbone {str(folder)!r} is a folder without a timm checkpoint: a config.json that names an "
            "architecture, and model.safetensors"
        )
    return config.get("model_args") or {}


@torch.no_grad()
def _try(network: nn.Module, name: str, arguments: dict, image_size: int, channels: int) -> None:
    """Two images without pixels, which cost nothing: whether the network gives each the vector that it says."""
    with refusing(f"backbone {name!r} with {arguments} does not take images of {image_size} x {image_size} pixels"):
        shapes = copy.deepcopy(network).to("meta").eval()
        features = shapes(torch.empty(2, channels, image_size, image_size, device="meta"))
    if not isinstance(features, Tensor) or features.shape != (2, count_features(network)):
        shape = list(features.shape) if isinstance(features, Tensor) else f"{type(features).__name__} of feature maps"
        raise InputError(f"backbone {name!r} with {arguments} gives {shape} for 2 images, not one vector an image")
