"""Fine-tuning: how well a network learns a task when all its weights may move, from a checkpoint's or random ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer, ProgressCallback, Trainer

from hf_replearn.errors import InputError
from hf_replearn.metrics import METRICS
from hf_replearn.representation import Pooling

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
        _refresh_head(network)
    return network


class LayerClassifier(nn.Module):
    """A fresh linear map of the pooled features of one layer, below which everything can be fine-tuned.

    pooling: all layers of an encoder. layer: 0 is what stands before the first block; blocks after it stay as they are.
    batch:   one to learn the width of the layer from. outputs: classes, or 1 where labels are numbers.
    """

    accepts_loss_kwargs = False  # the loss is the mean of a batch

    def __init__(self, pooling: Pooling, *, layer: int, batch, outputs: int):
        super().__init__()
        self.pooling, self.layer = pooling, layer
        self.head = nn.Linear(measure_layers(pooling, batch)[layer], outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, labels: torch.Tensor, **inputs) -> dict[str, torch.Tensor]:
        logits = self.head(self.pooling.layers(inputs)[self.layer])
        if labels.is_floating_point():
            return {"loss": nn.functional.mse_loss(logits.squeeze(1), labels), "logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


@torch.no_grad()
def measure_layers(pooling: Pooling, batch) -> list[int]:
    """The width of each layer that it gives."""
    pooling.eval()(batch.to(next(pooling.parameters()).device))
    return pooling.widths


def _random_network(auto: type, config) -> nn.Module:
    network = auto.from_config(config)
    if config.model_type == "timm_wrapper":  # which overwrites timm's own initialisation
        import timm

        classes = 0 if auto is AutoModel else config.num_labels
        network.timm_model = timm.create_model(config.architecture, num_classes=classes, **config.model_args or {})
    return network


@torch.no_grad()
def _refresh_head(network: nn.Module) -> None:
    """A checkpoint that was fine-tuned before has a classifier of its own, maybe of the very task to be measured."""
    for name, module in network.named_modules():
        own = isinstance(module, nn.Linear) and not name.startswith(network.base_model_prefix)
        if own and module.out_features == network.config.num_labels:
            module.weight.normal_(std=network.config.initializer_range)
            if module.bias is not None:
                module.bias.zero_()


def with_dropout(config, dropout: float | None):
    """The configuration with every dropout rate that it has set to `dropout`; None leaves them."""
    for name, value in config.to_dict().items():
        if dropout is not None and isinstance(value, float | int) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(config, name, dropout)
    return config


def finetune(network: nn.Module, train, test, *, collate: Callable, args) -> tuple[np.ndarray, np.ndarray]:
    """Trains `network` on all rows of train, in place; returns its predictions on test and the labels, (M,) each.

    collate: rows -> batch with `labels`. args: transformers.TrainingArguments. Batches hold texts of about one length.
    """
    if "text" in train.column_names:  # padding would be half of the work
        args.train_sampling_strategy = "group_by_length"
        texts = zip(*(train[name][:] for name in ("text", "text_pair") if name in train.column_names), strict=True)
        train = train.add_column(args.length_column_name, [sum(map(len, parts)) for parts in texts])
    trainer = Trainer(model=network, args=args, train_dataset=train, data_collator=collate)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar())
    trainer.train()
    args.train_sampling_strategy = "random"  # it would order test too, which is in the order of length
    found = trainer.predict(test)
    logits = found.predictions[0] if isinstance(found.predictions, tuple) else found.predictions
    return logits.squeeze(1) if logits.shape[1] == 1 else logits.argmax(axis=1), found.label_ids


class _Bar(ProgressCallback):
    """Without the dictionaries that it prints in between."""

    def on_log(self, args, state, control, **kwargs):
        pass


def score(predictions: np.ndarray, references: np.ndarray, *, metrics: Sequence[str]) -> dict[str, float]:
    """Each metric's value by its name."""
    scores = {}
    for name in metrics:
        scores |= METRICS[name](keep_in_memory=True).compute(predictions=predictions, references=references)
    return scores
