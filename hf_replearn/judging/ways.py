"""Ways to learn a task: each gives (rows of train that have labels, seed) -> {metric: score}."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModel, set_seed

from hf_replearn.encoders.heads import LayerClassifier
from hf_replearn.encoders.load import load_network
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.encoders.trial import try_encoder
from hf_replearn.evaluation.finetune import finetune, score
from hf_replearn.evaluation.layers import bag_of_words, probe_layers
from hf_replearn.judging.arguments import training_arguments
from hf_replearn.judging.task import Task
from hf_replearn.representation import ImagePreprocessor, extract, split_layers
from hf_replearn.sharing.export import save_native


def fine_tuning(task: Task, *, pretrained: bool) -> Callable:
    """All weights, from the checkpoint or from random ones; the first network with the most labels is kept."""
    load = partial(load_network, checkpoint=task.settings.model, config=task.config, pretrained=pretrained)

    def learn(rows, *, seed: int) -> dict[str, float]:
        examples, found = task.train.select(rows), {}
        for name, layer in task.layers.items():
            set_seed(seed)
            if layer is None:
                network = load(task.auto)
            else:
                pooling, batch = Pooling(load(AutoModel), all_layers=True), task.collate([examples[0]])
                network = LayerClassifier(pooling, layer=layer, batch=batch, outputs=task.config.num_labels)
            args = training_arguments(task.settings, examples=len(rows), seed=seed)
            told = finetune(network, examples, task.test, collate=task.collate, args=args)
            scores = score(*told, metrics=task.metrics, positive=task.positive)
            found |= {metric + name: value for metric, value in scores.items()}
            keep = layer is None and pretrained and seed == task.settings.seed and len(rows) == task.largest
            if keep and args.process_index == 0:
                save_native(network, Path(task.settings.output_dir, "model"))
                task.collate.processor.save_pretrained(Path(task.settings.output_dir, "model"))
        return found

    return learn


def probing(task: Task, *, pretrained: bool) -> Callable:
    """A linear probe of frozen layers, whose features are computed once for all draws."""
    settings = task.settings
    set_seed(settings.seed)
    device = training_arguments(settings, examples=1, seed=settings.seed).device
    network = load_network(task.auto, settings.model, task.config, pretrained=pretrained).to(device)
    encoder = Pooling(network, all_layers=settings.layers != "last")
    try_encoder(encoder, task.train, preprocess=task.collate, named=f"--model {settings.model}")
    represent = partial(extract, encoder, preprocess=task.collate, num_workers=settings.dataloader_num_workers)
    parts = [represent(part, progress=f"features of {len(part):,} examples") for part in (task.train, task.test)]
    layers = list(zip(*(split_layers(part, encoder.widths) for part in parts), strict=True))
    return partial(probe_layers, layers, which=settings.layers, metrics=task.metrics, positive=task.positive)


def plain_model(task: Task) -> Callable:
    """A linear model without the network: of TF-IDF, or of pixels."""
    about = {"metrics": task.metrics, "positive": task.positive}
    if "image" not in task.train.column_names:
        return lambda rows, seed: bag_of_words(task.train.select(rows), task.test, seed=seed, **about)
    small = ImagePreprocessor(32, (0.5,), (0.5,))
    parts = [extract(torch.nn.Flatten(), part, preprocess=small, progress="pixels") for part in (task.train, task.test)]
    return partial(probe_layers, [tuple(parts)], which="last", **about)
