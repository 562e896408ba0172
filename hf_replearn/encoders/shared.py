"""One trunk for several heads: classifiers of transformers that share all modules but their last ones."""

from __future__ import annotations

import json
from pathlib import Path

import timm
from torch import nn
from transformers import PreTrainedModel

from hf_replearn.errors import InputError


def share_trunk(networks: dict[str, PreTrainedModel], *, named: str) -> dict[str, list[nn.Module]]:
    """Gives all networks the trunk of the first; returns the modules that are each one's own.

    networks: of one class and size. named: the trunk, for the message. Raises InputError where trunk and head are one.
    """
    first, heads = next(iter(networks.values())), {}
    trunk = first if _is_timm(first) else getattr(first, first.base_model_prefix, first)
    if trunk is first and not _is_timm(first):
        raise InputError(f"{named} is a {type(first).__name__}, whose head is not apart from the rest of it")
    for name, network in networks.items():
        if _is_timm(first):
            own = head_of_timm(network.timm_model)
            _take_over(first.timm_model, network.timm_model, leave=own)
            holder = network.timm_model
        else:
            own = {child for child, _ in network.named_children() if child != first.base_model_prefix}
            setattr(network, first.base_model_prefix, trunk)
            holder = network
        heads[name] = [child for place, child in holder.named_children() if place in own]
    return heads


def head_of_timm(network: nn.Module) -> set[str]:
    """The children of a network of timm that its classifier is, or is in."""
    told = network.pretrained_cfg["classifier"]
    return {name.partition(".")[0] for name in ([told] if isinstance(told, str) else told)}


def _is_timm(network: nn.Module) -> bool:
    return hasattr(network, "timm_model")


def _take_over(source: nn.Module, target: nn.Module, *, leave: set[str]) -> None:
    """Modules, parameters and buffers of `source` in the place of those of `target`, but for some children."""
    if source is target:
        return
    found = [*source.named_children(), *source.named_parameters(recurse=False), *source.named_buffers(recurse=False)]
    for name, part in found:
        if name not in leave:
            setattr(target, name, part)


def trunk_of(network: PreTrainedModel) -> nn.Module:
    """What of a classifier is no head: the base model of transformers, or a network of timm without its classifier."""
    if not _is_timm(network):
        return getattr(network, network.base_model_prefix)
    config = network.config
    trunk = timm.create_model(config.architecture, num_classes=0, **config.model_args or {})
    found = trunk.load_state_dict(network.timm_model.state_dict(), strict=False)
    if found.missing_keys:
        raise InputError(f"{config.architecture} without its classifier needs {found.missing_keys[0]}, which it lacks")
    return trunk


def keep_size(folder: str | Path, config: dict) -> None:
    """Adds to the configuration of a trunk how images are brought to its size, where that was told of its start."""
    if config.get("trained_at"):
        path = Path(folder, "config.json")
        told = json.loads(path.read_text(encoding="utf-8")) | {"trained_at": config["trained_at"]}
        path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
