"""Image encoders by name: a timm architecture, or a timm checkpoint from the Hub or a local folder with its weights."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import timm
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


def find_backbone(name: str, *, image_size: int, arguments: dict | None = None) -> Backbone:
    """`name` is a timm architecture (`resnet18`), a Hub id (`timm/resnet18.a1_in1k`) or the folder of a checkpoint.

    Networks tied to one image size are built for `image_size` (pixels). Raises InputError, naming the nearest
    architectures, when there is no such backbone.
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
        return Backbone(architecture, arguments, default.mean, default.std)
    if Path(name).is_dir() and not Path(name, "config.json").exists():
        raise InputError(f"backbone {name!r} is a folder without a timm checkpoint (config.json and model.safetensors)")
    source = f"local-dir:{name}" if Path(name).is_dir() else f"hf-hub:{name}"
    try:
        network = timm.create_model(source, pretrained=True, num_classes=0, **arguments)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"backbone {name!r} could not be loaded: {' '.join(str(error).split())[:300]}") from error
    known = network.pretrained_cfg
    arguments |= {key: value for key, value in network._model_args.items() if key not in ("num_classes", "pretrained")}
    return Backbone(known["architecture"], arguments, known["mean"], known["std"], network.state_dict())


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
