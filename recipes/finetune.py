"""What an encoder is worth on a labelled task: fine-tuned, or frozen under a linear probe, beside honest baselines.

    accelerate launch recipes/finetune.py --model out/mine --dataset path/to/glue/sst2 --label_fraction 0.01,0.1,1 \\
        --output_dir out/mine_sst2
    hf-replearn finetune --model bert-base-uncased --dataset nyu-mll/glue --dataset_config cola --output_dir out/cola
    hf-replearn finetune --model out/mine --dataset stsb.csv --mode linear --layers all --output_dir out/stsb
    hf-replearn finetune --model out/digits --dataset toy --label_fraction 0.1 --output_dir out/digits_finetuned
    hf-replearn finetune --model out/mine --dataset path/to/glue/cola --layers all --output_dir out/mine_cola

Texts and images, classes and numbers (regression). The tasks of GLUE are scored with their own metrics. Every network
stands beside the same one from random weights, trained in the same way on the same draws of labels.

On one CPU core, a BERT of 2 layers, 128 wide, takes about a minute for 633 steps of fine-tuning (a tenth of SST-2, 3
epochs), and the probes of all its layers with 1 %, 10 % and all of SST-2's 67,349 labels a minute and a half.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import MOST_WORKERS, SharedRunSettings, as_dict, command_line, run, setting


@dataclass(kw_only=True)
class FinetuneSettings(SharedRunSettings):
    model: str = setting(..., "folder or Hub id of an encoder: transformers or timm format", section="model")
    mode: Literal["full", "linear"] = setting(
        "full", "full: all weights are trained; linear: a probe on frozen features", section="model"
    )
    layers: str = setting(
        "last",
        "what is judged. last: the network as it is made; N: layer N (0: before the first block) under a linear "
        "classifier of its pooled features, with the blocks below it frozen (linear) or trained (full); all: the "
        "network, and each layer so",
        section="model",
    )
    dropout: float | None = setting(
        0.1,
        "full mode: every dropout rate of the configuration; none: as it is",
        section="model",
        at_least=0,
        at_most=1,
    )
    baseline: bool = setting(
        True, "the same network from random weights beside it, and TF-IDF or raw pixels", section="model"
    )
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
    label_fraction: tuple[float, ...] = setting(
        (1.0,), "share of the labels, balanced over classes, or several", section="data", above=0, at_most=1
    )
    max_length: int | None = setting(
        None,
        "tokens kept of a text; none: 128, or what the model can take",
        section="data",
        at_least=2,
        at_most=1_000_000,
    )
    metrics: str | None = setting(
        None, "with commas; none: GLUE's for its tasks, else accuracy, or pearson,spearman", section="data"
    )
    positive_class: str | None = setting(
        None, "the class that f1 is of; none: GLUE's (equivalent, duplicate), or 1 of 0 and 1", section="data"
    )
    seeds: int = setting(
        3,
        "repetitions, each with its draw of labels, fresh weights and order of the data; more can join a finished run",
        section="training",
        at_least=1,
        at_most=1000,
    )
    num_train_epochs: float = setting(3.0, "passes over the labelled examples", section="training", above=0)
    min_steps: int = setting(200, "steps at least, however few examples there are", section="training", at_least=1)
    per_device_train_batch_size: int = setting(
        32, "examples per process and step", section="training", at_least=1, at_most=1_000_000
    )
    learning_rate: float = setting(
        5e-5,
        "peak of AdamW's (BERT: 2e-5 to 5e-5; small networks need up to 3e-4)",
        section="training",
        at_least=0,
        at_most=1000,
    )
    weight_decay: float = setting(0.01, "of weight matrices", section="training", at_least=0)
    warmup_steps: float = setting(
        0.1, "linear warm-up before linear decay: steps, or a share of all below 1", section="training", at_least=0
    )
    bf16: bool | None = setting(None, "bfloat16 autocast; none: where the hardware has it", section="training")
    dataloader_num_workers: int = setting(
        0, "processes that load examples", section="training", at_least=0, at_most=MOST_WORKERS
    )
    add_to_card: bool = setting(False, "add the scores to the report and card of --model, a folder", section="run")


@dataclass(frozen=True)
class Task:
    """A labelled task as every way to learn it meets it.

    auto: the transformers class of its networks; collate: rows -> batch; positive: number of the class that f1 is of;
    largest: labels in the largest draw; layers: what is judged, as by `judged_layers`; processor: of the checkpoint.
    """

    settings: FinetuneSettings
    auto: type
    config: Any
    collate: Callable
    train: Any
    test: Any
    metrics: list[str]
    positive: int
    largest: int
    layers: dict[str, int | None]
    processor: Any


def main(settings: FinetuneSettings) -> None:
    """What an encoder is worth on a labelled task: fine-tuned, or frozen under a linear probe, beside baselines."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the libraries alone may take ten seconds to load
        print(f"learning on {settings.dataset} …", flush=True)
    import transformers

    from hf_replearn.data.inventory import write_skipped
    from hf_replearn.data.labelled import load_labelled
    from hf_replearn.encoders.inputs import ProcessorInputs
    from hf_replearn.encoders.load import choose_length, load_processor, uses_token_types, with_dropout
    from hf_replearn.errors import TrainingError
    from hf_replearn.metrics import GLUE
    from hf_replearn.sharing.card import extend_card
    from hf_replearn.sharing.finetuned import write_finetuned_card
    from hf_replearn.sharing.hub import push
    from hf_replearn.sharing.page import write_page
    from hf_replearn.sharing.results import check_sharing
    from hf_replearn.sharing.show import try_to_show
    from hf_replearn.training.folder import check_folder, claim_folder

    transformers.logging.set_verbosity_error()  # that a head is new is no news here
    transformers.logging.disable_progress_bar()  # of the loading of weights; those of training stay

    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    check_settings(settings)
    out, name = Path(settings.output_dir), task_of(settings)
    args = training_arguments(settings, examples=1, seed=settings.seed)
    with args.main_process_first(desc="reading the data"):
        if args.process_index == 0:
            check_folder(settings, free=["seeds"])
            repo_id = check_sharing(settings)
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
            evaluate_on=("validation", "validation_matched", "test") if name in GLUE else ("test", "validation"),
        )
    images = data.inputs == ["image"]
    names = choose_metrics(settings, name, data)
    positive = choose_positive(settings, name, data, metrics=names)
    encoder = name_of(settings)

    # 2. The network's configuration, and its tokenizer or image processor
    auto, head = network_of(settings, data)
    config, processor = load_processor(settings.model, images=images, **head)
    length = None if images else choose_length(settings.max_length, config, processor)
    config = with_dropout(config, settings.dropout if settings.mode == "full" else None)
    collate = ProcessorInputs(processor, length, token_types=uses_token_types(config))

    # 3. Labels: {(fraction, seed): rows of train}, the same draws for every network
    train, test, draws = draw_labels(settings, data)
    # Of all labels there is but one draw: what has no randomness of its own is measured on it once.
    few = {draw: rows for draw, rows in draws.items() if draw[1] == settings.seed or len(rows) < len(data.train)}

    # 4. Ways to learn the task, each with its draws
    layers = choose_layers(settings, auto, config, train, collate=collate)
    largest = max(map(len, draws.values()))
    task = Task(settings, auto, config, collate, train, test, list(names), positive, largest, layers, processor)
    if args.process_index == 0:
        claim_folder(settings)
        print(data.taken, *data.notes, sep="\n", flush=True)
        write_skipped(out / "skipped_examples.txt", data.skipped)
    elif settings.mode == "linear":
        return  # probes are one process's work
    way, its_draws = (fine_tuning, draws) if settings.mode == "full" else (probing, few)
    ways = {encoder: (partial(way, task, pretrained=True), its_draws)}
    if settings.baseline:
        ways["random weights"] = partial(way, task, pretrained=False), its_draws
        ways["raw pixels" if images else "TF-IDF"] = partial(plain_model, task), few

    # 5. Measure: what is measured is on disk at once, and one run that fails takes no other with it
    about = {"protocols": protocols(settings, names, data), "task": name, "data": data.name, "names": names}
    about["positive_class"] = data.label_names[positive] if "f1" in names else None
    runs = measure(settings, ways, draws, metrics=list(names), about=about, write=args.process_index == 0)
    if args.process_index:
        return

    # 6. Report and share
    rows, missing = tell(settings, runs, names=names, about=about)
    if settings.add_to_card:
        extend_card(settings.model, rows, protocols=about["protocols"], missing=missing)
    own = [value for run in runs if run["row"] == encoder for value in run["scores"].values()]
    if all(value is None or not math.isfinite(value) for value in own):
        raise TrainingError(f"of {encoder} nothing could be measured: {next(iter(missing[encoder].values()))}")
    if (out / "model").exists():
        try_to_show("the card of the network", partial(write_finetuned_card, out, repo_id=repo_id))
    try_to_show("the page", partial(write_page, out))
    if settings.push_to_hub and not (out / "model").exists():
        raise TrainingError(f"the fine-tuning with seed {settings.seed} failed: there is no network to push")
    if settings.push_to_hub:
        print(f"pushed to {push(out / 'model', repo_id, private=settings.hub_private_repo)}")


def tell(settings: FinetuneSettings, runs: list[dict], *, names: dict[str, str], about: dict) -> tuple[dict, dict]:
    """Prints the means of all runs and where everything is; draws the curve over layers. Returns the means of the
    network itself, {row: {metric: value}}, and why others are missing."""
    from hf_replearn.evaluation.repetitions import draw_layers, reasons, summarise, table

    out, rows, missing = Path(settings.output_dir), summarise(runs, names=names), reasons(runs, names=names)
    print(f"\n{table(rows)}")
    if about["positive_class"] is not None:
        print(f"{names['f1']}: F1 of the class {about['positive_class']!r}")
    for row, found in missing.items():
        for metric, why in found.items():
            print(f"– {metric} of {row}: {why}")
    print(f"\nevery run: {out / RUNS}")
    if (out / "model").exists():
        print(f"the fine-tuned network: {out / 'model'}")
    if settings.layers == "all":
        draw_layers(rows, name=next(iter(names.values()))).savefig(out / "layers.png", dpi=120)
        print(f"curve over layers: {out / 'layers.png'}")
    whole = [
        {row: {key: value for key, value in found.items() if " layer " not in key} for row, found in part.items()}
        for part in (rows, missing)
    ]
    return whole[0], whole[1]


# ---- ways to learn the task: each gives (rows of train that have labels, seed) -> {metric: score}


def fine_tuning(task: Task, *, pretrained: bool) -> Callable:
    """All weights, from the checkpoint or from random ones; the first network with the most labels is kept."""
    from transformers import AutoModel, set_seed

    from hf_replearn.encoders.heads import LayerClassifier
    from hf_replearn.encoders.load import load_network
    from hf_replearn.encoders.pooling import Pooling
    from hf_replearn.evaluation.finetune import finetune, score
    from hf_replearn.sharing.export import save_native

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
                task.processor.save_pretrained(Path(task.settings.output_dir, "model"))
        return found

    return learn


def probing(task: Task, *, pretrained: bool) -> Callable:
    """A linear probe of frozen layers, whose features are computed once for all draws."""
    from transformers import set_seed

    from hf_replearn.encoders.load import load_network
    from hf_replearn.encoders.pooling import Pooling
    from hf_replearn.encoders.trial import try_encoder
    from hf_replearn.evaluation.layers import probe_layers
    from hf_replearn.representation import extract, split_layers

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
    import torch

    from hf_replearn.evaluation.layers import bag_of_words, probe_layers
    from hf_replearn.representation import ImagePreprocessor, extract

    about = {"metrics": task.metrics, "positive": task.positive}
    if "image" not in task.train.column_names:
        return lambda rows, seed: bag_of_words(task.train.select(rows), task.test, seed=seed, **about)
    small = ImagePreprocessor(32, (0.5,) * 3, (0.5,) * 3)
    parts = [extract(torch.nn.Flatten(), part, preprocess=small, progress="pixels") for part in (task.train, task.test)]
    return partial(probe_layers, [tuple(parts)], which="last", **about)


# ---- settings -> what they mean


def network_of(settings: FinetuneSettings, data) -> tuple[type, dict[str, Any]]:
    """The transformers class to load, and what its configuration has to know about the labels."""
    import transformers

    if settings.mode == "linear":
        return transformers.AutoModel, {}
    names = data.label_names or ["score"]
    head = {"num_labels": len(names), "id2label": dict(enumerate(names))}
    head["label2id"] = {name: number for number, name in enumerate(names)}
    if data.inputs == ["image"]:
        return transformers.AutoModelForImageClassification, head
    head["problem_type"] = "single_label_classification" if data.label_names else "regression"
    return transformers.AutoModelForSequenceClassification, head


def choose_layers(settings: FinetuneSettings, auto: type, config, train, *, collate: Callable) -> dict[str, int | None]:
    """What is judged, as by `judged_layers`. Raises InputError for a layer that does not exist, and for a network that
    cannot be loaded, or not read these examples: it is tried, once, before anything is trained."""
    from transformers import AutoModel

    from hf_replearn.encoders.heads import Logits
    from hf_replearn.encoders.load import load_network
    from hf_replearn.encoders.pooling import Pooling
    from hf_replearn.encoders.trial import try_encoder
    from hf_replearn.evaluation.layers import judged_layers

    attempt = partial(try_encoder, rows=train, preprocess=collate, named=f"--model {settings.model}")
    if settings.mode == "full" and not settings.layers.isdigit():
        attempt(Logits(load_network(auto, settings.model, config)), classifier=True)
        if settings.layers == "last":
            return judged_layers("last", 1)
    encoder = Pooling(load_network(AutoModel, settings.model, config), all_layers=settings.layers != "last")
    attempt(encoder)
    return judged_layers(settings.layers, len(encoder.widths))


def draw_labels(settings: FinetuneSettings, data) -> tuple[Any, Any, dict]:
    """The training examples of any draw and the test examples, short texts first, and {(fraction, seed): rows}."""
    import numpy as np

    from hf_replearn.data.labelled import balanced_subset, by_length

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


def training_arguments(settings: FinetuneSettings, *, examples: int, seed: int):
    """What transformers.Trainer is told to fine-tune on so many examples."""
    import torch
    from transformers import TrainingArguments

    from hf_replearn.training.settings import has_bf16

    use_cpu = settings.use_cpu or not torch.accelerator.is_available()
    args = TrainingArguments(
        output_dir=settings.output_dir,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        per_device_eval_batch_size=4 * settings.per_device_train_batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        lr_scheduler_type="linear",
        bf16=has_bf16("cpu" if use_cpu else "cuda") if settings.bf16 is None else settings.bf16,
        dataloader_num_workers=settings.dataloader_num_workers,
        remove_unused_columns=False,  # the collator needs the raw columns
        logging_strategy="no",
        disable_tqdm=False,
        save_strategy="no",
        seed=seed,
        use_cpu=use_cpu,
        report_to="none",
    )
    if args.n_gpu > 1:
        raise InputError(
            f"{args.n_gpu} GPUs are visible to one process: start the recipe with `accelerate launch --multi_gpu "
            f"--num_processes {args.n_gpu}`, or show it one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    batches = math.ceil(examples / (settings.per_device_train_batch_size * args.world_size))
    args.max_steps = max(settings.min_steps, math.ceil(settings.num_train_epochs * batches))
    return args


def check_settings(settings: FinetuneSettings) -> None:
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


def choose_metrics(settings: FinetuneSettings, task: str, data) -> dict[str, str]:
    """Metric -> its name in tables and reports: finetune_sst2 or, of several, finetune_mrpc_f1.

    Raises InputError for a metric that does not exist or does not fit the labels.
    """
    from hf_replearn.evaluation.checks import check_varied
    from hf_replearn.metrics import GLUE, METRICS
    from hf_replearn.representation import labels_of

    numbers = ("pearson", "spearman")
    if data.label_names is None:
        usual = suitable = numbers
    else:
        usual = ("accuracy",)
        suitable = tuple(
            name for name in METRICS if name not in numbers and (name != "f1" or len(data.label_names) == 2)
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


def choose_positive(settings: FinetuneSettings, task: str, data, *, metrics) -> int:
    """The number of the class that f1 is of; 1 where f1 is not asked for.

    Raises InputError where it is not clear which class that is.
    """
    from hf_replearn.metrics import POSITIVE

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


def name_of(settings: FinetuneSettings) -> str:
    """The name of the model in tables: that of its report where it was pretrained with this package."""
    from hf_replearn.sharing.card import extendable
    from hf_replearn.sharing.report import FILE

    folder = Path(settings.model)
    if settings.add_to_card or (folder / FILE).exists():
        report = extendable(folder)
        return next(iter(report.rows), report.method.name)
    return folder.resolve().name if folder.exists() else settings.model


def measure(
    settings: FinetuneSettings, ways: dict, draws: dict, *, metrics: list[str], about: dict[str, Any], write: bool
) -> list[dict]:
    """Every row with each of its draws; what an earlier start, perhaps with other seeds, has measured is only read.

    A run that fails has the reason in the place of its scores; the next start tries it again. about: what the scores
    are, for those who read the file.
    """
    from hf_replearn.evaluation.steps import NOT_A_NUMBER, alone

    path = Path(settings.output_dir, RUNS)
    runs = read_runs(path) if path.exists() else []
    runs = [found for found in runs if not found.get("missing")]
    done = {key(found) for found in runs}
    for row, (way, its_draws) in ways.items():
        learn = None
        for share, seed in (draw for draw in its_draws if (row, *draw) not in done):
            rows, start = draws[share, seed], time.time()
            name = f"{row}, {len(rows):,} labels ({100 * share:g}%), seed {seed}"
            if learn is None:
                learn = way()
            bars = way.func is fine_tuning  # which show by themselves how far they are
            scores, missing = alone(
                partial(learn, rows, seed=seed), metrics=metrics, what=name if write and not bars else None
            )
            missing = {metric: UNDEFINED if why == NOT_A_NUMBER else why for metric, why in missing.items()}
            found = {"row": row, "label_fraction": share, "seed": seed, "labels": len(rows)}
            found |= {"scores": scores | dict.fromkeys(missing), "seconds": round(time.time() - start, 1)}
            runs.append(found | ({"missing": missing} if missing else {}))
            if write:
                write_runs(path, runs, settings, about)
                shown = [f"{metric} {value:.3f}" for metric, value in scores.items() if " layer " not in metric]
                shown += [f"{metric} – ({why})" for metric, why in missing.items() if " layer " not in metric]
                print(f"{name}: {', '.join(shown)}", flush=True)
    asked = {(row, *draw) for row, (_, its_draws) in ways.items() for draw in its_draws}
    return [found for found in runs if key(found) in asked]


def read_runs(path: Path) -> list[dict]:
    """What an earlier start has measured. Raises InputError where the file is damaged: it is not written over."""
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        [key(found) for found in runs]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}): move it away to measure anew") from error
    return runs


def key(found: dict) -> tuple[str, float, int]:
    """What tells one measurement of a run from the others: row, share of the labels, seed."""
    return found["row"], found["label_fraction"], found["seed"]


def write_runs(path: Path, runs: list[dict], settings: FinetuneSettings, about: dict[str, Any]) -> None:
    """A file that is whole at any time. NaN, for which JSON has no word, becomes null."""
    from hf_replearn.files import write_whole
    from hf_replearn.sharing.report import finite, software_versions

    command = shlex.join(["hf-replearn", "finetune", *command_line(settings)])
    content = {"runs": finite(runs), **about, "command": command, "settings": as_dict(settings)}
    content["versions"] = software_versions()
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def protocols(settings: FinetuneSettings, names: dict[str, str], data) -> dict[str, str]:
    """What each score means, in one sentence."""
    labels = "a random share of the labels" + ("" if data.label_names is None else ", balanced over classes")
    layer = f"layer {settings.layers}" if settings.layers.isdigit() else None
    full = f"{layer} and all below it, under a linear classifier of its pooled features," if layer else "all weights"
    how = {
        "full": f"after fine-tuning {full} on {labels} (AdamW, learning rate {settings.learning_rate:g}, batch "
        f"{settings.per_device_train_batch_size}, {settings.num_train_epochs:g} epochs, at least {settings.min_steps} "
        f"steps, dropout {settings.dropout})",
        "linear": f"of a linear model of the frozen {layer or 'last layer'}, averaged over positions, fitted to "
        f"{labels}",
    }[settings.mode]
    seeds = "one seed" if settings.seeds == 1 else f"mean of {settings.seeds} seeds with the 95 % t interval over them"
    plain = "raw pixels" if data.inputs == ["image"] else "TF-IDF"
    positive = None
    if "f1" in names:
        positive = data.label_names[choose_positive(settings, task_of(settings), data, metrics=names)]
    shown = {metric: metric.replace("_", " ").capitalize() for metric in names}
    shown |= {"f1": f"F1 of the class {positive!r}", "f1_macro": "Macro F1"}
    return {
        name: f"{shown[metric]} on {data.test_source} of {data.name} ({len(data.test):,} "
        f"examples) {how}; {seeds}. {plain}: a linear model of these on the same labels."
        + "".join(f" {note}." for note in data.notes)
        for metric, name in names.items()
    }


RUNS = "scores.json"
UNDEFINED = "predictions or true values that are all the same have no correlation"

if __name__ == "__main__":
    run(main, FinetuneSettings, prog="finetune")
