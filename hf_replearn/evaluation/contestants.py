"""Who is judged side by side: encoders by folder or Hub id, and the baselines that they must beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from datasets import Dataset
from torch import nn
from transformers import AutoModel, set_seed

from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.load import choose_length, declared_pooling, load_network, load_processor, uses_token_types
from hf_replearn.encoders.pooling import Pooling, measure_layers
from hf_replearn.encoders.trial import try_encoder
from hf_replearn.errors import InputError
from hf_replearn.evaluation.examples import Examples
from hf_replearn.representation import Features, ImagePreprocessor, extract, extract_once, pca, split_layers, tfidf

Layers = list[tuple[Features, Features]]  # of each layer those of both parts


@dataclass(frozen=True)
class Contestant:
    """One row of the report.

    represent: both parts of the examples -> ([their features] of each layer, facts for the report).
    asked:     whether the user named it; else it is a baseline.
    shared:    whether every process computes its part; else the first computes all.
    checkpoint, pretrained: of a network that can be fine-tuned, and whether it starts from the checkpoint's weights.
    """

    represent: Callable[..., tuple[Layers, dict[str, str]]]
    asked: bool = False
    shared: bool = False
    checkpoint: str | None = None
    pretrained: bool = True


def find_contestants(settings: Any, examples: Examples) -> dict[str, Contestant]:
    """Row of the report -> who is judged, the user's encoders first. Whatever is wrong with one is found out here.

    settings: of `evaluate`. Raises InputError.
    """
    found, architectures = {}, {}
    for model in settings.model:
        if settings.model.count(model) > 1:
            raise InputError(f"--model {model} is given twice")
        config, preprocess = _inputs(settings, model, images=examples.images)
        name = Path(model).resolve().name if Path(model).exists() else model
        row = name if name not in found else model
        encoder = _pooled(settings, load_network(AutoModel, model, config))
        try_encoder(encoder, examples.learn_from, preprocess=preprocess, named=f"--model {model}")
        if not encoder.own and (declared_pooling(model) or settings.pooling) != settings.pooling:
            print(f"{model} says it is pooled by {declared_pooling(model)}; here by --pooling {settings.pooling}")
        network = partial(represent, settings, encoder, preprocess, origin=model)
        found[row] = Contestant(network, asked=True, shared=True, checkpoint=model)
        architecture = str({key: value for key, value in config.to_dict().items() if key != "_name_or_path"})
        architectures.setdefault(architecture, (row, model, config, preprocess))
    if settings.baselines:
        for row, model, config, preprocess in architectures.values():
            set_seed(settings.seed)
            encoder = _pooled(settings, load_network(AutoModel, model, config, pretrained=False))
            named = f"{model} from random weights"
            try_encoder(encoder, examples.learn_from, preprocess=preprocess, named=named)
            network = partial(represent, settings, encoder, preprocess, origin="random weights")
            name = "random weights" if len(architectures) == 1 else f"random weights of {row}"
            found[name] = Contestant(network, shared=True, checkpoint=model, pretrained=False)
        plain = "raw pixels" if examples.images else "TF-IDF"
        principal = "PCA of pixels" if examples.images else "PCA of TF-IDF"
        found[plain] = Contestant(partial(plain_features, examples.learn_from, components=None))
        found[principal] = Contestant(partial(plain_features, examples.learn_from, components=64))
    return found


def _inputs(settings: Any, model: str, *, images: bool) -> tuple[Any, ProcessorInputs]:
    """The configuration of a checkpoint, and how its own processor makes batches of rows."""
    config, processor = load_processor(model, images=images)
    length = None if images else choose_length(settings.max_length, config, processor)
    return config, ProcessorInputs(processor, length, token_types=uses_token_types(config))


def _pooled(settings: Any, network: nn.Module) -> Pooling:
    return Pooling(network, how=settings.pooling, all_layers=settings.layers != "last")


def represent(
    settings: Any, encoder: Pooling, preprocess: ProcessorInputs, *parts: Dataset, origin: str
) -> tuple[Layers, dict[str, str]]:
    """Features of each layer of a network, computed once."""

    encoder = encoder.to(PartialState().device).eval()
    measure_layers(encoder, preprocess([parts[0][0]]))
    if settings.layers.isdigit() and int(settings.layers) >= len(encoder.widths):
        raise InputError(f"--layers {settings.layers}: {origin} has the layers 0 to {len(encoder.widths) - 1}")
    extracted = [
        extract_once(
            encoder,
            part,
            preprocess=preprocess,
            cache=Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn"),
            num_workers=settings.dataloader_num_workers,
            progress=f"features of {len(part):,} examples",
        )
        for part in parts
    ]
    layers = list(zip(*(split_layers(part, encoder.widths) for part in extracted), strict=True))
    if settings.layers.isdigit():
        layers = [layers[int(settings.layers)]]
    count = sum(parameter.numel() for parameter in encoder.parameters())
    facts = {"from": origin, "parameters": f"{count:,}", "features": f"{layers[-1][0].x.shape[1]:,}"}
    layer = f" of layer {settings.layers}" if settings.layers.isdigit() else ""
    return layers, facts | {"pooling": "its own" if encoder.own and not layer else settings.pooling + layer}


def plain_features(learn_from: Dataset, *parts: Dataset, components: int | None) -> tuple[Layers, dict[str, str]]:
    """Pixels (32 x 32) or TF-IDF, or their principal components."""

    if "image" in learn_from.column_names:
        small = ImagePreprocessor(32, (0.5,) * 3, (0.5,) * 3)
        known, *found = (extract(torch.nn.Flatten(), part, preprocess=small) for part in (learn_from, *parts))
    else:
        known, *found = tfidf(learn_from, *parts)
    if components is not None:
        found = pca(known, *found, components=components)
    facts = {"from": "the data", "parameters": "–", "features": f"{found[0].x.shape[1]:,}", "pooling": "–"}
    return [tuple(found)], facts
