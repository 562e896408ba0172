"""What a run on images starts from: the settings that are left to the data, and the encoder to train."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import timm
from timm.models import is_model_in_modules
from transformers import AutoModel

from hf_replearn.data.images import ImageData
from hf_replearn.encoders.backbones import RGB, Backbone, find_backbone
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError
from hf_replearn.methods.trunk import OWN, ImageMethodConfig
from hf_replearn.pretraining.recipe import SMALL, ImageSettings
from hf_replearn.sharing.export import UPSAMPLING

S = TypeVar("S", bound=ImageSettings)


def left_to_the_data(settings: ImageSettings) -> list[str]:
    """The names of the settings that were not given and depend on the images."""
    names = ("backbone", "image_size", "stem", *settings.BY_SIZE, "per_device_train_batch_size")
    left = [name for name in names if getattr(settings, name) is None] + settings.left_to_memory
    if settings.backbone is None:
        added = settings.RESNET_ARGS or any(arguments for _, arguments in settings.BACKBONES)
    else:
        added = arguments_of(settings, settings.backbone) != settings.backbone_args
    return left + ["backbone_args"] * bool(added)


def fit_to_data(settings: S, data: ImageData, *, processes: int, lightness: bool = False) -> tuple[S, Backbone]:
    """The settings with what was left to the data filled in, and the backbone with them."""
    side = typical_side(data.sizes)
    small = (settings.image_size or side) <= SMALL
    settings = with_backbone(settings, small=small)
    start = partial(find_start, lightness=lightness)
    backbone, stem = start(settings, image_size=settings.image_size)
    if settings.image_size is not None:
        size = settings.image_size
    elif backbone.source is not None:
        size = backbone.input_size
    else:  # a ResNet with the CIFAR stem halves three times, other networks five: 2 x 2 are left of the smallest
        fine = stem == "cifar" or backbone.architecture in OWN or backbone.arguments.get("patch_size", 16) <= 8
        step, least, most = (8, 16, SMALL) if fine and small else (32, 64, 224)
        size = min(max(-(-side // step) * step, least), most)
    small = size <= SMALL
    stem = stem if small or backbone.source is not None or settings.stem is not None else "imagenet"
    negatives = getattr(settings, "negatives", None)  # the images of one loss, where it may span several batches
    settings = replace(
        settings,
        image_size=size,
        stem=stem,
        per_device_train_batch_size=settings.per_device_train_batch_size
        or batch_that_fits(negatives or data.images, processes, whole=negatives is not None),
        **{name: by_size[not small] for name, by_size in settings.BY_SIZE.items() if getattr(settings, name) is None},
    )
    return settings, backbone if backbone.source is not None else start(settings, image_size=size)[0]


def arguments_of(settings: ImageSettings, name: str) -> dict | None:
    """The further arguments of the network that is to be trained: those given, and what a ResNet has to have for this
    method."""
    if "." not in name and timm.is_model(name) and is_model_in_modules(name, ["resnet"]):
        return settings.RESNET_ARGS | (settings.backbone_args or {}) or None
    return settings.backbone_args


def with_backbone(settings: S, *, small: bool) -> S:
    """The settings with a backbone, where it is left to the data, and with the arguments that it has to have."""
    arguments = settings.backbone_args
    if settings.backbone is None:
        name, own = settings.BACKBONES[not small]
        settings = replace(settings, backbone=name, backbone_args=arguments or own)
    return replace(settings, backbone_args=arguments_of(settings, settings.backbone))


def typical_side(sizes: Counter[tuple[int, int]]) -> int:
    """The median over images of their longer side, in pixels. sizes: (H, W) -> how many."""
    sides = sorted((max(size), count) for size, count in sizes.items())
    half = (sum(count for _, count in sides) + 1) // 2
    for side, count in sides:
        half -= count
        if half <= 0:
            return side
    return sides[-1][0]


def batch_that_fits(images: int, processes: int, *, whole: bool) -> int:
    """The largest power of two from 2 to 256 of which so many images hold a batch for each process; whole: no rest."""
    for batch in (256, 128, 64, 32, 16, 8, 4):
        if batch * processes <= images and not (whole and images % (batch * processes)):
            return batch
    return 2


def find_start(settings: ImageSettings, *, image_size: int | None, lightness: bool = False) -> tuple[Backbone, str]:
    """The encoder to train, as a Backbone, and its stem: an architecture, a timm checkpoint, or an earlier run's.

    lightness: it takes the lightness of images alone, by one channel."""
    backbone, stem = _find_start(settings, image_size, channels=1 if lightness else settings.channels or RGB)
    return replace(backbone, lightness=lightness), stem


def _find_start(settings: ImageSettings, image_size: int | None, *, channels: int) -> tuple[Backbone, str]:
    settings = with_backbone(settings, small=image_size is not None and image_size <= SMALL)
    name = settings.backbone
    earlier = earlier_run(name)
    if earlier is not None:
        return of_earlier_run(settings, earlier, channels=channels)
    about = {"arguments": settings.backbone_args, "channels": channels}
    find = partial(find_backbone, name, image_size=image_size, **about)
    if settings.stem is not None:
        return find(stem=settings.stem), settings.stem
    try:
        return find(stem="cifar"), "cifar"
    except InputError:  # not a ResNet, or a checkpoint, which has its own
        return find(stem="imagenet"), "imagenet"


def earlier_run(name: str) -> Path | None:
    """The folder with f and g that an earlier run left in `name`, or that `name` is."""
    for folder in (Path(name, "pretraining"), Path(name)):
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict) and _method_of(config) is not None:
            return folder
    return None


def _method_of(config: dict) -> type[ImageMethodConfig] | None:
    """The configuration class of one of our methods on images."""
    try:
        package = importlib.import_module(f"hf_replearn.methods.{config.get('model_type')}")
    except (ImportError, ValueError):
        return None
    known = (getattr(package, name) for name in package.__all__ if name.endswith("Config"))
    return next((kind for kind in known if issubclass(kind, ImageMethodConfig)), None)


def of_earlier_run(settings: ImageSettings, folder: Path, *, channels: int) -> tuple[Backbone, str]:
    """f of an earlier run, as it was trained: its stem is its own, where the exported network has it folded."""
    with refusing(f"--backbone {settings.backbone} is of an earlier run, but cannot be loaded"):
        network = AutoModel.from_pretrained(folder, trust_remote_code=False)
        config, told = network.config, json.loads((folder.parent / "config.json").read_text())
        told = told.get("pretrained_cfg") or told["trained_at"]
        mean, std = tuple(told["mean"]), tuple(told["std"])
        size = told["input_size"][-1] if "input_size" in told else told["image_size"]
    size = size // UPSAMPLING if config.stem == "cifar" else size
    asked = {"--stem": (settings.stem, config.stem), "--backbone_args": (settings.backbone_args, config.backbone_args)}
    for flag, (given, has) in asked.items():
        if given not in (None, has):
            raise InputError(f"{flag} {given}: {settings.backbone} has {has}: leave it out")
    fixed, has = (config.backbone_args or {}).get("img_size"), (config.backbone_args or {}).get("in_chans", RGB)
    if has != channels:
        wanted = f": say --channels {has}" if channels == (settings.channels or RGB) else f", and here of {channels}"
        raise InputError(f"{settings.backbone} takes images of {has} channel(s){wanted}")
    if fixed is not None and settings.image_size not in (None, fixed):
        raise InputError(f"--image_size {settings.image_size}: {settings.backbone} takes {fixed} pixels: leave it out")
    about = {"arguments": config.backbone_args, "stem": config.stem, "channels": channels}
    plain = find_backbone(config.backbone, image_size=size, **about)
    weights = network.encoder.state_dict()
    start = {"mean": mean, "std": std, "input_size": size, "weights": weights, "source": settings.backbone}
    return replace(plain, **start), config.stem


def what_was_chosen(settings: ImageSettings, data: ImageData, left: list[str]) -> str:
    """One line that says what was left to the data."""
    (height, width), _ = data.sizes.most_common(1)[0]
    several = f"of several sizes, half of them up to {typical_side(data.sizes)}"
    size = f"{width} x {height}" if len(data.sizes) == 1 else several
    unsaid = (("stem", "imagenet"), ("backbone_args", None))
    names = [name for name in left if name != "image_size" and (name, getattr(settings, name)) not in unsaid]
    flags = " ".join(f"--{name} {getattr(settings, name)}" for name in names)
    line = f"images are {size} pixels: trained at {settings.image_size} with {flags}".removesuffix(" with ")
    return f"{line}\n" if names or "image_size" in left else ""


def channels_in_words(settings: ImageSettings, backbone: Backbone) -> str:
    """A line on what other images than RGB change; nothing where --channels is not given."""
    if settings.channels is None:
        return ""
    if settings.channels == RGB:
        return "the 3 channels of the images are taken for red, green and blue\n"
    line = (
        f"images of {settings.channels} channel(s): saturation, hue and grey, which need colours, are left out of views"
    )
    if set(backbone.mean + backbone.std) == {0.5}:
        line += "; mean and standard deviation are taken for 0.5"
    return line + "; the first weights, of RGB, are made to fit them by timm's rule" * backbone.adapted + "\n"
