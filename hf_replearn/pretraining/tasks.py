"""The story of several labelled tasks at once: their data, one trunk with a head each, training, trunk and heads in the
formats of others, each task alone beside it with as many batches, report, card, upload."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from datasets import Dataset
from safetensors.torch import load_model
from torch import nn
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, set_seed

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.labelled import by_length
from hf_replearn.data.tasks import Asked, load_tasks, read_tasks
from hf_replearn.encoders.backbones import count_parameters
from hf_replearn.encoders.encoder import read_inputs
from hf_replearn.encoders.heads import Logits
from hf_replearn.encoders.load import channels_wanted, load_network, modality_of, with_dropout
from hf_replearn.encoders.shared import keep_size, share_trunk, trunk_of
from hf_replearn.encoders.trial import try_encoder
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.tasks import (
    GLUE,
    usual_metrics,
    usual_positive,
)
from hf_replearn.methods.multitask import TOGETHER, MultiTask, Weigher
from hf_replearn.pretraining.recipe import TaskMethod, TaskSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.worth_of_tasks import OURS, PICTURE, SINGLE, Labelled, draw, judge
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.export import export_timm, save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training import optimizers, schedules
from hf_replearn.training.callbacks import Estimate, JSONLines
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.launch import check_alone
from hf_replearn.training.trainer import PretrainingTrainer

START, HEADS, ALONE = "start", "heads", "single"
TESTED = dict.fromkeys(GLUE, ("validation", "validation_matched", "test"))  # whose test sets have no labels


class StepRows(torch.utils.data.Dataset):
    """Rows in the order of the steps: `batch` of one task, then of another, or of all tasks in turn."""

    def __init__(self, tasks: dict[str, Dataset], plan: list[str], *, batch: int, seed: int):
        self.tasks, self.items = tasks, []
        places = {task: _in_epochs(len(rows), [seed, number]) for number, (task, rows) in enumerate(tasks.items())}
        for task in plan:
            self.items += [(task, next(places[task])) for _ in range(batch)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple[str, dict]:
        task, place = self.items[number]
        return task, self.tasks[task][place]


def _in_epochs(rows: int, seed: list[int]) -> Iterator[int]:
    """Numbers of rows: all of them in random order, again and again."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.permutation(rows).tolist()


class CollateTasks:
    """Rows of tasks -> the batch of each task that is among them."""

    def __init__(self, collate: dict[str, Any]):
        self.collate = collate

    def __call__(self, rows: list[tuple[str, dict]]) -> dict[str, dict]:
        found: dict[str, list[dict]] = {}
        for task, row in rows:
            found.setdefault(task, []).append(row)
        return {"tasks": {task: dict(self.collate[task](some)) for task, some in found.items()}}


class TaskTrainer(PretrainingTrainer):
    """Its log has the loss of each task and, where they are learnt, the weights."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            model = self.accelerator.unwrap_model(self.model)
            logs |= {f"loss_{task}": round(loss, 4) for task, loss in model.losses_since().items()}
            if model.weigher.how in ("uncertainty", "gradnorm"):
                logs |= {f"weight_{task}": round(weight, 4) for task, weight in model.relative_weights().items()}
        super().log(logs, start_time)


def learn_tasks(settings: TaskSettings, method: TaskMethod, *, command: str | None = None) -> Run:
    """Learns several tasks with one trunk, saves, judges beside each task alone, describes and shares it.

    Raises InputError before anything is trained for whatever the user has to mend.
    """
    transformers.logging.set_verbosity_error()  # that heads are new is no news here
    transformers.logging.disable_progress_bar()

    # 1. Data. What can be wrong with the input is found out here.
    check_alone()
    out, asked = Path(settings.output_dir), read_tasks(settings.tasks)
    check_settings(settings, asked)
    check_folder(settings)
    repo_id = check_sharing(settings)
    tasks = open_tasks(settings, asked)
    plan = plan_steps(settings, {name: len(task.train) for name, task in tasks.items()})
    together = settings.weighting in TOGETHER
    steps = len(plan) // (len(tasks) if together else 1)
    batch = settings.per_device_train_batch_size * (len(tasks) if together else 1)
    args = settings.task_arguments(steps=steps, batch=batch)
    check_start(settings, tasks)
    given = circumstances(settings, data=fingerprint(tasks), processes=1)
    checkpoint = find_checkpoint(settings, given, args=args)

    # 2. The trunk with its heads, tried on some examples of each task
    claim_folder(settings)
    start = settings.init or random_start(settings, tasks)
    model, collate = build(settings, start, {name: task.names for name, task in tasks.items()})
    for name, task in tasks.items():
        attempt = Logits(model.networks[name])
        try_encoder(attempt, task.test, preprocess=collate[name], named=f"--init {start}", classifier=True)
    tell(settings, tasks, plan)

    # 3. Train, and save: the trunk, and each head with it
    trainer = train(settings, args, model, collate, tasks, plan=plan, given=given, checkpoint=checkpoint)
    export_all(model, collate, out)
    told = {name: {OURS: predict(trainer, name, task, collate[name])} for name, task in tasks.items()}
    report = describe(settings, method, tasks, trainer, model, start)
    report.command = command or report.command
    report.save(out)

    # 4. Each task alone, from the same start, with as many batches of it
    if settings.single_tasks:
        for name, task in tasks.items():
            told[name][SINGLE] = learn_alone(settings, start, name, task, steps=plan.count(name), given=given)

    # 5. What that is worth, and share it
    judge(report, settings, tasks, told, plan)
    report.save(out)
    figure = partial(draw, report, tasks, out)
    if try_to_show(PICTURE, figure)[0]:
        report.figures[PICTURE] = (
            "Left: the loss of each task while they are learnt together; where weights are learnt, they are dashed, on "
            "the scale at the right. Right: scores of all tasks at once and of each alone, with 95 % intervals over "
            "test examples."
        )
    tell_trackers(write_results(report, out, repo_id=repo_id), out, trainer)
    print(f"\n{report.table()}\n\ntrunk, heads and card: {out}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


# ---- data and steps


def check_settings(settings: TaskSettings, asked: list[Asked]) -> None:
    """Raises InputError for what the types of the settings do not rule out."""
    if settings.shares and len(settings.shares) != len(asked):
        raise InputError(f"--shares has {len(settings.shares)} numbers for {len(asked)} tasks: give one for each")
    if settings.shares and settings.weighting in TOGETHER:
        raise InputError(f"--shares: --weighting {settings.weighting} has all tasks in every step: leave it out")


def open_tasks(settings: TaskSettings, asked: list[Asked]) -> dict[str, Labelled]:
    """The data of each task, and what it is scored by. Raises InputError."""
    about = {"text_columns": settings.text_columns, "image_column": settings.image_column}
    about |= {"types": settings.label_types or {}}
    found = load_tasks(asked, tested=TESTED, channels=channels_wanted(None, [settings.init]), **about)
    tasks = {}
    for name, data in found.items():
        metrics = usual_metrics(name, data.label_names)
        positive = usual_positive(name, data.label_names) if "f1" in metrics else 1
        tasks[name] = Labelled(data, data.train, data.test.select(by_length(data.test)), metrics, positive)
    return tasks


def plan_steps(settings: TaskSettings, sizes: dict[str, int]) -> list[str]:
    """The task of each batch, in order: in every step all, or one each in proportion to size^power or the shares,
    mixed at random, each at least once."""
    batch, seed = settings.per_device_train_batch_size, settings.seed
    batches = math.ceil(settings.num_train_epochs * sum(sizes.values()) / batch)
    if settings.weighting in TOGETHER:
        steps = settings.max_steps if settings.max_steps > 0 else math.ceil(batches / len(sizes))
        return list(sizes) * steps
    steps = max(settings.max_steps if settings.max_steps > 0 else batches, 1)
    if steps < len(sizes):
        raise InputError(f"--max_steps {steps} is fewer than the {len(sizes)} tasks, of which each step has one")
    wanted = np.array(settings.shares or [size**settings.size_power for size in sizes.values()])
    counts = _whole(wanted / wanted.sum() * steps)
    plan = np.repeat(np.arange(len(sizes)), counts)
    names = list(sizes)
    return [names[task] for task in np.random.default_rng(seed).permutation(plan)]


def _whole(shares: np.ndarray) -> np.ndarray:
    """Whole numbers of the same sum, each at least 1, as near as they can be (largest remainders)."""
    counts = np.maximum(np.floor(shares).astype(int), 1)
    while (left := round(shares.sum()) - counts.sum()) != 0:
        if left > 0:
            counts[(shares - counts).argmax()] += 1
        else:
            counts[np.where(counts > 1, counts - shares, -np.inf).argmax()] -= 1
    return counts


def fingerprint(tasks: dict[str, Labelled]) -> str:
    """Of the examples that are learnt from."""
    digest = hashlib.sha256()
    for name, task in tasks.items():
        digest.update(f"{name} {task.names} {len(task.train)}".encode())
        for column in sorted(task.train.column_names):
            for value in task.train[column][:]:
                digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def tell(settings: TaskSettings, tasks: dict[str, Labelled], plan: list[str]) -> None:
    """What is learnt from, and how often."""
    for name, task in tasks.items():
        print(f"{name}: {task.data.taken}; {plan.count(name):,} batches", *task.data.notes, sep="\n", flush=True)
    skipped = [item for task in tasks.values() for item in task.data.skipped]
    write_skipped(Path(settings.output_dir, "skipped_examples.txt"), skipped)


# ---- network


def check_start(settings: TaskSettings, tasks: dict[str, Labelled]) -> None:
    """Raises InputError where there is nothing to start from."""
    images = next(iter(tasks.values())).data.inputs == ["image"]
    if settings.init is None and not images:
        raise InputError("--init is needed for texts: a folder or Hub id of an encoder with its tokenizer")
    if settings.init is not None and _reads_images(settings.init) is not images:
        own, other = ("texts", "images") if images else ("images", "texts")
        raise InputError(f"--init {settings.init} is an encoder of {own}, and these are {other}")
    if settings.init is None:
        with refusing(f"--backbone {settings.backbone}"):
            _random_backbone(settings)


def _random_backbone(settings: TaskSettings) -> nn.Module:
    set_seed(settings.seed)
    return timm.create_model(settings.backbone, num_classes=0, **settings.backbone_args or {})


def random_start(settings: TaskSettings, tasks: dict[str, Labelled]) -> str:
    """The folder of a network of random weights, from which all tasks start, together and alone."""
    folder = Path(settings.output_dir, START)
    export_timm(
        _random_backbone(settings),
        folder,
        architecture=settings.backbone,
        arguments=settings.backbone_args,
        image_size=settings.image_size,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    return str(folder)


def build(settings: TaskSettings, start: str, labels: dict[str, list[str] | None]) -> tuple[MultiTask, dict[str, Any]]:
    """The networks of tasks with one trunk, and what makes the batches of each. labels: names of classes, or None for
    numbers. Raises InputError for what does not load."""
    set_seed(settings.seed)
    texts = settings.init is not None and not _reads_images(start)
    auto = AutoModelForSequenceClassification if texts else AutoModelForImageClassification
    networks, collate = {}, {}
    for task, names in labels.items():
        head = {"num_labels": len(names or ["score"]), "id2label": dict(enumerate(names or ["score"]))}
        head["label2id"] = {name: number for number, name in head["id2label"].items()}
        if texts:
            head["problem_type"] = "single_label_classification" if names else "regression"
        modality = "text" if texts else "image"
        config, collate[task] = read_inputs(start, modality=modality, max_length=settings.max_length, **head)
        networks[task] = load_network(auto, start, with_dropout(config, settings.dropout))
    heads = share_trunk(networks, named=f"--init {start}")
    weigher = Weigher(settings.weighting, settings.weighting_rate, settings.alpha, settings.seed)
    about = {"labels": labels, "weighting": settings.weighting}
    numbers = [task for task, names in labels.items() if names is None]
    return MultiTask(networks, heads, regression=numbers, weigher=weigher, about=about), collate


def _reads_images(start: str) -> bool:
    return modality_of(start) == "image"


def train(
    settings: TaskSettings,
    args: transformers.TrainingArguments,
    model: MultiTask,
    collate: dict[str, Any],
    tasks: dict[str, Labelled],
    *,
    plan: list[str],
    given: dict[str, Any],
    checkpoint: str | None,
) -> TaskTrainer:
    """The trainer of a run that has ended."""
    rows = StepRows(
        {name: task.train for name, task in tasks.items()},
        plan,
        batch=settings.per_device_train_batch_size,
        seed=settings.seed,
    )
    trainer = TaskTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=CollateTasks(collate),
        make_optimizer=partial(optimizers.adamw, lr=settings.learning_rate, weight_decay=settings.weight_decay),
        schedule=partial(schedules.linear, warmup=settings.warmup),
        circumstances=given,
        max_skipped=settings.skippable_steps,
        callbacks=[JSONLines(args.output_dir), Estimate()],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def learn_alone(
    settings: TaskSettings, start: str, name: str, task: Labelled, *, steps: int, given: dict[str, Any]
) -> np.ndarray:
    """What a network says of the test examples (M,) that has learnt this task only, from the same start."""
    folder = Path(settings.output_dir, ALONE, name)
    resume = "never" if settings.resume == "never" else "auto"
    alone = replace(settings, output_dir=str(folder), weighting="uniform", resume=resume)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{name} alone, {steps:,} batches", flush=True)
    args = alone.task_arguments(steps=steps, batch=settings.per_device_train_batch_size)
    given = given | {"single": name}
    checkpoint = find_checkpoint(alone, given, args=args)
    model, collate = build(alone, start, {name: task.names})
    trainer = train(alone, args, model, collate, {name: task}, plan=[name] * steps, given=given, checkpoint=checkpoint)
    return predict(trainer, name, task, collate[name])


@torch.no_grad()
def predict(trainer: TaskTrainer, name: str, task: Labelled, collate: Any) -> np.ndarray:
    """Class numbers, or numbers, (M,) of the test examples. Raises TrainingError where they are not finite."""
    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    size, found = 4 * trainer.args.per_device_train_batch_size, []
    for first in range(0, len(task.test), size):
        rows = [task.test[place] for place in range(first, min(first + size, len(task.test)))]
        batch = {key: value.to(trainer.args.device) for key, value in collate(rows).items()}
        with trainer.compute_loss_context_manager():
            found.append(model.logits(name, batch).float().cpu())
    logits = torch.cat(found)
    if not logits.isfinite().all():
        raise TrainingError(f"{name}: test examples get NaN or infinity, it has diverged: lower --learning_rate")
    return (logits.squeeze(1) if task.names is None else logits.argmax(dim=1)).numpy()


# ---- result


def export_all(model: MultiTask, collate: dict[str, Any], out: Path) -> None:
    """The trunk in the format of its library, and each head with it, as a classifier of transformers."""
    for task, network in model.networks.items():
        save_native(network, out / HEADS / task)
        collate[task].processor.save_pretrained(out / HEADS / task)
    first = model.networks[model.tasks[0]]
    trunk = trunk_of(first)
    if hasattr(first, "timm_model"):
        config, about = first.config, first.config.pretrained_cfg
        export_timm(
            trunk,
            out,
            architecture=config.architecture,
            arguments=config.model_args,
            image_size=about["input_size"][-1],
            mean=tuple(about["mean"]),
            std=tuple(about["std"]),
            crop_pct=about.get("crop_pct") or 1.0,
            lightness=bool(getattr(config, "lightness", False)),
        )
        keep_size(out, config.to_dict())
    else:
        save_native(trunk, out)
        collate[model.tasks[0]].processor.save_pretrained(out)


def export(method: TaskMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes trunk and heads of a checkpoint as a run leaves them."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    labels = json.loads(Path(checkpoint, "config.json").read_text(encoding="utf-8"))["labels"]
    names = {"init", "dropout", "max_length", "weighting", "weighting_rate", "alpha", "seed"}
    settings = TaskSettings(tasks=tuple(given["tasks"]), output_dir=str(out), **{name: given[name] for name in names})
    folder = checkpoint.resolve().parent
    start = settings.init or str((folder.parents[1] if folder.parent.name == ALONE else folder) / START)
    model, collate = build(settings, start, labels)
    load_model(model, str(checkpoint / "model.safetensors"), strict=False)
    export_all(model, collate, out)


def describe(
    settings: TaskSettings,
    method: TaskMethod,
    tasks: dict[str, Labelled],
    trainer: TaskTrainer,
    model: MultiTask,
    start: str,
) -> facts.Report:
    """The facts of this run for its report and card."""
    first = model.networks[model.tasks[0]]
    images, config = hasattr(first, "timm_model"), first.config
    trunk = trunk_of(first)
    inputs = next(iter(tasks.values())).data.inputs
    unit = "image" if inputs == ["image"] else "text"
    known = Path(start).exists()
    encoder = facts.Encoder(
        library="timm" if images else "transformers",
        pipeline_tag="image-feature-extraction" if unit == "image" else "feature-extraction",
        architecture=config.architecture if images else config.model_type,
        parameters=count_parameters(trunk),
        features=trunk.num_features if images else config.get_text_config().hidden_size,
        input_size=list(config.pretrained_cfg["input_size"]) if images else [settings.max_length or 128],
        initialized_from="random weights" if settings.init is None else settings.init,
        base_model=None if known else settings.init,
        heads=list(tasks),
    )
    classes = [len(task.names) for task in tasks.values() if task.names is not None]
    data = facts.Data(
        name=", ".join(f"{name} ({task.data.name})" for name, task in tasks.items()),
        unit=unit,
        train=sum(len(task.train) for task in tasks.values()),
        test=sum(len(task.test) for task in tasks.values()),
        skipped=sum(len(task.data.skipped) for task in tasks.values()),
        classes=sum(classes) or None,
        held_out="; ".join(f"{name}: {task.data.test_source}" for name, task in tasks.items()),
    )
    summary = trainer.summary()
    return facts.Report(
        method=method.facts,
        encoder=encoder,
        data=data,
        training=facts.Training(**summary | {"spread": None, "collapsed": False}),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )
