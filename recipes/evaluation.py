"""What representations are worth, side by side: any encoders of images or texts, on any labelled dataset.

    hf-replearn evaluate --model out/mine --model timm/resnet18.a1_in1k --dataset path/to/fashion_mnist \\
        --output_dir out/report
    hf-replearn evaluate --model out/bert --model bert-base-uncased --dataset path/to/glue/sst2 --suite full \\
        --output_dir out/sst2
    hf-replearn evaluate --model out/bert --pooling cls --dataset path/to/glue/stsb --output_dir out/stsb

Frozen features, computed once and kept (`hf_replearn/features-*.npy` under HF_DATASETS_CACHE), are judged by k-shot and
linear classifiers, nearest neighbours, retrieval and clustering (pairs of sentences with scores by Spearman's
correlation, images with several labels by the protocols of VOC07), and described without labels; all beside the same
network from random weights and raw pixels or TF-IDF, with intervals and paired tests. The result is one page,
`report.html`. The quick suite takes minutes on a CPU core: 5,000 labels, 2,000 test examples.

`--finetune 0.01,0.1,1` also fine-tunes every network, once for each share of the labels; `hf-replearn finetune` does so
with several seeds and GLUE's metrics. `--add_to_card` writes the scores into the card of the first model. Under
`accelerate launch` or `torchrun`, each process computes its part of the features.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import MOST_WORKERS, as_dict, command_line, run, setting


@dataclass(frozen=True)
class Suite:
    """How much is measured: examples, draws of the k labels, neighbours that vote, queries and points of the maps."""

    train: int | None
    test: int | None
    draws: int
    neighbours: tuple[int, ...]
    points: int
    queries: int = 2000


SUITES = {"quick": Suite(5000, 2000, 5, (20,), 1000), "full": Suite(None, None, 20, (20, 200), 2000)}


@dataclass(kw_only=True)
class EvaluateSettings:
    model: tuple[str, ...] = setting(
        ..., "folder or Hub id of an encoder, transformers or timm format; may be given several times", section="model"
    )
    pooling: Literal["mean", "cls", "last"] = setting(
        "mean", "one vector of a text: mean of all tokens, the first, or the last", section="model"
    )
    layers: str = setting(
        "last",
        "layer that is judged: last, or its number (0: before the first block); all: the last, and k-shot, kNN, "
        "linear probe and fine-tuning of every layer",
        section="model",
    )
    baselines: bool = setting(True, "random weights, raw pixels or TF-IDF, and their PCA beside them", section="model")
    dataset: str = setting(
        ...,
        "file or folder of parquet, arrow, json, csv or tsv, or of images in class folders; a Hub id, or toy (digits)",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.csv'; none: all of the one kind there is", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    text_columns: str | None = setting(None, "a column of texts, or a pair A,B; none: by name or type", section="data")
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    label_column: str | None = setting(None, "column of the labels; none: by name or type", section="data")
    label_type: Literal["classes", "numbers"] | None = setting(
        None, "what the labels are, classes or numbers to regress on; none: by their type", section="data"
    )
    max_undecodable: float = setting(
        0.01, "share of images that may fail to decode before the run stops", section="data", at_least=0, at_most=1
    )
    value_range: tuple[float, ...] | None = setting(
        None, "LOW,HIGH: levels of 16- and 32-bit greys that become black and white; none: 0,65535", section="data"
    )
    train_examples: int | None = setting(
        None,
        "at random, each class by its share and at least once; none: 5,000 (quick) or all (full)",
        section="data",
        at_least=2,
    )
    test_examples: int | None = setting(
        None, "at random, each class by its share; none: 2,000 (quick) or all (full)", section="data", at_least=2
    )
    max_length: int | None = setting(
        None,
        "tokens kept of a text; none: 128, or what the model can take",
        section="data",
        at_least=2,
        at_most=1_000_000,
    )
    suite: Literal["quick", "full"] = setting("quick", "how much is measured", section="evaluation")
    shots: tuple[int, ...] | None = setting(
        None, "labels a class; none: 1, 2, 4, ... 64 as the smallest class allows", section="evaluation", at_least=1
    )
    finetune: tuple[float, ...] = setting(
        (),
        "fine-tune every network too (each layer, with --layers all), on these shares of the labels",
        section="evaluation",
        above=0,
        at_most=1,
    )
    learning_rate: float = setting(
        5e-5, "of --finetune (small networks need up to 3e-4)", section="evaluation", at_least=0, at_most=1000
    )
    add_to_card: bool = setting(
        False, "add the scores to the report and card of the first --model, a folder", section="run"
    )
    output_dir: str = setting(..., "folder for report.json and report.html", section="run")
    seed: int = setting(
        42, "of draws, k-means, random weights and pictures", section="run", at_least=0, at_most=2**31 - 1
    )
    use_cpu: bool = setting(False, "stay on the CPU even where there is a GPU", section="run")
    dataloader_num_workers: int = setting(
        0, "processes that load examples", section="run", at_least=0, at_most=MOST_WORKERS
    )


def main(settings: EvaluateSettings) -> None:
    """What representations are worth, side by side: any encoders of images or texts, on any labelled dataset."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the libraries alone may take ten seconds to load
        print(f"evaluating on {settings.dataset} …", flush=True)
    import transformers
    from accelerate import PartialState

    from hf_replearn.data.inventory import write_skipped
    from hf_replearn.data.labelled import balanced_subset
    from hf_replearn.errors import TrainingError
    from hf_replearn.evaluation.kept import Kept
    from hf_replearn.evaluation.side_by_side import (
        Protocol,
        check_labels,
        compare,
        judge_encoder,
        nothing_measured,
        over_layers,
    )
    from hf_replearn.evaluation.steps import at_work
    from hf_replearn.recipes.finetune import task_of
    from hf_replearn.representation import labels_of
    from hf_replearn.sharing.card import extend_card, extendable
    from hf_replearn.sharing.page import write_page
    from hf_replearn.sharing.show import try_to_show
    from hf_replearn.training.folder import check_folder, claim_folder

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Data. What can be wrong with the input is found out here, before anything is computed.
    out, scope = Path(settings.output_dir), SUITES[settings.suite]
    state = PartialState(cpu=settings.use_cpu)
    with state.main_process_first():
        if state.is_main_process:
            check_folder(settings)
            card = extendable(settings.model[0]) if settings.add_to_card else None
        data, train, test = load(settings, scope)
    kind = kind_of(settings, data, train, processes=state.num_processes)
    parts = sentences(test) if kind == "scores" else (train, test)
    how = {"draws": scope.draws, "neighbours": scope.neighbours, "queries": scope.queries, "seed": settings.seed}
    protocol = Protocol(kind=kind, shots=settings.shots, **how)
    shots = check_labels(protocol, labels_of(train), labels_of(test), names=data.label_names)
    protocol = replace(protocol, shots=shots)
    draws = {share: balanced_subset(labels_of(train).numpy(), share, seed=settings.seed) for share in settings.finetune}

    # 2. Encoders, and what they must beat
    learn_from = sentences(data.train, together=True)[0] if kind == "scores" else train
    sources, networks = encoders(settings, images=data.inputs == ["image"], learn_from=learn_from)

    # 3. Features: each process computes its part of those of networks
    features, origins = {}, {}
    for row in sources if state.is_main_process else networks:
        with at_work(f"features of {row}" if state.is_main_process and row not in networks else None):
            features[row], origins[row] = sources[row](*parts)
    if not state.is_main_process:
        return
    claim_folder(settings)
    write_skipped(out / "skipped_examples.txt", data.skipped)

    # 4. How well each test example does with them: what is computed is kept, and found again by a second start
    report, judged, kept = describe(settings, data, train, test, kind=kind, origins=origins), {}, Kept(out / KEPT)
    for row, layers in features.items():
        tuned = Tuned()
        if row in networks:
            tune = partial(finetuned, settings, *networks[row], test=test, names=data.label_names)
            tuned = fine_tuning(row, tune, draws, train, layers=layers, which=settings.layers, kept=kept)
        print(f"scores of {row} …", flush=True)
        judged[row] = judge_encoder(row, layers, labels_of(test), protocol=protocol, tuned=tuned.outcomes, kept=kept)
        note(report, row, judged[row], tuned)
        if kind == "classes" and len(layers) > 1:
            found, missing = over_layers(row, layers, protocol=protocol, kept=kept)
            report.layers[row] = found | tuned.by_layer
            report.missing[row] |= missing

    # 5. What every score means, whether the encoders differ, and all of it on disk
    report.protocols = explain(settings, report, judged, data=data, parts=(train, test))
    if kind != "several":
        with at_work("paired tests"):
            report.comparisons = compare(judged, labels_of(test), kind=kind, seed=settings.seed)
    report.save(out)
    print(f"\n{report.table()}\n", flush=True)

    # 6. Pictures, the page, the card of the first model
    if kind == "classes":
        last = {row: layers[-1] for row, layers in features.items()}
        draw(report, last, judged, test, points=scope.points, seed=settings.seed)
        report.save(out)
    page, _ = try_to_show("the page", partial(write_page, out))
    print(f"page: {page}" if page else f"report: {out / 'report.json'}")
    kept.forget()
    if card is not None:
        rows, protocols, missing = of_task(report, task_of(settings), first=next(iter(card.rows), card.method.name))
        extend_card(settings.model[0], rows, protocols=protocols, missing=missing)
    own = {row: found for row, found in judged.items() if networks.get(row, ("", False))[1]}
    if why := nothing_measured(own):
        raise TrainingError(f"of --model {' '.join(settings.model)} nothing could be measured: {why}")


# ---- data


def load(settings: EvaluateSettings, scope: Suite) -> tuple[Any, Any, Any]:
    """The data, and its training and test examples: as many as the suite takes, in the proportions of the data."""
    import numpy as np
    from accelerate import PartialState

    from hf_replearn.data.labelled import by_length, load_labelled
    from hf_replearn.evaluation.draws import proportional_subset
    from hf_replearn.metrics import GLUE
    from hf_replearn.representation import labels_of

    glue = Path(settings.dataset).name in GLUE or settings.dataset_config in GLUE
    data = load_labelled(
        settings.dataset,
        files=settings.files,
        config=settings.dataset_config,
        text_columns=settings.text_columns,
        image_column=settings.image_column,
        label_column=settings.label_column,
        label_type=settings.label_type,
        max_undecodable=settings.max_undecodable,
        value_range=settings.value_range,
        evaluate_on=("validation", "validation_matched", "test") if glue else ("test", "validation"),
        several=True,
    )
    PartialState().print(data.taken, *data.notes, sep="\n", flush=True)
    train, test = data.train, data.test
    for name, most in (
        ("train", settings.train_examples or scope.train),
        ("test", settings.test_examples or scope.test),
    ):
        part = train if name == "train" else test
        if most is not None and most < len(part):
            alike = data.label_names is None or labels_of(part).ndim == 2  # then there are no classes to keep apart
            labels = np.zeros(len(part), int) if alike else np.array(part["label"][:])
            try:
                rows = proportional_subset(labels, most, seed=settings.seed, every_class=name == "train")
            except InputError as error:
                raise InputError(f"--{name}_examples: {error}") from error
            part = part.select(rows)
        part = part.select(by_length(part))
        train, test = (part, test) if name == "train" else (train, part)
    return data, train, test


def kind_of(settings: EvaluateSettings, data, train, *, processes: int) -> Literal["classes", "several", "scores"]:
    """What the labels are. Raises InputError where the settings do not fit them."""
    if not re.fullmatch(r"last|all|\d+", settings.layers):
        raise InputError(f"--layers must be last, all or the number of a layer, got {settings.layers!r}")
    from hf_replearn.representation import labels_of

    several = data.label_names is not None and labels_of(train).ndim == 2
    kind = "scores" if data.label_names is None else "several" if several else "classes"
    if kind == "scores" and len(data.inputs) != 2:
        raise InputError(
            f"the labels of {settings.dataset!r} are numbers of single texts: only pairs of sentences with scores are "
            "evaluated so; use `hf-replearn finetune --mode linear`"
        )
    if settings.finetune and kind != "classes":
        raise InputError("--finetune is of examples with one class each; numbers are learnt by `hf-replearn finetune`")
    if settings.finetune and processes > 1:
        raise InputError("--finetune is for one process; several fine-tune together under `hf-replearn finetune`")
    return kind


def sentences(pairs, *, together: bool = False) -> list:
    """The first and the second sentences of pairs as datasets of texts, or both as one."""
    from datasets import Dataset, concatenate_datasets

    parts = [Dataset.from_dict({"text": pairs[name][:], "label": [0] * len(pairs)}) for name in ("text", "text_pair")]
    return [concatenate_datasets(parts)] if together else parts


# ---- encoders: each gives (two datasets) -> ([(their features) of each layer], facts for the report)


def encoders(settings: EvaluateSettings, *, images: bool, learn_from) -> tuple[dict[str, Callable], dict]:
    """Row of the report -> how to get its features, and, of networks, (checkpoint, whether with its weights). Whatever
    is wrong with a model is found out here.

    learn_from: the examples that words and principal components are found in.
    """
    from transformers import AutoModel, set_seed

    from hf_replearn.encoders.inputs import ProcessorInputs
    from hf_replearn.encoders.load import (
        choose_length,
        declared_pooling,
        load_network,
        load_processor,
        uses_token_types,
    )
    from hf_replearn.encoders.pooling import Pooling
    from hf_replearn.encoders.trial import try_encoder

    rows, networks, architectures = {}, {}, {}
    for model in settings.model:
        if settings.model.count(model) > 1:
            raise InputError(f"--model {model} is given twice")
        config, processor = load_processor(model, images=images)
        length = None if images else choose_length(settings.max_length, config, processor)
        preprocess = ProcessorInputs(processor, length, token_types=uses_token_types(config))
        name = Path(model).resolve().name if Path(model).exists() else model
        row = name if name not in rows else model
        pooling = partial(Pooling, how=settings.pooling, all_layers=settings.layers != "last")
        encoder = pooling(load_network(AutoModel, model, config))
        try_encoder(encoder, learn_from, preprocess=preprocess, named=f"--model {model}")
        if not encoder.own and (declared_pooling(model) or settings.pooling) != settings.pooling:
            print(f"{model} says it is pooled by {declared_pooling(model)}; here by --pooling {settings.pooling}")
        rows[row] = partial(represent, settings, encoder, preprocess, origin=model)
        networks[row] = model, True
        architecture = str({key: value for key, value in config.to_dict().items() if key != "_name_or_path"})
        architectures.setdefault(architecture, (row, model, config, preprocess))
    if settings.baselines:
        for row, model, config, preprocess in architectures.values():
            set_seed(settings.seed)
            encoder = pooling(load_network(AutoModel, model, config, pretrained=False))
            try_encoder(encoder, learn_from, preprocess=preprocess, named=f"{model} from random weights")
            name = "random weights" if len(architectures) == 1 else f"random weights of {row}"
            rows[name] = partial(represent, settings, encoder, preprocess, origin="random weights")
            networks[name] = model, False
        plain = "raw pixels" if images else "TF-IDF"
        rows[plain] = partial(plain_features, learn_from, components=None)
        rows["PCA of pixels" if images else "PCA of TF-IDF"] = partial(plain_features, learn_from, components=64)
    return rows, networks


def represent(settings: EvaluateSettings, encoder, preprocess, *parts, origin: str) -> tuple[list, dict[str, str]]:
    """Features of each layer of a network, computed once."""
    import datasets
    from accelerate import PartialState

    from hf_replearn.encoders.pooling import measure_layers
    from hf_replearn.representation import extract_once, split_layers

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


@dataclass
class Tuned:
    """What fine-tuning one network came to: which test examples it tells right, {"finetune@0.1": (1, M)}, its accuracy
    from each layer alone, {"finetune@0.1": [layer 0, 1, …]}, and why there is none."""

    outcomes: dict[str, Any] = field(default_factory=dict)
    by_layer: dict[str, list[float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def fine_tuning(row: str, tune: Callable, draws: dict, train, *, layers, which: str, kept) -> Tuned:
    """Of one network, the network itself and, of --layers all, each of its layers alone, on every draw of labels. One
    that fails takes no other with it."""
    from hf_replearn.evaluation.kept import key_of
    from hf_replearn.evaluation.steps import alone

    found, numbers = Tuned(), [int(which) if which.isdigit() else None]
    numbers += range(len(layers)) if which == "all" else ()
    for share, rows in draws.items():
        accuracies = []
        for place, number in enumerate(numbers):
            metric = f"finetune@{share:g}" + (f" of layer {number}" if place else "")
            examples = train.select(rows)

            def compute(metric=metric, number=number, examples=examples) -> tuple[dict, dict]:
                return {metric: tune(examples, layer=number)}, {}

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
    settings: EvaluateSettings,
    checkpoint: str,
    pretrained: bool,
    train,
    *,
    test,
    names: list[str],
    layer: int | None = None,
):
    """Which test examples (1, M) a network that was fine-tuned on all of train tells right, as `finetune` does it.

    layer: of that number, under a linear classifier of its pooled features; none: the network that transformers makes.
    """
    import torch
    from transformers import AutoModel, AutoModelForImageClassification, AutoModelForSequenceClassification, set_seed

    from hf_replearn.encoders.heads import LayerClassifier
    from hf_replearn.encoders.inputs import ProcessorInputs
    from hf_replearn.encoders.load import choose_length, load_network, load_processor, uses_token_types, with_dropout
    from hf_replearn.encoders.pooling import Pooling
    from hf_replearn.evaluation.finetune import finetune
    from hf_replearn.recipes.finetune import FinetuneSettings, training_arguments

    images = "image" in train.column_names
    auto = AutoModelForImageClassification if images else AutoModelForSequenceClassification
    head = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    config, processor = load_processor(checkpoint, images=images, num_labels=len(names), **head)
    length = None if images else choose_length(settings.max_length, config, processor)
    usual = FinetuneSettings(
        model=checkpoint, dataset=settings.dataset, output_dir=settings.output_dir, use_cpu=settings.use_cpu,
        learning_rate=settings.learning_rate, dataloader_num_workers=settings.dataloader_num_workers,
    )  # fmt: skip
    set_seed(settings.seed)
    config = with_dropout(config, usual.dropout)
    network = load_network(auto if layer is None else AutoModel, checkpoint, config, pretrained=pretrained)
    collate = ProcessorInputs(processor, length, token_types=uses_token_types(config))
    if layer is not None:
        pooling = Pooling(network, how=settings.pooling, all_layers=True)
        network = LayerClassifier(pooling, layer=layer, batch=collate([train[0]]), outputs=len(names))
    args = training_arguments(usual, examples=len(train), seed=settings.seed)
    told, labels = finetune(network, train, test, collate=collate, args=args)
    return torch.from_numpy(told == labels)[None].float()


def plain_features(learn_from, *parts, components: int | None) -> tuple[list, dict[str, str]]:
    """Pixels (32 x 32) or TF-IDF, or their principal components."""
    import torch

    from hf_replearn.representation import ImagePreprocessor, extract, pca, tfidf

    if "image" in learn_from.column_names:
        small = ImagePreprocessor(32, (0.5,) * 3, (0.5,) * 3)
        known, *found = (extract(torch.nn.Flatten(), part, preprocess=small) for part in (learn_from, *parts))
    else:
        known, *found = tfidf(learn_from, *parts)
    if components is not None:
        found = pca(known, *found, components=components)
    facts = {"from": "the data", "parameters": "–", "features": f"{found[0].x.shape[1]:,}", "pooling": "–"}
    return [tuple(found)], facts


# ---- scores and pictures


def describe(settings: EvaluateSettings, data, train, test, *, kind: str, origins: dict):
    """The report of this evaluation, without its scores."""
    from hf_replearn.sharing import report as facts

    return facts.Evaluation(
        task=facts.Task(
            name=data.name,
            hub_id=data.hub_id,
            unit="pair of sentences" if kind == "scores" else "image" if data.inputs == ["image"] else "text",
            train=0 if kind == "scores" else len(train),
            test=len(test),
            classes=data.label_names,
            held_out=data.test_source,
            notes=data.notes,
        ),
        encoders=origins,
        command=shlex.join(["hf-replearn", "evaluate", *command_line(settings)]),
        settings=as_dict(settings),
    )


def note(report, row: str, judged, tuned: Tuned) -> None:
    """What was measured of one encoder, and what was not, in the report."""
    untuned = {metric: None for metric in tuned.missing if " " not in metric}  # the others are of single layers
    report.rows[row] = judged.scores | untuned
    report.properties[row] = judged.properties
    report.missing[row] = judged.missing | tuned.missing


def explain(settings: EvaluateSettings, report, judged: dict, *, data, parts: tuple) -> dict[str, str]:
    """What every score means: of which examples it is."""
    from hf_replearn.evaluation.draws import in_words
    from hf_replearn.evaluation.suite import judged as in_full
    from hf_replearn.representation import labels_of
    from hf_replearn.sharing.page import properties_of

    train, test = parts
    plain = labels_of(test).ndim == 1 and data.label_names is not None
    how = {"seed": settings.seed, "classes": plain}
    things = "pairs" if data.label_names is None else "test examples"
    words = {
        "train": in_words(len(train), len(data.train), "labels", **how, every_class=True),
        "test": in_words(len(test), len(data.test), things, **how),
        "draws": SUITES[settings.suite].draws,
        "rate": settings.learning_rate,
        "queries": next((row.found["map"].shape[1] for row in judged.values() if "map" in row.found), 0),
        "alone": "",
    }
    if plain and (single := int((labels_of(test).bincount() == 1).sum())):
        words["alone"] = f" ({single} that are alone in their class cannot be found, and do not ask)"
    return in_full([*report.metrics, *properties_of(report)], **words)


def of_task(report, task: str, *, first: str) -> tuple[dict, dict[str, str], dict]:
    """Rows, protocols and what is missing of an evaluation as a card holds them: knn_sst2@20 for knn@20, and the first
    row's name. Fine-tuning with one seed has a name of its own, since `hf-replearn finetune` has several.
    """

    def named(metric: str) -> str:
        protocol, *parameters = re.split("(?=@|_ci95$)", metric, maxsplit=1)
        return "".join([f"{'finetune_once' if protocol == 'finetune' else protocol}_{task}", *parameters])

    # Principal components of these examples are not those of all that the run was trained on.
    some = f" ({report.task.train:,} {report.task.unit}s)" if report.task.train else ""
    others = [row + some if row.startswith("PCA of") else row for row in list(report.rows)[1:]]
    names = dict(zip(report.rows, [first, *others], strict=True))
    rows = {names[row]: {named(key): value for key, value in scores.items()} for row, scores in report.rows.items()}
    held_out = f" The test examples: {report.task.held_out} of {report.task.name}; frozen features pooled as "
    held_out += f"{next(iter(report.encoders.values()))['pooling']}." + "".join(f" {n}." for n in report.task.notes)
    known = {name: report.protocols[name] + held_out for name in dict.fromkeys(m.split("@")[0] for m in report.metrics)}
    missing = {
        names[row]: {named(key): why for key, why in found.items() if key in report.rows[row]}
        for row, found in report.missing.items()
    }
    return rows, {named(name): sentence for name, sentence in known.items()}, missing


def draw(report, features: dict, judged: dict, test, *, points: int, seed: int) -> None:
    """What the pictures of the page show: maps, nearest neighbours, top features, confusions of the linear probe.

    Pictures are for show: those of an encoder that cannot be drawn are missing, with the reason.
    """
    import numpy as np
    import torch

    from hf_replearn.evaluation.steps import alone

    rng = np.random.default_rng(seed)
    some = torch.from_numpy(np.sort(rng.permutation(len(test))[:points]))
    queries = rng.permutation(len(test))[:QUERIES].tolist()
    report.maps = {"labels": np.array(test["label"][:])[some.numpy()].tolist(), "PCA": {}, "t-SNE": {}}
    report.neighbours = {"queries": [shown(test[row], report.task.classes) for row in queries]}
    for row, (_, tested) in features.items():
        told = judged[row].told
        if told is not None:
            table = np.zeros((len(report.task.classes),) * 2, int)
            np.add.at(table, (tested.labels.numpy(), told.numpy()), 1)
            report.confusion[row] = table.tolist()
        steps = {"neighbours": partial(find_examples, report, row, tested, test, queries=queries)}
        if not row.startswith("PCA of"):  # whose maps are those of the features themselves
            steps["maps"] = partial(find_maps, report, row, tested[some], seed=seed)
        for name, step in steps.items():
            report.missing[row] |= alone(step, metrics=[name], what=f"{name} of {row}")[1]


def find_maps(report, row: str, some, *, seed: int) -> dict:
    """Both maps of some features (N, D), in the report."""
    from hf_replearn.evaluation.checks import check_finite
    from hf_replearn.evaluation.projection import pca_map, tsne_map
    from hf_replearn.sharing.figures import whole_numbers

    check_finite(some.x, "test")
    maps = {"PCA": whole_numbers(pca_map(some)), "t-SNE": whole_numbers(tsne_map(some, seed=seed))}
    for kind, places in maps.items():
        report.maps[kind][row] = places
    return {}


def find_examples(report, row: str, tested, test, *, queries: list[int]) -> dict:
    """The nearest neighbours of the queries, and the examples of the most selective features, in the report."""
    from hf_replearn.evaluation.checks import check_finite
    from hf_replearn.evaluation.label_free import most_active
    from hf_replearn.evaluation.retrieval import neighbours

    check_finite(tested.x, "test")
    names = report.task.classes
    nearest = neighbours(tested, tested.x[queries], k=NEIGHBOURS + 1).tolist()
    others = [[key for key in keys if key != query][:NEIGHBOURS] for query, keys in zip(queries, nearest, strict=True)]
    report.neighbours[row] = [[shown(test[key], names) for key in keys] for keys in others]
    report.top_features[row] = [
        {"feature": d, "selectivity": share, "examples": [shown(test[key], names) for key in keys]}
        for d, share, keys in most_active(tested, top=TOP_FEATURES, examples=ACTIVE)
    ]
    return {}


def shown(example: dict, names: list[str]) -> dict:
    """A row of a labelled dataset as the page shows it: a small picture or the beginning of a text, and its class."""
    import base64
    import io

    from hf_replearn.data.decoding import picture_of

    label = names[example["label"]]
    if "image" not in example:
        text = " / ".join(example[name] for name in ("text", "text_pair") if name in example)
        return {"text": text if len(text) <= 140 else text[:139] + "…", "label": label}
    image = picture_of(example)
    image.thumbnail((48, 48))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return {"image": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}", "label": label}


KEPT = ".measured"  # folder of what was computed, until the page is there
QUERIES, NEIGHBOURS = 6, 6
TOP_FEATURES, ACTIVE = 4, 8

if __name__ == "__main__":
    run(main, EvaluateSettings, prog="evaluate")
