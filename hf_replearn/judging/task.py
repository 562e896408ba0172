"""A labelled task: its data, network, labels and metrics, as the settings say, checked before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers import AutoModel

from hf_replearn.data.labelled import balanced_subset, by_length
from hf_replearn.encoders.heads import Logits
from hf_replearn.encoders.load import load_network
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.encoders.trial import try_encoder
from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_varied
from hf_replearn.evaluation.layers import judged_layers
from hf_replearn.metrics import GLUE, METRICS, POSITIVE, QUESTIONS
from hf_replearn.representation import labels_of
from hf_replearn.sharing.card import extendable
from hf_replearn.sharing.report import FILE


@dataclass(frozen=True)
class Task:
    """A labelled task as every way to learn it meets it.

    auto: the transformers class of its networks; collate: rows -> batch; positive: number of the class that f1 is of;
    largest: labels in the largest draw; layers: what is judged, as by `judged_layers`.
    """

    settings: Any
    auto: type
    config: Any
    collate: Callable
    train: Any
    test: Any
    metrics: list[str]
    positive: int
    largest: int
    layers: dict[str, int | None]


def check_settings(settings: Any) -> None:
    """Raises InputError for what the types of the settings do not rule out."""
    if not re.fullmatch(r"last|all|\d+", settings.layers):
        raise InputError(f"--layers must be last, all or the number of a layer, got {settings.layers!r}")
    if settings.push_to_hub and settings.mode == "linear":
        raise InputError("--push_to_hub shares the fine-tuned network, which --mode linear does not have")
    if settings.push_to_hub and settings.layers.isdigit():
        raise InputError(f"--push_to_hub shares the fine-tuned network, which --layers {settings.layers} does not make")


def task_of(settings: Any) -> str:
    """`sst2` of path/glue/sst2, of the Hub's glue with the configuration sst2, or of somebody/SST-2."""
    return re.sub(r"\W+", "", (settings.dataset_config or Path(settings.dataset).stem).lower())


def network_of(settings: Any, data) -> tuple[type, dict[str, Any]]:
    """The transformers class to load, and what its configuration has to know about the labels."""
    if settings.mode == "linear":
        return transformers.AutoModel, {}
    names = data.label_names or ["score"]
    head = {"num_labels": len(names), "id2label": dict(enumerate(names))}
    head["label2id"] = {name: number for number, name in enumerate(names)}
    if data.inputs == ["image"]:
        return transformers.AutoModelForImageClassification, head
    head["problem_type"] = "single_label_classification" if data.label_names else "regression"
    return transformers.AutoModelForSequenceClassification, head


def choose_layers(settings: Any, auto: type, config, train, *, collate: Callable) -> dict[str, int | None]:
    """What is judged, as by `judged_layers`. Raises InputError for a layer that does not exist, and for a network that
    cannot be loaded, or not read these examples: it is tried, once, before anything is trained."""
    attempt = partial(try_encoder, rows=train, preprocess=collate, named=f"--model {settings.model}")
    if settings.mode == "full" and not settings.layers.isdigit():
        attempt(Logits(load_network(auto, settings.model, config)), classifier=True)
        if settings.layers == "last":
            return judged_layers("last", 1)
    encoder = Pooling(load_network(AutoModel, settings.model, config), all_layers=settings.layers != "last")
    attempt(encoder)
    return judged_layers(settings.layers, len(encoder.widths))


def draw_labels(settings: Any, data) -> tuple[Any, Any, dict]:
    """The training examples of any draw and the test examples, short texts first, and {(fraction, seed): rows}."""
    labels = np.array(data.train["label"][:])
    classes = np.zeros(len(labels), int) if data.label_names is None else labels
    seeds = range(settings.seed, settings.seed + settings.seeds)
    shares = sorted(set(settings.label_fraction))
    draws = {(share, seed): balanced_subset(classes, share, seed=seed) for share in shares for seed in seeds}
    used = np.unique(np.concatenate(list(draws.values())))
    used = used[by_length(data.train.select(used))]
    place = np.empty(len(labels), int)
    place[used] = np.arange(len(used))
    draws = {draw: np.sort(place[rows]) for draw, rows in draws.items()}
    return data.train.select(used), data.test.select(by_length(data.test)), draws


def choose_metrics(settings: Any, task: str, data) -> dict[str, str]:
    """Metric -> its name in tables and reports: finetune_sst2 or, of several, finetune_mrpc_f1.

    Raises InputError for a metric that does not exist or does not fit the labels.
    """
    numbers = ("pearson", "spearman")
    if data.label_names is None:
        usual = suitable = numbers
    else:
        usual = ("accuracy",)
        suitable = tuple(
            name
            for name in METRICS
            if name not in (*numbers, *QUESTIONS) and (name != "f1" or len(data.label_names) == 2)
        )
    chosen = GLUE[task] if set(GLUE.get(task, ["none"])) <= set(suitable) else usual
    if settings.metrics is not None:
        chosen = settings.metrics.replace(" ", "").split(",")
    if data.label_names is None:
        check_varied(labels_of(data.test))
    if wrong := [name for name in chosen if name not in suitable]:
        raise InputError(f"--metrics {wrong[0]} does not fit these labels; choose from {', '.join(suitable)}")
    family = {"full": "finetune", "linear": "linear_probe"}[settings.mode]
    return {metric: f"{family}_{task}" + (f"_{metric}" if len(chosen) > 1 else "") for metric in chosen}


def choose_positive(settings: Any, task: str, data, *, metrics) -> int:
    """The number of the class that f1 is of; 1 where f1 is not asked for.

    Raises InputError where it is not clear which class that is.
    """
    names, asked = data.label_names or [], settings.positive_class
    if "f1" not in metrics:
        if asked is not None:
            raise InputError(f"--positive_class {asked} is of f1 only, and the metrics are {', '.join(metrics)}")
        return 1
    if asked is not None and asked not in names:
        raise InputError(f"--positive_class {asked!r} is no class; the classes are {', '.join(names)}")
    usual = {("0", "1"): "1", ("False", "True"): "True"}.get(tuple(names), POSITIVE.get(task))
    if asked is None and usual not in names:
        raise InputError(
            f"F1 is of one class, and which one is not clear: give --positive_class {names[0]} or --positive_class "
            f"{names[1]}, or --metrics f1_macro, the mean over both"
        )
    return names.index(usual if asked is None else asked)


def name_of(settings: Any) -> str:
    """The name of the model in tables: that of its report where it was pretrained with this package."""
    folder = Path(settings.model)
    if settings.add_to_card or (folder / FILE).exists():
        report = extendable(folder)
        return next(iter(report.rows), report.method.name)
    return folder.resolve().name if folder.exists() else settings.model
