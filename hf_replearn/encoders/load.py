"""Any encoder of images or texts by folder or Hub id: its configuration, its processor, its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from hf_replearn.encoders.heads import refresh_head
from hf_replearn.errors import InputError

# Whose positions are counted from the padding token's number on.
SHIFTED_POSITIONS = ("roberta", "camembert", "mpnet", "longformer")
USUAL_LENGTH = 128  # tokens, of BERT on GLUE


def load_processor(checkpoint: str, *, images: bool, **changes) -> tuple[Any, Any]:
    """The configuration of a checkpoint, with changes, and its image processor or its tokenizer, which can pad.

    Raises InputError where there is none, or where a tokenizer is not the model's.
    """
    auto = AutoImageProcessor if images else AutoTokenizer
    try:
        config = AutoConfig.from_pretrained(checkpoint, **changes)
        processor = auto.from_pretrained(checkpoint)
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = "an encoder of images" if images else "a transformers encoder of texts with its tokenizer"
        raise InputError(f"--model {checkpoint} is not {what}: {' '.join(str(error).split())[:300]}") from error
    if images:
        return config, processor
    if not len(processor) or len(processor) > config.vocab_size:
        raise InputError(
            f"the tokenizer of --model {checkpoint} has {len(processor)} tokens, the model {config.vocab_size}: it "
            "is not the one that the model was trained with"
        )
    if processor.pad_token is None:
        if processor.eos_token is None:
            raise InputError(f"the tokenizer of --model {checkpoint} has neither a padding nor an end-of-text token")
        processor.pad_token = processor.eos_token
    processor.padding_side = "right"  # where decoders expect it for classification
    config.pad_token_id = processor.pad_token_id
    return config, processor


def choose_length(asked: int | None, config, tokenizer) -> int:
    """How many tokens of a text are kept: what was asked for, or 128 where the model takes as many."""
    limit = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or USUAL_LENGTH)
    if any(name in config.model_type for name in SHIFTED_POSITIONS):
        limit = min(limit, config.max_position_embeddings - config.pad_token_id - 1)
    if (asked or 0) > limit:
        raise InputError(f"--max_length {asked} is more than the {limit} tokens that the model takes")
    return asked or min(USUAL_LENGTH, limit)


def load_network(auto: type, checkpoint: str, config, *, pretrained: bool = True) -> nn.Module:
    """The network of `config` with the checkpoint's weights, or with the random ones it would be trained from.

    auto: AutoModel for the encoder, AutoModelForSequenceClassification or AutoModelForImageClassification for a
          classifier, whose last linear map is always fresh. Weights are float32.
    Raises InputError where the checkpoint does not hold the network.
    """
    try:
        if not pretrained:
            return _random_network(auto, config)
        network, found = auto.from_pretrained(
            checkpoint, config=config, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"--model {checkpoint} could not be loaded: {' '.join(str(error).split())[:300]}") from error
    total, missing = len(network.state_dict()), found["missing_keys"]
    if len(missing) > total / 2:
        raise InputError(
            f"--model {checkpoint} lacks {len(missing)} of the {total} weights of {type(network).__name__}"
        )
    for name, has, needs in found["mismatched_keys"]:
        if needs[0] != config.num_labels:
            raise InputError(
                f"--model {checkpoint}: {name} has shape {list(has)}, its configuration says {list(needs)}"
            )
    if auto is not AutoModel:
        refresh_head(network)
    return network


def _random_network(auto: type, config) -> nn.Module:
    network = auto.from_config(config)
    if config.model_type == "timm_wrapper":  # which overwrites timm's own initialisation
        import timm

        classes = 0 if auto is AutoModel else config.num_labels
        network.timm_model = timm.create_model(config.architecture, num_classes=classes, **config.model_args or {})
    return network


def with_dropout(config, dropout: float | None):
    """The configuration with every dropout rate that it has set to `dropout`; None leaves them."""
    for name, value in config.to_dict().items():
        if dropout is not None and isinstance(value, float | int) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(config, name, dropout)
    return config
