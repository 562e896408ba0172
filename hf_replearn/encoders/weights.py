"""Whether a checkpoint held the network that was made of it: nothing random, nothing left out, in silence."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_replearn.errors import InputError


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Makes one line of whatever other libraries raise at files, or inputs, that are not what they expect.

    what: the beginning of the line. There is no list of these exceptions: a damaged file provokes almost any.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    said = " ".join(str(error).split())
    if "trust_remote_code" in said:
        return "it needs code of its own (auto_map in config.json), and code that comes with a model is not run"
    if "Unrecognized configuration class" in said:
        return "transformers has no such network for this kind of model (a single layer can be judged: --layers N)"
    return said[:300] if len(said) > 3 else f"{type(error).__name__} {said}".strip()


def load_whole(
    auto: type, checkpoint: str, *, setting: str = "--model", fresh_head: bool = False, **options
) -> PreTrainedModel:
    """auto.from_pretrained(checkpoint, **options), never with code of others, for a network that is used as it is.

    setting:    the flag that named the checkpoint.
    fresh_head: a head that the checkpoint lacks may start from random weights, which is said on stderr.
    Raises InputError for what does not load, lacks weights, or holds some that are not finite.
    """
    named = f"{setting} {checkpoint}"
    with refusing(f"{named} could not be loaded"):
        network, found = auto.from_pretrained(
            checkpoint, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    check_weights(network, found, named=named, part=None if fresh_head else network)
    new = sorted({*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])})
    if new:
        print(f"{named} has no such head: {_some(new)} start from random weights", file=sys.stderr)
    bad = [
        key for key, value in network.state_dict().items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if bad:
        raise InputError(f"{named}: {len(bad)} of its weights are not finite: {_some(bad)}")
    return network


def check_weights(network: PreTrainedModel, found: dict, *, named: str, part: nn.Module | None = None) -> None:
    """Raises InputError where the checkpoint lacks weights of `part` (none: of the body, all that is no head), has them
    in other shapes, or has more layers than the network. Weights in the network's own layers that it has no use for,
    such as those of adapters, are named on stderr; other heads than its own are not.

    found: the loading info of transformers. Poolers that a network can do without may be missing: see `drop_poolers`;
           and so may what is never learned, as Marian's sinusoids, which transformers computes and does not save.
    """
    body = _prefix(network, network.base_model if part is None else part)
    spare = tuple(f"{name}." for name in _poolers(network))
    lost = [name for name in found["missing_keys"] if name.startswith(body) and not name.startswith(spare)]
    if lost:
        computed = _never_learned(network)
        lost = [name for name in lost if name not in computed]
    if lost:
        total = sum(name.startswith(body) for name in network.state_dict())
        raise InputError(
            f"{named} lacks {len(lost)} of the {total} weights of {type(network).__name__}, which would be random: "
            f"{_some(sorted(lost))}{_under_a_prefix(lost, found['unexpected_keys'])}"
        )
    for name, has, needs in sorted(found["mismatched_keys"]):
        if name.startswith(body):
            raise InputError(f"{named}: {name} has shape {list(has)}, its configuration says {list(needs)}")
    for name in sorted(found["unexpected_keys"]):
        if layer := _layer_left_out(name, network):
            raise InputError(
                f"{named} has a layer {layer} that its configuration leaves out: is config.json another's?"
            )
    unused = sorted(name for name in found["unexpected_keys"] if _in_a_layer(name, network))
    if unused:
        print(f"{named}: {_some(unused)} in layers of {type(network).__name__} are not used by it", file=sys.stderr)
    if found.get("error_msgs"):
        raise InputError(f"{named}: {' '.join(str(found['error_msgs'][0]).split())[:300]}")


def _under_a_prefix(lost: Collection[str], unexpected: Collection[str]) -> str:
    """What is said where all that is missing is there under longer names, as DDP and torch.compile make them."""
    for name in unexpected:
        prefix = next((name.removesuffix(key) for key in lost if name.endswith(f".{key}")), "")
        if prefix and all(prefix + key in unexpected for key in lost):
            return f"; the file has them all as {prefix}…: take that off the names, or save the network inside"
    return ""


def _never_learned(network: PreTrainedModel) -> set[str]:
    """Names of parameters that are frozen from the start; loading makes them look as if they were not."""
    with torch.device("meta"):
        blank = type(network)(network.config)
    return {name for name, parameter in blank.named_parameters() if not parameter.requires_grad}


def drop_poolers(network: nn.Module, missing: Collection[str] = (), *, learned: bool = False) -> None:
    """Takes out every pooler that lacks weights and, with `learned`, that makes `pooler_output` by a linear map.

    BERT's was trained to tell whether two sentences follow one another, most others' never: their weights are random,
    and other ones each time. No features are made of it, and models that a pooler can be left out of do without. In
    one of two towers it is trained with the rest.
    """
    for name, parent in _poolers(network).items():
        linear = any(isinstance(module, nn.Linear) for module in parent.pooler.modules())
        if (learned and linear) or any(key.startswith(f"{name}.") for key in missing):
            parent.pooler = None


def _poolers(network: nn.Module) -> dict[str, nn.Module]:
    """{full name of a pooler: the network it is in}, of networks that can be made without: by `add_pooling_layer`."""
    return {
        f"{name}.pooler".lstrip("."): module
        for name, module in network.named_modules()
        if isinstance(getattr(module, "pooler", None), nn.Module)
        and "add_pooling_layer" in inspect.signature(type(module).__init__).parameters
    }


def _prefix(network: nn.Module, part: nn.Module) -> str:
    """What the names of the weights of `part` begin with."""
    name = next(name for name, module in network.named_modules() if module is part)
    return f"{name}." if name else ""


def _layer_left_out(name: str, network: PreTrainedModel) -> str | None:
    """`encoder.layer.11` of `bert.encoder.layer.11.output.dense.bias` where the network has an encoder.layer, but not
    so many."""
    modules = dict(network.named_modules())
    path = name.removeprefix(f"{network.base_model_prefix}.").split(".")
    for place in range(1, len(path)):
        if path[place].isdigit():
            for start in ("", f"{network.base_model_prefix}."):
                layers = start + ".".join(path[:place])
                repeated = isinstance(modules.get(layers), nn.ModuleList | nn.Sequential | nn.ModuleDict)
                if repeated and f"{layers}.{path[place]}" not in modules:
                    return ".".join(path[: place + 1])
    return None


def _in_a_layer(name: str, network: PreTrainedModel) -> bool:
    """Whether the network has the module that a weight of this name would belong to, or be an adapter of; not one that
    was taken out, as timm's classifiers are, and is nn.Identity."""
    modules = dict(network.named_modules())
    path = name.removeprefix(f"{network.base_model_prefix}.").split(".")
    parents = [".".join(path[:end]) for end in range(2, len(path))]
    places = [start + parent for parent in parents for start in ("", f"{network.base_model_prefix}.")]
    there = [modules[place] for place in places if place in modules]
    return bool(there) and not any(isinstance(module, nn.Identity) for module in there)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@torch.no_grad()
def put_into(network: nn.Module, body: nn.Module, *, named: str) -> None:
    """Copies the weights of `body` into the part of `network` that is of its class: what else there is stays fresh."""
    place = next((module for module in network.modules() if type(module) is type(body)), None)
    if place is None:
        raise InputError(f"{named}: {type(network).__name__} is not built on {type(body).__name__}")
    spare = {name.split(".")[0] for name in (*_poolers(place), *_poolers(body))}
    found = place.load_state_dict(body.state_dict(), strict=False)
    differ = {name for name in (*found.missing_keys, *found.unexpected_keys) if name.split(".")[0] not in spare}
    if differ:
        raise InputError(
            f"{named}: {type(network).__name__} and {type(body).__name__} differ in {_some(sorted(differ))}"
        )
