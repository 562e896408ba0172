"""The story of an encoder that learns from episodes: classes, of which some are held out, encoder and head, training,
the same network beside as a plain classifier, what both are worth on classes that they have not seen, pictures, report,
card, upload."""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments, set_seed

from hf_replearn.data.episodes import TURNS, Classes, Episodes, Fixed, draw_from, load_classes
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sources import Source
from hf_replearn.encoders.backbones import Backbone
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError
from hf_replearn.evaluation.episodes import ADAPTED, in_scores, nearest_mean, protocols, right, scores_of, to_look_at
from hf_replearn.evaluation.steps import alone, at_work
from hf_replearn.methods.collating_episodes import EpisodeCollator, shape_of_draws
from hf_replearn.methods.trunk import ImageMethodConfig
from hf_replearn.pretraining import images
from hf_replearn.pretraining.recipe import EpisodeMethod, EpisodeSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.start import find_start, typical_side, with_backbone
from hf_replearn.pretraining.worth import RANDOM
from hf_replearn.representation import ImagePreprocessor, extract
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.drawn import draw_episodes
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training import optimizers, schedules
from hf_replearn.training.callbacks import Estimate, JSONLines
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.on_device import held_on_device
from hf_replearn.training.settings import ENDLESS
from hf_replearn.training.sharded_checkpoints import model_of
from hf_replearn.training.trainer import PretrainingTrainer

CLASSIFIER, CLASSIFIER_ROW = "classifier", "plain classifier"
REPTILE, INNER_BATCH = "reptile", 10  # images of an inner step of Reptile (its paper, on Omniglot)
STEPS = 2000  # of a run that says neither steps nor minutes
SMALL, LARGE, TURN = 28, 84, 128  # pixels of the papers, and of the images up to which they take the smaller
EPISODES, SHOWN = "episodes.png", 3  # file of the picture, and episodes in it
PLAIN = 32  # pixels of the images that are compared as they are, at most


@dataclass(frozen=True)
class Trained:
    """What came out of a training: f and g, f before it, the trainer, and what was written."""

    model: PreTrainedModel
    untrained: nn.Module
    trainer: PretrainingTrainer
    exported: nn.Module


def learn_episodes(
    settings: EpisodeSettings, method: EpisodeMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Trains the encoder of `method`, saves, judges, describes and shares it. Arguments as of `pretrain_images`.

    Raises InputError before anything is trained for whatever the user has to mend.
    """
    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    method, out = method.of(settings.method), Path(settings.output_dir)
    args = training_arguments(settings, method)
    with args.main_process_first(desc="reading the images"):
        repo_id = None
        if args.process_index == 0:
            check_folder(settings, free=left_open(settings))
            repo_id = check_sharing(settings)
        data = read(settings, source)
    settings, backbone = fit_to_data(settings, method, data)
    tests, notes = tests_of(settings, data)
    beside = plain_classifier(settings, method) if settings.beside and settings.method != CLASSIFIER else None
    drawn = {one.output_dir: episodes_of(one, data) for one in (settings, beside) if one is not None}
    if args.process_index == 0:
        print(data.taken, *data.notes, *notes, what_is_learnt(settings, data), sep="\n", flush=True)

    # 2. Train, and save: f in its own format, f and g to go on training. The plain classifier sees as many images
    learnt = train(settings, method, data, backbone, drawn[settings.output_dir])
    networks = {method.facts.name: learnt.model, RANDOM: learnt.untrained}
    if beside is not None:
        print(f"\nthe same network as a plain classifier: {beside.output_dir}", flush=True)
        networks[CLASSIFIER_ROW] = train(beside, method.of(CLASSIFIER), data, backbone, drawn[beside.output_dir]).model
    if not learnt.trainer.is_world_process_zero():
        return Run(out)

    # 3. Judge on the classes held out, and share
    report = describe(settings, method, data, backbone, learnt)
    report.command = command or report.command
    report.save(out)
    if tests:
        judge(report, settings, data, networks, tests, backbone, device=learnt.trainer.args.device)
    tell_trackers(write_results(report, out, repo_id=repo_id), out, learnt.trainer)
    print(f"\n{report.table()}\n\nencoder and card: {out}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


# ---- data and settings


def read(settings: EpisodeSettings, source: Source | None) -> Classes:
    """The images by their classes, some of which are held out. Raises InputError."""
    return load_classes(
        settings.dataset if source is None else source,
        files=settings.files,
        group_by=settings.group_by,
        held_out=settings.held_out,
        least=settings.test_way,
        image_column=settings.image_column,
        label_column=settings.label_column,
        label_type=settings.label_type,
        max_undecodable=settings.max_undecodable,
        value_range=settings.value_range,
        channels=settings.channels,
    )


def left_open(settings: EpisodeSettings) -> list[str]:
    """The names of the settings that were not given, and that method or data say."""
    names = [spec.name for spec in fields(settings)]
    return [name for name in names if getattr(settings, name) is None] + ["backbone_args", "test_shots"]


def fit_to_data(settings: EpisodeSettings, method: EpisodeMethod, data: Classes) -> tuple[EpisodeSettings, Backbone]:
    """The settings with what was left to the method and to the data filled in, and the backbone with them."""
    settings = with_usual(settings, method)
    settings = with_backbone(replace(settings, test_shots=settings.test_shots or (settings.shots,)), small=True)
    size = settings.image_size or (SMALL if typical_side(data.sizes) <= TURN else LARGE)
    backbone, stem = find_start(settings, image_size=size)
    if backbone.source is not None and settings.image_size is None:
        size = backbone.input_size
    return replace(settings, image_size=size, stem=stem), backbone


def with_usual(settings: EpisodeSettings, method: EpisodeMethod) -> EpisodeSettings:
    """The settings with what the method usually has, where the user says nothing."""
    usual = method.usual[settings.method]
    return replace(settings, **{name: value for name, value in usual.items() if getattr(settings, name) is None})


def tests_of(settings: EpisodeSettings, data: Classes) -> tuple[list[Fixed], list[str]]:
    """The episodes that judge, and what is to be said of them; none where no class is held out. InputError where none
    can be drawn."""
    found, notes = [], []
    for shots in settings.test_shots if data.held_out else ():
        asked = {"way": settings.test_way, "shots": shots, "queries": settings.test_queries}
        with in_terms_of_tests():
            drawn, said = draw_from(data, data.held_out, **asked, within_group=settings.within_group)
        found.append(drawn.fixed(settings.test_episodes, shots=shots))
        notes += [f"of the classes held out, {line}" for line in said]
    return found, notes


class in_terms_of_tests:
    """The names of the settings of tests in what is wrong with the classes held out."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, InputError):
            text = str(error)
            for name in ("way", "shots", "queries"):
                text = text.replace(f"--{name}", f"--test_{name}")
            raise InputError(f"of the classes held out: {text}") from None


def plain_classifier(settings: EpisodeSettings, method: EpisodeMethod) -> EpisodeSettings:
    """The settings of the same network as a plain classifier, which sees as many images."""
    own = {"method": CLASSIFIER, "learning_rate": method.usual[CLASSIFIER]["learning_rate"], "beside": False}
    return replace(settings, output_dir=str(Path(settings.output_dir, CLASSIFIER)), **own)


def episodes_of(settings: EpisodeSettings, data: Classes) -> Episodes:
    """What is learnt from. Raises InputError where no episode can be drawn."""
    shape = {"way": settings.way, "shots": settings.shots, "queries": settings.queries}
    within = settings.within_group
    if settings.method == CLASSIFIER:
        count = len(data.learnt) * (TURNS if settings.turned else 1)
        way, each = shape_of_draws(count, settings.way * (settings.shots + settings.queries))
        shape, within = {"way": way, "shots": each, "queries": 0}, False
    drawn, notes = draw_from(
        data, data.learnt, **shape, within_group=within, turned=settings.turned, seed=settings.seed
    )
    data.notes.extend(note for note in notes if note not in data.notes)
    return drawn


def what_is_learnt(settings: EpisodeSettings, data: Classes) -> str:
    """One line on what is trained on, and what is held out."""
    turns = f" in {TURNS} turns each" if settings.turned else ""
    return (
        f"trained at {settings.image_size} pixels on {len(data.learnt):,} classes{turns}; held out: "
        f"{len(data.held_out):,} classes ({data.where}); log: {settings.output_dir}/log.jsonl"
    )


# ---- training


def training_arguments(settings: EpisodeSettings, method: EpisodeMethod) -> TrainingArguments:
    """What transformers.Trainer is told."""
    if settings.max_minutes is not None and settings.warmup_steps >= 1:
        raise InputError(f"--warmup_steps {settings.warmup_steps:g}: with --max_minutes, a share of the run below 1")
    settings = with_usual(settings, method)
    steps = settings.max_steps if settings.max_steps > 0 else STEPS if settings.max_minutes is None else ENDLESS
    args = replace(settings, max_steps=steps).training_arguments(
        lr_scheduler_type="cosine", warmup_steps=settings.warmup_steps, max_grad_norm=0.0
    )
    return args


def train(
    settings: EpisodeSettings, method: EpisodeMethod, data: Classes, backbone: Backbone, episodes: Episodes
) -> Trained:
    """Trains f and g, goes on from what was trained before, and writes both into the folder of the settings."""
    out, args = Path(settings.output_dir), training_arguments(settings, method)
    if args.process_index == 0:
        check_folder(settings)
    given = circumstances(settings, data=data.fingerprint, processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)
    set_seed(settings.seed)
    model = build(settings, method, backbone, classes=len(episodes.by_class) * (TURNS if settings.turned else 1))
    untrained = copy.deepcopy(model)
    if backbone.weights is not None:
        model.start_from(backbone.weights)
    collator = make_collator(settings, data, backbone, args)
    images.try_once(
        model, collator, episodes, named=f"--backbone {settings.backbone} with {backbone.arguments}", bf16_on_cpu=False
    )
    if args.world_size > 1 and args.device.type == "cuda" and not adapts(model):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    timed = settings.max_minutes is not None
    trainer = PretrainingTrainer(
        model=model,
        args=args,
        train_dataset=episodes,
        data_collator=collator,
        views=collator.views,
        make_optimizer=partial(make_optimizer, settings),
        circumstances=given,
        max_skipped=settings.skippable_steps,
        max_minutes=settings.max_minutes,
        schedule=partial(schedules.cosine, warmup=settings.warmup_steps) if timed else None,
        callbacks=[JSONLines(settings.output_dir), *([] if timed else [Estimate()])],
    )
    if trainer.is_world_process_zero():
        claim_folder(settings)
        write_skipped(out / "skipped_images.txt", [*data.left_out, *data.skipped])
    trainer.train(resume_from_checkpoint=checkpoint)
    model, exported = trainer.whole_model(), None
    if trainer.is_world_process_zero():
        exported = images.write_encoder(
            model.model, out, backbone, image_size=settings.image_size, crop_pct=settings.crop_pct
        )
        save_native(model, out / "pretraining")
    return Trained(model, untrained, trainer, exported)


def build(settings: EpisodeSettings, method: EpisodeMethod, backbone: Backbone, *, classes: int) -> PreTrainedModel:
    """f with fresh weights and g: of the method's own fields, the settings of the same names."""
    kind = method.model_class.config_class
    own = {spec.name for spec in fields(kind)} - {spec.name for spec in fields(ImageMethodConfig)} - {"recipe"}
    values = as_dict(settings) | {"classes": classes}
    with refusing(f"--backbone {settings.backbone} with {backbone.arguments} is no encoder that can be trained"):
        config = kind(
            backbone=backbone.architecture,
            backbone_args=backbone.arguments,
            stem=settings.stem,
            **{name: values[name] for name in sorted(own)},
        )
        return method.model_class(config).to(memory_format=torch.channels_last)


def make_collator(settings: EpisodeSettings, data: Classes, backbone: Backbone, args: TrainingArguments):
    """The collator, with all images on the device where they stay there."""
    collator = EpisodeCollator(
        data.images,
        None,
        settings.image_size,
        backbone.mean,
        backbone.std,
        crop_pct=settings.crop_pct,
        jitter=settings.jitter,
        classes=settings.method == CLASSIFIER,
        order=(settings.inner_steps, INNER_BATCH) if settings.method == REPTILE else None,
    )
    held, _ = held_on_device(
        data.images,
        lambda rows: {"pixels": collator.decode(rows)},
        asked=settings.data_on_device,
        device=args.device,
        processes=args.world_size,
    )
    if held is None:
        return collator
    held.fill(workers=0, progress=args.process_index == 0)
    return replace(collator, held=held.held["pixels"])


def adapts(model: nn.Module) -> bool:
    """Whether its weights adapt to an episode."""
    return hasattr(model, "answer")


def make_optimizer(settings: EpisodeSettings, model: nn.Module) -> torch.optim.Optimizer:
    """Adam; of Reptile gradient descent, whose step is the meta-step."""
    if settings.method == REPTILE:
        return optimizers.sgd(model, settings.learning_rate, weight_decay=0.0, momentum=0.0)
    return optimizers.adamw(model, settings.learning_rate, weight_decay=0.0)


# ---- what it is worth


def judge(
    report: facts.Report,
    settings: EpisodeSettings,
    data: Classes,
    networks: dict[str, PreTrainedModel],
    tests: list[Fixed],
    backbone: Backbone,
    *,
    device: torch.device,
) -> None:
    """Scores of the encoders, and of the images as they are, on episodes of the classes held out, into the report; and
    pictures of episodes, with the answers of the first."""
    preprocess = ImagePreprocessor(settings.image_size, backbone.mean, backbone.std, crop_pct=settings.crop_pct)
    rows = np.unique(np.concatenate([part.ravel() for test in tests for part in (test.support, test.query)]))
    some = data.images.select(rows)
    tests = [replace_rows(test, rows) for test in tests]
    features = {}
    for name, model in networks.items():
        network = model.to(device).eval().model.encoder
        features[name] = extract(network, some, preprocess=preprocess, progress=name).x
    small = replace(preprocess, size=min(settings.image_size, PLAIN), crop_pct=1.0)
    features["raw pixels"] = extract(nn.Flatten(), some, preprocess=small, progress="pixels").x
    for row, x in features.items():
        metrics = [f"nearest_mean@{test.name}" for test in tests]
        found, missing = alone(partial(scores_of, x, tests), metrics=metrics, what=f"episodes of {row}")
        report.rows[row], report.missing[row] = dict.fromkeys(missing) | found, missing
    told = judge_adapted(report, settings, networks, some, tests, preprocess)
    report.protocols = protocols(report.metrics, what=which_episodes(settings, data))
    report.save(settings.output_dir)
    first = next(iter(networks))
    path = Path(settings.output_dir, EPISODES)
    try_to_show(EPISODES, partial(show, report, first, some, tests[0], told, path, x=features[first]))


def show(
    report: facts.Report, name: str, rows: Any, test: Fixed, told: Tensor | None, path: Path, *, x: Tensor
) -> None:
    """A picture of episodes with the answers of the first encoder, into the report: as it has adapted (`told`), or by
    the nearest mean of its features x."""
    how = "after it has adapted" if told is not None else "by the nearest mean"
    told = nearest_mean(x, test) if told is None else told
    draw_episodes(to_look_at(rows, told, test, count=SHOWN), path)
    report.figures[path.name] = (
        f"Episodes of classes held out: a line for each class, with an image that is shown of it and queries, as "
        f"{name} tells them {how}; in the corner of a wrong one is the class that it was taken for."
    )


def judge_adapted(
    report: facts.Report,
    settings: EpisodeSettings,
    networks: dict[str, PreTrainedModel],
    rows: Any,
    tests: list[Fixed],
    preprocess: ImagePreprocessor,
) -> Tensor | None:
    """Scores of networks whose weights adapt to each episode, into the report; of another number of classes than they
    have outputs for, why there are none. Returns the first one's answers to the first kind of episodes."""
    first = None
    for name, model in networks.items():
        for number, test in enumerate(tests if adapts(model) else ()):
            metric = f"{ADAPTED}@{test.name}"
            if test.support.shape[1] != settings.way:
                report.rows[name][metric] = None
                report.missing[name][metric] = f"its head has {settings.way} outputs, for episodes of so many classes"
                continue
            with at_work(f"{len(test):,} adaptations of {name}"):
                told = answers(model, rows, test, preprocess)
            report.rows[name] |= in_scores({metric: right(told, test)})
            first = told if first is None and number == 0 else first
    return first


def answers(model: PreTrainedModel, rows: Any, test: Fixed, preprocess: ImagePreprocessor) -> Tensor:
    """Logits (E, Q, N) of a network that adapts to each episode by itself."""
    device = next(model.parameters()).device
    pixels = torch.cat([preprocess([row]) for row in rows]).to(device)
    support, query = (torch.from_numpy(part).to(device) for part in (test.support, test.query))
    told = [model.answer(pixels[shown], pixels[asked]).cpu() for shown, asked in zip(support, query, strict=True)]
    return torch.stack(told)


def replace_rows(test: Fixed, rows: np.ndarray) -> Fixed:
    """The same episodes, of images that are these rows of those that they are of."""
    return replace(test, support=np.searchsorted(rows, test.support), query=np.searchsorted(rows, test.query))


def which_episodes(settings: EpisodeSettings, data: Classes) -> str:
    """Which episodes the scores are of."""
    within = f", each of one {settings.group_by}," if settings.within_group else ""
    return (
        f"Mean over {settings.test_episodes:,} episodes{within} of the {len(data.held_out):,} classes held out "
        f"({data.where}), with {settings.test_queries} queries a class, and its t interval over episodes."
    )


# ---- after training


def describe(
    settings: EpisodeSettings, method: EpisodeMethod, data: Classes, backbone: Backbone, learnt: Trained
) -> facts.Report:
    """The facts of this run for its report and card."""
    summary = learnt.trainer.summary()
    each = settings.way * (settings.shots + settings.queries)
    summary["examples"] *= each
    summary["examples_per_second"] = (summary["examples_per_second"] or 0.0) * each
    learnt_rows, held = (sum(map(len, data.rows_of(part))) for part in (data.learnt, data.held_out))
    return facts.Report(
        method=method.facts,
        encoder=images.encoder_facts(backbone, learnt.exported),
        data=facts.Data(
            name=data.name,
            hub_id=data.hub_id,
            unit="image",
            train=learnt_rows,
            test=held,
            skipped=len(data.skipped),
            classes=len(data.names),
            held_out=data.where,
        ),
        training=facts.Training(**summary),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


def export(method: EpisodeMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the encoder of a checkpoint. given: what the run depended on."""
    names = ("backbone", "backbone_args", "image_size", "stem", "channels")
    settings = EpisodeSettings(dataset=given["dataset"], output_dir=str(out), **{name: given[name] for name in names})
    backbone, _ = find_start(settings, image_size=given["image_size"])
    f = model_of(checkpoint, method.of(given["method"]).model_class).model
    images.write_encoder(f, out, backbone, image_size=given["image_size"], crop_pct=given["crop_pct"])
