"""Towers of a dual encoder: any encoder of images of timm or transformers, any of texts of transformers, with its
weights or from random ones; and which class of transformers can hold both.

D features
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from hf_replearn.data.tokenization import vocabulary_size
from hf_replearn.encoders.backbones import RGB, find_backbone
from hf_replearn.encoders.dual_encoder import ALWAYS_FULL, ImageTower
from hf_replearn.encoders.load import choose_length, load_network, load_processor
from hf_replearn.encoders.pooling import has_own_pooling
from hf_replearn.encoders.sentence_modules import read_sentence_modules
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError

# Layers, width, heads of CLIP's towers from random weights, of images and of texts; base: Radford et al. 2021.
SIZES = {"clip-tiny": ((3, 128, 4),) * 2, "clip-mini": ((4, 256, 4),) * 2, "clip-small": ((6, 384, 6),) * 2}
SIZES |= {"clip-base": ((12, 768, 12), (12, 512, 8))}
SMALL, PATCHES = 64, 8  # pixels up to which an image has so many patches in a row; larger ones have patches of 16
USUAL_LENGTH = 77  # tokens of a text, as CLIP
HALF = (0.5,) * RGB  # mean and standard deviation of images of networks from random weights


@dataclass(frozen=True)
class ImageStart:
    """The tower of images as it starts.

    about:      {"architecture", "arguments"} of timm, or {"config": that of a transformers network}.
    pooling:    of `ImageTower`. features: D. places: (h, w) of feature maps that are pooled by attention.
    size:       pixels of its input. source: the checkpoint as it was named; hub_id: and whether that is on the Hub.
    """

    network: nn.Module
    about: dict[str, Any]
    pooling: Literal["own", "cls", "mean", "attention"]
    features: int
    places: list[int] | None
    size: int
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    source: str | None = None
    hub_id: str | None = None

    @property
    def description(self) -> dict[str, Any]:
        """Of `DualEncoder`."""
        return {"features": self.features, "pooling": self.pooling} | ({"places": self.places} if self.places else {})


@dataclass(frozen=True)
class TextStart:
    """The tower of texts as it starts. max_length: tokens kept of a text. Else as `ImageStart`."""

    network: nn.Module
    config: PreTrainedConfig
    pooling: Literal["own", "mean", "cls", "last"]
    features: int
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    source: str | None = None

    @property
    def description(self) -> dict[str, Any]:
        """Of `DualEncoder`."""
        return {"features": self.features, "pooling": self.pooling}


def find_image_tower(
    name: str,
    *,
    size: int | None,
    usual_size: int,
    patch_size: int | None = None,
    arguments: dict | None = None,
    pooling: Literal["own", "attention"] | None = None,
) -> ImageStart:
    """The encoder of images that `name` means.

    name:       of SIZES (random weights); a timm architecture, or a checkpoint of timm, see `find_backbone`; or a
                folder or Hub id of transformers.
    size:       pixels that are asked for; None: those of the checkpoint, else `usual_size`.
    patch_size: of SIZES. arguments: of timm.create_model.
    pooling:    None: attention for a timm network from random weights that makes feature maps, else its own.
    Raises InputError for what is no such encoder, and where it does not take what is asked for.
    """
    if name in SIZES:
        refuse_what_is_timms(name, arguments, pooling)
        return from_nothing(name, size or usual_size, patch_size)
    if patch_size is not None:
        raise InputError(
            f"--patch_size is of --image_encoder {', '.join(SIZES)}, and here that is {name}: leave it out"
        )
    if is_timms(name):
        return of_timm(name, size, usual_size, arguments, pooling)
    refuse_what_is_timms(name, arguments, pooling)
    config, processor = load_processor(name, images=True)
    own = getattr(config, "image_size", None)
    own = own[0] if isinstance(own, list | tuple) else own
    if size is not None and own not in (None, size):
        raise InputError(f"--image_size {size}: {name} takes {own} pixels: leave it out")
    network = load_network(AutoModel, name, config)
    mean, std = (tuple(getattr(processor, key, None) or HALF) for key in ("image_mean", "image_std"))
    start = ImageStart(
        network, {"config": config.to_dict()}, "own", 0, None, size or own or usual_size, mean, std, name
    )
    return with_features(start, name)


def refuse_what_is_timms(name: str, arguments: dict | None, pooling: str | None) -> None:
    """Raises InputError for settings that only mean something for a network of timm."""
    for flag, given in (("--image_encoder_args", arguments), ("--image_pooling attention", pooling == "attention")):
        if given:
            raise InputError(f"{flag} is of timm's networks, and --image_encoder {name} is none: leave it out")


def is_timms(name: str) -> bool:
    """Whether a name is that of an architecture or checkpoint of timm."""
    if Path(name).is_dir():
        file = Path(name, "config.json")
        try:
            return "architecture" in json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return False  # whoever loads it says what is wrong
    return name.startswith("timm/") or "/" not in name and timm.is_model(name.partition(".")[0])


def from_nothing(name: str, size: int, patch_size: int | None) -> ImageStart:
    """CLIP's vision transformer of a size of SIZES, from random weights."""
    layers, width, heads = SIZES[name][0]
    patch = patch_size or (max(1, size // PATCHES) if size <= SMALL else 16)
    if size % patch:
        raise InputError(f"--image_size {size} is no multiple of --patch_size {patch}")
    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        image_size=size, patch_size=patch,
    )  # fmt: skip
    return ImageStart(CLIPVisionModel(config), {"config": config.to_dict()}, "own", width, None, size)


def of_timm(name: str, size: int | None, usual_size: int, arguments: dict | None, pooling: str | None) -> ImageStart:
    """A network of timm, with its weights where it has some."""
    fixed = "img_size" in (arguments or {})
    backbone = find_backbone(name, image_size=size or (None if fixed else usual_size), arguments=arguments)
    size = size or (backbone.input_size if backbone.weights is not None else usual_size)
    size = backbone.arguments.get("img_size", size)
    about = {"architecture": backbone.architecture, "arguments": backbone.arguments}
    start = ImageStart(
        None, about, "own", 0, None, size, backbone.mean, backbone.std, backbone.source, backbone.hub_id
    )  # fmt: skip
    if pooling == "attention" or (pooling is None and backbone.weights is None):
        network = timm.create_model(backbone.architecture, num_classes=0, global_pool="", **backbone.arguments)
        with torch.no_grad():
            maps = network.eval()(torch.zeros(1, RGB, size, size))
        if maps.ndim == 4 and maps.shape[1] == network.num_features and maps[0, 0].numel() > 1:
            about = {"pooling": "attention", "features": maps.shape[1], "places": list(maps.shape[2:])}
            return loaded(start, network, backbone.weights, **about)
        if pooling == "attention":
            raise InputError(
                f"--image_pooling attention is of feature maps of several places, and {name} gives "
                f"{list(maps.shape[1:])} for an image of {size} pixels: leave it out"
            )
    network = timm.create_model(backbone.architecture, num_classes=0, **backbone.arguments)
    return with_features(loaded(start, network, backbone.weights), name)


def loaded(start: ImageStart, network: nn.Module, weights: dict | None, **changes: Any) -> ImageStart:
    """The start with its network, whose weights these are."""
    if weights is not None:
        network.load_state_dict(weights)
    return replace(start, network=network, **changes)


@torch.no_grad()
def with_features(start: ImageStart, name: str) -> ImageStart:
    """The start with how its network is pooled, and the number of features that this gives. Raises InputError where
    these are none."""
    pixels, pooling = torch.zeros(2, RGB, start.size, start.size), "own"
    with refusing(f"--image_encoder {name} does not take images of {start.size} pixels"):
        found = start.network.eval()(pixels)
        if not isinstance(found, torch.Tensor) and found.get("pooler_output") is None:
            has_token = any(hasattr(module, "cls_token") for module in start.network.modules())
            pooling = "cls" if has_token and found.last_hidden_state.ndim == 3 else "mean"
        pooled = ImageTower(start.network, 1, 1, pooling=pooling).pooled(pixels)
    if pooled.ndim != 2 or len(pooled) != 2:
        raise InputError(f"--image_encoder {name} gives {list(pooled.shape)} for 2 images, not one vector each")
    return replace(start, features=pooled.shape[1], pooling=pooling)


def new_text_tower(name: str, tokenizer: PreTrainedTokenizerBase, *, length: int) -> TextStart:
    """CLIP's text transformer of a size of SIZES, from random weights."""
    layers, width, heads = SIZES[name][1]
    config = CLIPTextConfig(
        vocab_size=vocabulary_size(tokenizer), hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    tokenizer.model_max_length = length
    return TextStart(CLIPTextModel(config), config, "own", width, tokenizer, length)


def find_text_tower(name: str, *, max_length: int | None) -> TextStart:
    """The encoder of texts in a folder or Hub id: pooled as it is trained to where it has a tower's own pooling, as a
    folder for sentence-transformers says, else by the mean of the tokens, of decoders by the last. Raises InputError.
    """
    config, tokenizer = load_processor(name, images=False)
    network = load_network(AutoModel, name, config)
    length = choose_length(max_length, config, tokenizer, usual=USUAL_LENGTH)
    modules = read_sentence_modules(name)
    width = config.get_text_config().hidden_size
    if has_own_pooling(network):
        return TextStart(network, config, "own", width, tokenizer, length, name)
    decoder = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    pooling = "last" if decoder else "mean"
    if modules is not None and modules.pooling in ("mean", "cls", "last"):
        pooling = modules.pooling
    return TextStart(network, config, pooling, width, tokenizer, length, name)


# ---- which class holds both


def held_by(image: ImageStart, text: TextStart) -> tuple[str | None, str]:
    """The class of transformers that holds both towers, and where there is none, why, in words."""
    if "config" not in image.about:
        how = " whose feature maps are pooled by attention" * (image.pooling == "attention")
        return None, f"the encoder of images is a network of timm{how}"
    if isinstance(image.network, CLIPVisionModel) and isinstance(text.network, CLIPTextModel):
        return "CLIPModel", ""
    if text.config.model_type in ALWAYS_FULL:
        return None, f"{text.config.model_type} reads texts without a mask"
    if text.pooling != "own":
        return None, f"{type(text.network).__name__} has no pooling that is learnt, but {text.pooling} of its tokens"
    if image.pooling != "own":
        return None, f"{type(image.network).__name__} has no pooling that is learnt, but {image.pooling} of its states"
    if not isinstance(getattr(image.network.config, "hidden_size", None), int):
        return None, f"the configuration of {type(image.network).__name__} has no hidden_size"
    with torch.device("meta"):
        try:
            whole = VisionTextDualEncoderModel(
                VisionTextDualEncoderConfig.from_vision_text_configs(image.network.config, text.config)
            )
        except (ValueError, AttributeError, TypeError) as error:  # how transformers says no
            return None, f"VisionTextDualEncoderModel: {' '.join(str(error).split())[:100]}"
    for part, network in ((whole.vision_model, image.network), (whole.text_model, text.network)):
        if part.state_dict().keys() != network.state_dict().keys():
            return None, f"VisionTextDualEncoderModel has other weights for {type(network).__name__}"
    if image.network.config.hidden_size != image.features:
        return None, f"the features of {type(image.network).__name__} are not of its hidden_size"
    return "VisionTextDualEncoderModel", ""


def with_poolers(image: ImageStart, text: TextStart) -> tuple[ImageStart, TextStart]:
    """Both with a pooler from random weights where transformers' VisionTextDualEncoderModel needs one that was taken
    out because nothing had been learnt of it: it is trained with the rest."""
    if "config" not in image.about:
        return image, text
    fresh = {}
    for start, config in ((image, image.network.config), (text, text.config)):
        if start.pooling != "own" and hasattr(start.network, "pooler"):
            fresh[id(start)] = getattr(AutoModel.from_config(config), "pooler", None)
    if any(start.pooling != "own" and fresh.get(id(start)) is None for start in (image, text)):
        return image, text
    for start in (image, text):
        if start.pooling != "own":
            start.network.pooler = fresh[id(start)]
    return replace(image, pooling="own"), replace(text, pooling="own")
