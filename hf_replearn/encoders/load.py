"""Any encoder of images, texts or sounds by folder or Hub id: its configuration, its processor, its weights.

Of a network with several parts, the one that reads the data: the encoder of an encoder-decoder, the tower of images or
of texts of CLIP and its like, all patches for a masked autoencoder.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    ViTConfig,
)

from hf_replearn.encoders.ours import refuse_checkpoint, register_own
from hf_replearn.encoders.weights import check_weights, drop_poolers, put_into, refusing
from hf_replearn.errors import InputError

# Whose positions are counted from the padding token's number on.
SHIFTED_POSITIONS = ("roberta", "camembert", "mpnet", "longformer")
RGB = 3  # channels
USUAL_LENGTH = 128  # tokens, of BERT on GLUE
TOWERS = {True: ("vision_config", "image_config"), False: ("text_config",)}  # of images, of texts


def load_processor(checkpoint: str, *, images: bool, **changes) -> tuple[Any, Any]:
    """The configuration of the encoder in a checkpoint, with changes, and its image processor or its tokenizer, which
    can pad.

    Raises InputError where there is none, or where a tokenizer is not the model's.
    """
    refuse_checkpoint(checkpoint)
    what = "an encoder of images" if images else "a transformers encoder of texts with its tokenizer"
    with refusing(f"--model {checkpoint} is not {what}"):
        config = _configuration(checkpoint, **changes)
        _check_modality(config, checkpoint, images=images)
        processor = (AutoImageProcessor if images else AutoTokenizer).from_pretrained(
            checkpoint, trust_remote_code=False
        )
    if tower := _tower(config, images=images):
        config = tower
        for name, value in changes.items():
            setattr(config, name, value)
    if not images:
        _fit_tokenizer(processor, config, checkpoint)
    return config, processor


def reads_images(config: PreTrainedConfig) -> bool | None:
    """Whether a network reads images, or else texts; None: it has a tower for each, or is neither."""
    if _tower(config, images=True) and _tower(config, images=False):
        return None
    if getattr(config, "reads_pixels", False):  # of our own, by number
        return True
    network = MODEL_MAPPING.get(type(config), None)
    network = network[0] if isinstance(network, tuple) else network
    if getattr(network, "input_modalities", None) in ("image", ("image",), ["image"]):
        return True  # of colours by number, too
    return {"pixel_values": True, "input_ids": False}.get(getattr(network, "main_input_name", None))


def modality_of(checkpoint: str) -> Literal["image", "text"]:
    """What the encoder in a checkpoint reads. Raises InputError where it may be either, or cannot be read."""
    refuse_checkpoint(checkpoint)
    with refusing(f"--model {checkpoint} is no encoder that is known here"):
        images = reads_images(_configuration(checkpoint))
    if images is None:
        raise InputError(f"--model {checkpoint} reads both images and texts, or neither: give one part of it")
    return "image" if images else "text"


def hears(config: PreTrainedConfig) -> bool:
    """Whether a network reads sounds."""
    network = MODEL_MAPPING.get(type(config), None)
    network = network[0] if isinstance(network, tuple) else network
    return getattr(network, "input_modalities", None) in ("audio", ("audio",), ["audio"])


def load_extractor(checkpoint: str, **changes) -> tuple[PreTrainedConfig, Any]:
    """The configuration of the encoder of sounds in a checkpoint, with changes, and its feature extractor.

    Raises InputError where there is none.
    """
    refuse_checkpoint(checkpoint)
    with refusing(f"--model {checkpoint} is not an encoder of sounds with its feature extractor"):
        config = _configuration(checkpoint, **changes)
        if not hears(config):
            other = {True: "images", False: "texts"}.get(reads_images(config), "something else")
            raise InputError(f"--model {checkpoint} is an encoder of {other}, and these are sounds")
        return config, AutoFeatureExtractor.from_pretrained(checkpoint, trust_remote_code=False)


def rate_heard_by(checkpoint: str) -> int | None:
    """The samples a second that a folder or Hub id hears; None of what is no encoder of sounds.

    What is wrong with a checkpoint is told by `load_extractor`.
    """
    try:
        return load_extractor(checkpoint)[1].sampling_rate
    except InputError:
        return None


def _check_modality(config: PreTrainedConfig, checkpoint: str, *, images: bool) -> None:
    if hears(config):
        these = "images" if images else "texts"
        raise InputError(f"--model {checkpoint} is an encoder of sounds, and these are {these}")
    if reads_images(config) is (not images):
        own, other = ("texts", "images") if images else ("images", "texts")
        raise InputError(f"--model {checkpoint} is an encoder of {own}, and these are {other}")


def channels_of(config: PreTrainedConfig) -> int:
    """How many channels the images have that a network takes."""
    if config.model_type == "timm_wrapper":
        size = (getattr(config, "pretrained_cfg", None) or {}).get("input_size") or [RGB]
        return (config.model_args or {}).get("in_chans") or size[0]
    return getattr(config, "num_channels", None) or RGB


def channels_read(config: PreTrainedConfig) -> int:
    """How many channels of images are read for it: of one that sees their lightness, all their colours."""
    return RGB if getattr(config, "lightness", False) else channels_of(config)


def channels_read_by(checkpoint: str) -> int | None:
    """How many channels the images have that a folder or Hub id takes; None of what is no encoder of images.

    What is wrong with a checkpoint is told by `load_processor`.
    """
    try:
        with refusing(checkpoint):
            register_own(checkpoint)
            config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    except InputError:
        return None
    return channels_read(_tower(config, images=True) or config) if reads_images(config) is not False else None


def channels_wanted(asked: int | None, encoders: Iterable[Any]) -> int | None:
    """How many channels images are read with: as asked, or as all folders and Hub ids among the encoders take.

    None, which is RGB, where that is 3 or where they differ: each then gets the same pictures in its own way.
    """
    if asked is not None:
        return asked
    told = {channels_read_by(encoder) for encoder in encoders if isinstance(encoder, str)} - {None}
    return next(iter(told)) if len(told) == 1 and told != {RGB} else None


def _configuration(checkpoint: str, **changes) -> PreTrainedConfig:
    """config.json, as what its weights can be loaded by and used with."""
    register_own(checkpoint)
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False, **changes)
    except OSError as error:  # how transformers says that neither the disk nor the Hub has it
        raise OSError(_wrong_name(checkpoint) or str(error)) from error
    if config.model_type == "timm_wrapper" and config.model_args:  # timm's own writer records what transformers passes
        config.model_args = {name: value for name, value in config.model_args.items() if name != "num_classes"}
    if (config.architectures or [""])[0].endswith("EncoderModel") and type(config)().is_encoder_decoder:
        config.is_encoder_decoder = True  # the half of T5 that was saved is found as the encoder of the whole
    if config.model_type == "vit_mae":  # whose own class hides most patches, at random, also when it is evaluated
        told = config.to_dict()
        known = set(ViTConfig().to_dict()) - {"model_type", "architectures"} | {"id2label", "label2id"}
        config = ViTConfig(**{name: value for name, value in told.items() if name in known})
    return config


def _wrong_name(checkpoint: str) -> str | None:
    """What is wrong with the name of a checkpoint that was not found, where that can be seen from the name."""
    if Path(checkpoint).exists():
        return None
    if checkpoint[0] in "./~" or checkpoint.count("/") > 1:
        return "there is no such folder"
    owner, _, name = checkpoint.rpartition("/")
    architecture = name.partition(".")[0]
    if owner not in ("", "timm") or not timm.is_model(architecture):
        return None
    known = [f"timm/{tagged}" for tagged in timm.list_pretrained(f"{architecture}.*")]
    if checkpoint in known:
        return None
    return f"timm has weights of {architecture} under {', '.join(known)}" if known else f"timm has no weights of {name}"


def _tower(config: PreTrainedConfig, *, images: bool) -> PreTrainedConfig | None:
    """The configuration of the part that reads images, or texts, of a network that has several."""
    for name in TOWERS[images]:
        if isinstance(getattr(config, name, None), PreTrainedConfig):
            return getattr(config, name)
    return None


def _fit_tokenizer(tokenizer: Any, config: PreTrainedConfig, checkpoint: str) -> None:
    """Makes the tokenizer pad where the network expects it. Raises InputError where it is not the network's own."""
    largest = max(tokenizer.get_vocab().values(), default=-1)
    known = getattr(config.get_text_config(), "vocab_size", None)
    if largest < 0 or (known is not None and largest >= known):
        raise InputError(
            f"the tokenizer of --model {checkpoint} has {largest + 1} tokens, the model {known}: it is not the one "
            "that the model was trained with"
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise InputError(f"the tokenizer of --model {checkpoint} has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    # On the right, where decoders expect it for classification; XLNet's summary is its last position.
    tokenizer.padding_side = "left" if config.model_type == "xlnet" else "right"
    reads_both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder
    classifies = (
        type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    )
    if (classifies and not reads_both_ways) or getattr(config, "pad_token_id", None) is None:
        # A decoder's classifier looks for the last token that is not padding. RoBERTa and others count positions from
        # their own padding number on, whatever the tokenizer's is: there it must stay.
        config.pad_token_id = tokenizer.pad_token_id


def uses_token_types(config) -> bool:
    """Whether the model knows first and second texts apart. Generic tokenizers number them for any model."""
    config = config.get_text_config()
    return (getattr(config, "type_vocab_size", None) or 0) > 1 or config.model_type == "xlnet"


def longest_text(config: PreTrainedConfig) -> int | None:
    """The most tokens that the positions of a network allow; None: as many as one likes."""
    config = config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or 0
    if limit <= 0:  # XLNet's are -1
        return None
    shifted = any(name in config.model_type for name in SHIFTED_POSITIONS)
    return limit - config.pad_token_id - 1 if shifted else limit


def choose_length(asked: int | None, config, tokenizer, *, usual: int = USUAL_LENGTH) -> int:
    """How many tokens of a text are kept: what was asked for, or as many as usual where the model takes so many."""
    limit = min(tokenizer.model_max_length, longest_text(config) or USUAL_LENGTH)
    if (asked or 0) > limit:
        raise InputError(f"--max_length {asked} is more than the {limit} tokens that the model takes")
    return asked or min(usual, limit)


def load_network(auto: type, checkpoint: str, config, *, pretrained: bool = True) -> nn.Module:
    """The network of `config` with the checkpoint's weights, or with the random ones it would be trained from.

    auto: AutoModel for the encoder, AutoModelForSequenceClassification or AutoModelForImageClassification for a
          classifier, whose whole head is always fresh. Weights are float32.
    Raises InputError where the checkpoint does not hold the network, or transformers has no such classifier.
    """
    named = f"--model {checkpoint}"
    with refusing(f"{named} could not be loaded"):
        together = _together(checkpoint, config)
        if auto is AutoModel:
            if pretrained:
                part = _pretrained(checkpoint, config, together, named=named)
            else:
                part = _part(_random(AutoModel, together), config)
            drop_poolers(part, learned=together is config)
            return part
        if not pretrained:
            return _random(auto, config)
        body = _pretrained(checkpoint, config, together, named=named, whole=bool(config.is_encoder_decoder))
        with _other_randomness(body):
            network = _random(auto, config)
            if config.model_type == "timm_wrapper":
                network.timm_model = body.timm_model
                network.timm_model.reset_classifier(config.num_labels)
            else:
                put_into(network, body, named=named)
        return network


@contextmanager
def _other_randomness(body: nn.Module) -> Iterator[None]:
    """Random numbers by the seed and the weights. By the seed alone, the head of a network that was fine-tuned with
    that seed before would start as the one that its body has learnt to fit, and know the task."""
    digest = hashlib.sha256(str(torch.initial_seed()).encode())
    for tensor in body.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest.digest()[:7], "big"))
        yield


def _together(checkpoint: str, config) -> PreTrainedConfig:
    """The configuration of the network that `config` is a part of, with that part as it is here; or `config` itself."""
    together = _configuration(checkpoint)
    for name in (name for names in TOWERS.values() for name in names):
        if type(getattr(together, name, None)) is type(config) is not type(together):
            setattr(together, name, config)
            return together
    return config


def _pretrained(checkpoint: str, config, together, *, named: str, whole: bool = False) -> PreTrainedModel:
    """The encoder, or the whole of an encoder-decoder."""
    network, found = AutoModel.from_pretrained(
        checkpoint, config=together, dtype=torch.float32, trust_remote_code=False, ignore_mismatched_sizes=True,
        output_loading_info=True,
    )  # fmt: skip
    part = network if whole else _part(network, config)
    check_weights(network, found, named=named, part=part)
    drop_poolers(network, found["missing_keys"])
    return part


def _random(auto: type, config) -> PreTrainedModel:
    network = auto.from_config(config, dtype=torch.float32, trust_remote_code=False)
    if config.model_type == "timm_wrapper":  # which overwrites timm's own initialisation
        classes = 0 if auto is AutoModel else config.num_labels
        network.timm_model = timm.create_model(config.architecture, num_classes=classes, **config.model_args or {})
    return network


def _part(network: PreTrainedModel, config) -> nn.Module:
    """What of a network reads the data: modules come before what is in them."""
    if config.is_encoder_decoder:
        return network.get_encoder()
    for module in network.modules():
        if type(getattr(module, "config", None)) is type(config):
            return module
    raise InputError(f"{type(network).__name__} has no part of its own that is a {config.model_type}")


def has_fused_attention(auto: type, config: PreTrainedConfig) -> bool:
    """Whether transformers can compute the attention of such a network by PyTorch's fused function (sdpa)."""
    with torch.device("meta"):
        try:
            auto.from_config(copy.deepcopy(config), attn_implementation="sdpa", trust_remote_code=False)
        except ValueError:  # how transformers says no
            return False
    return True


def with_dropout(config, dropout: float | None):
    """The configuration with every dropout rate that it has set to `dropout`; None leaves them."""
    for name, value in config.to_dict().items():
        if dropout is not None and isinstance(value, float | int) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(config, name, dropout)
    return config
