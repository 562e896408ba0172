"""Fine-tuning of the networks of an evaluation, beside their frozen features."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModel, AutoModelForImageClassification, AutoModelForSequenceClassification, set_seed

from hf_replearn.encoders.encoder import read_inputs
from hf_replearn.encoders.heads import LayerClassifier
from hf_replearn.encoders.load import load_network, with_dropout
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.evaluation.contestants import Contestant, Layers
from hf_replearn.evaluation.examples import Examples
from hf_replearn.evaluation.finetune import finetune
from hf_replearn.evaluation.kept import Kept, key_of
from hf_replearn.evaluation.steps import alone
from hf_replearn.judging.arguments import Usual, training_arguments


@dataclass
class Tuned:
    """What fine-tuning one network came to: which test examples it tells right, {"finetune@0.1": (1, M)}, its accuracy
    from each layer alone, {"finetune@0.1": [layer 0, 1, …]}, and why there is none."""

    outcomes: dict[str, Any] = field(default_factory=dict)
    by_layer: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def tune_network(
    settings: Any,
    row: str,
    contestant: Contestant,
    examples: Examples,
    *,
    draws: dict[float, np.ndarray],
    layers: Layers,
    kept: Kept,
) -> Tuned:
    """Of one network, the network itself and, of --layers all, each of its layers alone, on every draw of labels. One
    that fails takes no other with it.

    draws: {share of the labels: rows of train}. layers: the frozen features, by which a second start knows it again.
    """
    which, names = settings.layers, examples.data.label_names
    tune = partial(finetuned, settings, contestant.checkpoint, contestant.pretrained, test=examples.test, names=names)
    found, numbers = Tuned(), [int(which) if which.isdigit() else None]
    numbers += range(len(layers)) if which == "all" else ()
    for share, rows in draws.items():
        accuracies = []
        for place, number in enumerate(numbers):
            metric = f"finetune@{share:g}" + (f" of layer {number}" if place else "")
            labelled = examples.train.select(rows)

            def compute(metric=metric, number=number, labelled=labelled) -> tuple[dict, dict]:
                return {metric: tune(labelled, layer=number)}, {}

            key = key_of("finetuned", *layers[-1], rows.tolist(), metric, number)
            print(f"{metric} of {row} …", flush=True)
            outcome, missing = alone(lambda key=key, compute=compute: kept.once(key, compute)[0], metrics=[metric])
            found.missing |= missing
            if place:
                accuracies += [right.mean().item() for right in outcome.values()]
            else:
                found.outcomes |= outcome
        if which == "all" and len(accuracies) == len(layers):
            found.by_layer[f"finetune@{share:g}"] = accuracies
    return found


def finetuned(
    settings: Any,
    checkpoint: str,
    pretrained: bool,
    train: Dataset,
    *,
    test: Dataset,
    names: list[str],
    layer: int | None = None,
) -> Tensor:
    """Which test examples (1, M) a network that was fine-tuned on all of train tells right, as `finetune` does it.

    layer: of that number, under a linear classifier of its pooled features; none: the network that transformers makes.
    """
    images = "image" in train.column_names
    auto = AutoModelForImageClassification if images else AutoModelForSequenceClassification
    head = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    modality, head = "image" if images else "text", head | {"num_labels": len(names)}
    config, collate = read_inputs(checkpoint, modality=modality, max_length=settings.max_length, **head)
    usual = Usual(
        output_dir=settings.output_dir,
        learning_rate=settings.learning_rate,
        use_cpu=settings.use_cpu,
        dataloader_num_workers=settings.dataloader_num_workers,
    )
    set_seed(settings.seed)
    config = with_dropout(config, usual.dropout)
    network = load_network(auto if layer is None else AutoModel, checkpoint, config, pretrained=pretrained)
    if layer is not None:
        pooling = Pooling(network, how=settings.pooling or "mean", all_layers=True)
        network = LayerClassifier(pooling, layer=layer, batch=collate([train[0]]), outputs=len(names))
    args = training_arguments(usual, examples=len(train), seed=settings.seed)
    told, labels = finetune(network, train, test, collate=collate, args=args)
    return torch.from_numpy(told == labels)[None].float()
