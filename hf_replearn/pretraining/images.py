"""The story of a run on images, told once for every method: data, folder, views, encoder and head, training, encoder
in timm's format, what it is worth beside its baselines, report, card, upload."""

from __future__ import annotations

import copy
import os
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel, TrainingArguments, set_seed

from hf_replearn.data.images import ImageData, load_images
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sounds import SoundData
from hf_replearn.data.sources import Source
from hf_replearn.data.streams import stream_images
from hf_replearn.encoders.backbones import Backbone, count_features, count_parameters
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError
from hf_replearn.evaluation.k_shot import feasible_shots
from hf_replearn.evaluation.suite import protocols
from hf_replearn.methods.collating import CROPS, POLICIES, DataCollatorForViews, own_policy
from hf_replearn.methods.trunk import OWN, ImageEncoder, ImageMethodConfig
from hf_replearn.pretraining.bfloat16 import undefined_gradients
from hf_replearn.pretraining.memory import fit_to_memory
from hf_replearn.pretraining.recipe import (
    CropSettings,
    ImageMethod,
    ImageSettings,
    PictureSettings,
    PixelMethod,
    SoundMethod,
    SoundSettings,
    ViewSettings,
)
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.start import channels_in_words, find_start, fit_to_data, left_to_the_data, what_was_chosen
from hf_replearn.pretraining.streams import check_stream, fingerprint, lanes, list_what_is_skipped
from hf_replearn.pretraining.watch import watch
from hf_replearn.pretraining.worth import RANDOM, Judged, ask, judge, judge_stages, show_neighbours, show_own_task
from hf_replearn.randomness import Place
from hf_replearn.representation import ImagePreprocessor, labels_of
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.export import export_own, export_timm, save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training import optimizers, schedules
from hf_replearn.training.callbacks import Estimate, JSONLines
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.memory import check_memory
from hf_replearn.training.on_device import HeldRows, held_on_device
from hf_replearn.training.settings import ENDLESS
from hf_replearn.training.sharded_checkpoints import model_of
from hf_replearn.training.trainer import PretrainingTrainer

SAMPLE, NEAREST = "augmentations.png", "neighbours.png"
LONGER = (
    "to train longer: the same command with more --num_train_epochs, --max_steps or --max_minutes, and --allow_change"
)


def pretrain_images(
    settings: ImageSettings,
    method: ImageMethod,
    *,
    source: Source | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    command: str | None = None,
) -> Run:
    """Trains the encoder of `method`, judges, exports, describes and shares it.

    source:  the dataset, where it is not one that the settings name.
    augment: the user's own views, (B, C, H, W) uint8 -> (B, C, size, size); None: those of the settings.
    command: that started this; None: the one of `hf-replearn` with these settings.
    Raises InputError before anything is trained for whatever the user has to mend.
    """
    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    out = Path(settings.output_dir)
    check_stream(settings, method, source)
    find_start(settings, image_size=settings.image_size, lightness=method.lightness)
    args = training_arguments(settings)
    with args.main_process_first(desc="reading the images"):
        repo_id = None
        if args.process_index == 0:
            check_folder(settings, free=left_to_the_data(settings))
            repo_id = check_sharing(settings)
        data = open_images(settings, source)
    judging = has_test_labels(data)
    if judging and data.single_label:
        feasible_shots(labels_of(data.labelled), settings.shots)
    rows = data.train if not method.needs_labels else labelled_rows(data, method)
    chosen = left_to_the_data(settings)
    settings, backbone = fit_to_data(settings, data, processes=args.world_size, lightness=method.lightness)

    # 2. Views, and how many images at a time
    collator = make_collator(settings, method, backbone, data, augment)
    held, place = hold(settings, args, data, rows, collator)
    settings = fit_to_memory(
        settings,
        args,
        partial(build, method=method, backbone=backbone, batch=2, device=args.device),
        collator,
        rows if data.stream is None else rows.to_iterable_dataset(),  # as many as fit
        least=2,
    )
    if args.process_index == 0:
        check_folder(settings)
    given = circumstances(settings, data=fingerprint(settings, data), processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)
    batch = batch_of(settings, args.world_size, images=len(rows) if data.stream is None else data.images)

    # 3. Encoder f, head g, objective
    set_seed(settings.seed)
    model = build(settings, method, backbone, batch=batch, device=args.device)
    untrained = copy.deepcopy(model.model.encoder)
    if backbone.weights is not None:
        model.start_from(backbone.weights)
    named = f"--backbone {settings.backbone} with {backbone.arguments}"
    try_once(model, collator, rows, named=named, bf16_on_cpu=args.bf16 and args.device.type == "cpu")
    if args.world_size > 1 and args.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # or local statistics give the positives away

    # 4. Train
    learnt_from = held or (rows if data.stream is None else lanes(settings, args, data, collator, batch=batch))
    trainer = make_trainer(settings, args, model, collator, learnt_from, batch=batch, given=given)
    about = {"crop_pct": settings.crop_pct, "lightness": backbone.lightness}
    preprocess = ImagePreprocessor(settings.image_size, backbone.mean, backbone.std, **about)
    labelled = some_labelled(data) if judging and data.single_label else None
    watch(settings, trainer, collator, rows=rows, labelled=labelled, preprocess=preprocess)
    if trainer.is_world_process_zero():
        claim_folder(settings)
        say_what_is_read(
            settings, data, backbone, rows=rows, chosen=chosen, place=place, together=batch * args.world_size
        )
        try_to_show(SAMPLE, partial(collator.draw, rows, out / SAMPLE))
    list_what_is_skipped(trainer, out, data)
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.whole_model()
    if not trainer.is_world_process_zero():
        return Run(out)
    exported = write_encoder(model.model, out, backbone, image_size=settings.image_size, crop_pct=settings.crop_pct)
    save_native(model, out / "pretraining")  # both before anything is judged or drawn, which may fail

    # 5. Judge the encoder, and what it must beat
    networks = {method.facts.name: model.to(args.device).model.encoder}
    networks |= method.codes(model) if method.codes is not None else {}
    networks |= {RANDOM: untrained.to(args.device)}
    judged = judge(settings, networks, data, preprocess=preprocess, probes=method.probes) if judging else {}

    # 6. Share: the report and its card, beside f in timm's format and f and g to go on training
    report = describe(settings, method, trainer, data, rows, encoder_facts(backbone, exported), judged)
    report.command = command or report.command
    report.save(out)
    if method.stages and judging and data.single_label:
        staged = {name: networks[name] for name in (method.facts.name, RANDOM)}
        report.layers = judge_stages(settings, staged, data, preprocess=preprocess, probes=method.probes)
    if judging and data.single_label:
        wanted = partial(ask, report, networks, data, preprocess=preprocess, model=model)
        try_to_show("what is asked of a representation", wanted)
    show_own_task(report, settings, method, model, collator, rows=rows, test=data.test)
    try_to_show(NEAREST, partial(show_neighbours, report, networks, data, out / NEAREST, preprocess=preprocess))
    tell_trackers(write_results(report, out, repo_id=repo_id), out, trainer)
    print(f"\n{report.table()}\n\nencoder and card: {out}\n{how_to_go_on(out)}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


# ---- data and views


def open_images(settings: ImageSettings, source: Source | None = None) -> ImageData:
    """The images that the settings name, or those of the source; or a stream of them."""
    if settings.streaming:
        return stream_images(
            settings.dataset,
            files=settings.files,
            image_column=settings.image_column,
            max_undecodable=settings.max_undecodable,
            value_range=settings.value_range,
            channels=settings.channels,
        )
    return read_images(settings, source)


def read_images(settings: PictureSettings, source: Source | None = None) -> ImageData:
    """The images that the settings name, or those of the source, all of which are on the disk."""
    return load_images(
        settings.dataset if source is None else source,
        files=settings.files,
        image_column=settings.image_column,
        label_column=settings.label_column,
        label_type=settings.label_type,
        max_undecodable=settings.max_undecodable,
        value_range=settings.value_range,
        channels=settings.channels,
    )


def has_test_labels(data: ImageData | SoundData) -> bool:
    """Whether there is something to judge an encoder by."""
    return data.test is not None and data.label_names is not None and len(data.label_names) > 1


def labelled_rows(data: ImageData, method: ImageMethod):
    """The images to train on, for a method that needs a class of each."""
    if not data.single_label or len(data.label_names or ()) < 2 or not len(data.labelled):
        raise InputError(
            f"{method.facts.name} learns from the classes of the images, and {data.name} has not one of "
            "several for each: put them into class folders, name the --label_column, or choose a method without "
            "labels, such as simclr"
        )
    return data.labelled


def some_labelled(data: ImageData) -> list:
    """Few enough of the images to train and to test on that they can be judged again and again."""
    parts = ((data.labelled, 4000), (data.test, 1000))
    return [part.shuffle(seed=0).select(range(min(most, len(part)))) for part, most in parts]


def make_collator(settings: ImageSettings, method: ImageMethod, backbone: Backbone, data: ImageData, augment):
    """The method's own collator, or two views; with labels where the loss is of them."""
    collator = (method.collator or two_views)(settings, backbone, data, augment)
    return replace(collator, labels=True) if method.needs_labels else collator


def one_crop(collator: type, settings: CropSettings, backbone: Backbone, data: ImageData, augment, **given):
    """The collator of a method that starts from a crop of each image in its own colours: that of the settings, or the
    user's own. given: what else the collator takes."""
    cropped = partial(CROPS, size=settings.image_size, min_scale=settings.min_scale, flip=settings.flip)
    policy = cropped if augment is None else own_policy(augment)
    return collator(policy, backbone.mean, backbone.std, canvas=data.canvas(settings.image_size), **given)


def two_views(settings: ViewSettings, backbone: Backbone, data: ImageData, augment) -> DataCollatorForViews:
    """Two augmented views of each image: those of the settings, or the user's own."""
    policy = partial(
        POLICIES[settings.augmentation],
        size=settings.image_size,
        strength=settings.strength,
        min_scale=settings.min_scale,
        flip=settings.flip,
    )
    policy = policy if augment is None else own_policy(augment)
    return DataCollatorForViews(policy, backbone.mean, backbone.std, canvas=data.canvas(settings.image_size))


def hold(
    settings: PictureSettings, args: TrainingArguments, data: ImageData, rows, collator
) -> tuple[HeldRows | None, str]:
    """The images on the device that trains, or None where they do not stay there; and in words why."""
    if data.stream is not None:
        return None, "the images are read from the stream when they are needed, and stay nowhere"
    local = int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size))
    asked = settings.data_on_device
    held, place = held_on_device(rows, collator, asked=asked, device=args.device, processes=local)
    if held is not None:
        held.fill(workers=settings.dataloader_num_workers, progress=args.process_index == 0)
    return held, place


def batch_of(settings: PictureSettings, processes: int, *, images: int) -> int:
    """The images of one process in one loss. Raises InputError for a size that cannot be had."""
    together = settings.images_per_step(processes)
    if together > images:
        raise InputError(
            f"a batch of {together} images is larger than the data, {images}: lower --per_device_train_batch_size"
        )
    return together // processes


def say_what_is_read(
    settings: ImageSettings, data: ImageData, backbone: Backbone, *, rows, chosen: list[str], place: str, together: int
) -> None:
    """What is learnt from, what was left out of it, and what was left to it. together: images of a step."""
    skipped = data.skipped if data.stream is None else []  # which are met again
    write_skipped(Path(settings.output_dir, "skipped_images.txt"), [*data.left_out, *skipped])
    print(data.taken, *data.notes, sep="\n")
    print(what_was_chosen(settings, data, chosen), channels_in_words(settings, backbone), sep="", end="")
    count = f"{len(rows):,} images, {len(data.skipped)} skipped"
    if data.stream is not None:
        count = f"a buffer of {settings.shuffle_buffer:,} images for each reader"
    rate = f"{settings.peak_learning_rate(together):.4g}"
    print(f"{place}\n{count}; learning rate {rate}; log: {settings.output_dir}/log.jsonl", flush=True)


# ---- model and training


def configuration(settings: ImageSettings, method: ImageMethod, backbone: Backbone) -> ImageMethodConfig:
    """What rebuilds f and g: of the method's own fields, the settings of the same names, and the input's mean and
    deviation."""
    kind = method.model_class.config_class
    own = {spec.name for spec in fields(kind)} - {spec.name for spec in fields(ImageMethodConfig)}
    return kind(
        backbone=backbone.architecture,
        backbone_args=backbone.arguments,
        stem=settings.stem,
        **{name: getattr(settings if hasattr(settings, name) else backbone, name) for name in sorted(own)},
    )


def build(
    settings: ImageSettings, method: ImageMethod, backbone: Backbone, *, batch: int, device: torch.device
) -> PreTrainedModel:
    """f with fresh weights and g. Raises InputError where f does not take the views, or so many at once do not fit."""
    config = configuration(settings, method, backbone)
    named = f"--backbone {settings.backbone} with {backbone.arguments}"
    with refusing(
        f"{named} cannot take the views of this run, {backbone.channels} channels of {settings.image_size} pixels"
    ):
        check_memory(
            partial(ImageEncoder, config),
            (2, backbone.channels, settings.image_size, settings.image_size),
            examples=settings.VIEWS * min(batch, settings.per_device_train_batch_size),
            device=device,
            lower="--per_device_train_batch_size or --image_size"
            + " (--negatives keeps the number of images in a loss)" * hasattr(settings, "negatives"),
        )
    with refusing(f"{named} is no encoder that can be trained"):
        return method.model_class(config).to(memory_format=torch.channels_last)


def try_once(model: PreTrainedModel, collator, rows, *, named: str, bf16_on_cpu: bool) -> None:
    """Raises InputError, which begins with `named`, where f and g cannot take the views of this run, or not in bfloat16
    on a CPU."""
    model.eval()
    with torch.no_grad(), refusing(f"{named} cannot take the views of this run"), undefined_gradients(model) as layers:
        found = model(**collator.views(collator([rows[0], rows[1]]), Place(0, 0, 0, 0, 1)), return_loss=False)
    if layers and bf16_on_cpu:
        raise InputError(
            f"{named}: on a CPU, PyTorch's bfloat16 gradient of {layers[0]}, a convolution on maps narrower than its "
            "stride, is not defined: say --bf16 false, or a larger --image_size"
        )
    pooled = found.pooler_output
    if pooled.shape[-1] != model.model.features or pooled.ndim > 3:
        raise InputError(f"{named} gives features of shape {list(pooled.shape[1:])} for an image, not one vector")
    if not all(tensor.isfinite().all() for tensor in found.values()):
        raise InputError(f"{named} gives NaN or infinite numbers: its weights have diverged or are broken")


def training_arguments(settings: PictureSettings | SoundSettings) -> TrainingArguments:
    """What transformers.Trainer is told. The batch may still be left to the data."""
    settings = replace(settings, per_device_train_batch_size=settings.per_device_train_batch_size or 2)
    args = settings.training_arguments(
        lr_scheduler_type="cosine", warmup_steps=settings.warmup_steps, max_grad_norm=0.0
    )
    if settings.max_minutes is not None:
        if settings.warmup_steps >= 1:
            raise InputError(
                f"--warmup_steps {settings.warmup_steps:g}: with --max_minutes, a share of the run below 1"
            )
        args.max_steps = settings.max_steps if settings.max_steps > 0 else ENDLESS
    return args


def make_trainer(
    settings: PictureSettings | SoundSettings,
    args: TrainingArguments,
    model,
    collator,
    rows,
    *,
    batch: int,
    given: dict[str, Any],
) -> PretrainingTrainer:
    """The trainer of this run. rows: to train on, or these on the device; batch: images of this process in one loss;
    given: what the weights depend on."""
    at_once, timed = settings.per_device_train_batch_size, settings.max_minutes is not None
    compiled = settings.torch_compile and isinstance(collator, DataCollatorForViews)
    collate, make_views = collator, (replace(collator, compiled=True) if compiled else collator).views
    views = make_views
    args.per_device_train_batch_size = batch
    if isinstance(rows, HeldRows):  # there is nothing to load
        args.dataloader_num_workers, args.dataloader_persistent_workers = 0, False
        collate, views = rows.numbers, lambda batch, place: make_views(rows.batch(batch), place)
    rate = settings.peak_learning_rate(batch * args.world_size)
    more = {"betas": settings.BETAS} if settings.optimizer == "adamw" else {}
    make_optimizer = partial(getattr(optimizers, settings.optimizer), weight_decay=settings.weight_decay, **more)
    return PretrainingTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=collate,
        views=views,
        micro_batch=at_once if batch > at_once else None,
        make_optimizer=partial(make_optimizer, lr=rate),
        circumstances=given,
        max_skipped=settings.skippable_steps,
        max_minutes=settings.max_minutes,
        schedule=partial(schedules.cosine, warmup=settings.warmup_steps) if timed else None,
        callbacks=[JSONLines(settings.output_dir), *([] if timed else [Estimate()])],
    )


# ---- after training


def write_encoder(f: ImageEncoder, out: Path, backbone: Backbone, *, image_size: int, crop_pct: float) -> nn.Module:
    """Writes f in timm's format, or with its own code where it is none of timm's networks; returns the network that was
    written."""
    if backbone.architecture in OWN:
        about = {"image_size": image_size, "crop_pct": crop_pct, "channels": backbone.channels}
        kept = AutoModel.from_config(f.config)  # the class whose code travels with it
        kept.load_state_dict(f.state_dict())
        return export_own(kept, out, mean=backbone.mean, std=backbone.std, **about)
    return export_timm(
        f.encoder,
        out,
        architecture=backbone.architecture,
        arguments=backbone.arguments,
        image_size=image_size,
        mean=backbone.mean,
        std=backbone.std,
        crop_pct=crop_pct,
        lightness=backbone.lightness,
    )


def encoder_facts(backbone: Backbone, exported: nn.Module) -> facts.Encoder:
    """The facts of the network that was written."""
    own = backbone.architecture in OWN
    input_size = [backbone.channels, exported.size, exported.size] if own else exported.pretrained_cfg["input_size"]
    return facts.Encoder(
        library="transformers" if own else "timm",
        own_code=own,
        pipeline_tag="image-feature-extraction",
        architecture=backbone.architecture,
        parameters=count_parameters(exported),
        features=count_features(exported),
        input_size=list(input_size),
        initialized_from="random weights" if backbone.source is None else backbone.source,
        base_model=backbone.hub_id,
        lightness=backbone.lightness,
    )


def describe(
    settings: PictureSettings | SoundSettings,
    method: ImageMethod | PixelMethod | SoundMethod,
    trainer: PretrainingTrainer,
    data: ImageData | SoundData,
    rows,
    encoder: facts.Encoder,
    judged: Judged,
) -> facts.Report:
    """The facts of this run for its report and card."""
    drawn = Path(settings.output_dir, SAMPLE).exists()
    return facts.Report(
        method=method.facts,
        encoder=encoder,
        data=facts.Data(
            name=data.name,
            hub_id=data.hub_id,
            unit=data.UNIT,
            train=len(rows) if data.stream is None else None,
            test=len(data.test) if data.test is not None else 0,
            skipped=len(data.skipped) if data.stream is None else trainer.last("undecodable") or 0,
            classes=len(data.label_names) if data.label_names else None,
            held_out=data.test_source,
        ),
        training=facts.Training(**trainer.summary()),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
        figures={SAMPLE: "Images of the data, and views of each as this run drew them."} if drawn else {},
        rows={name: scores for name, (scores, _) in judged.items()},
        missing={name: missing for name, (_, missing) in judged.items()},
        protocols=protocols([metric for scores, _ in judged.values() for metric in scores]),
    )


def how_to_go_on(out: Path) -> str:
    """What can be done with the result next."""
    return f"{LONGER}\nto start another run from this encoder: --backbone {out}"


def export(method: ImageMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the encoder of a checkpoint in timm's format. given: what the run depended on."""
    then = {name: given[name] for name in ("backbone", "backbone_args", "image_size", "stem")}
    then["channels"] = given.get("channels")  # which earlier versions had not
    settings = ImageSettings(dataset=given["dataset"], output_dir=str(out), **then)
    backbone, _ = find_start(settings, image_size=given["image_size"], lightness=method.lightness)
    f = model_of(checkpoint, method.model_class).model
    write_encoder(f, out, backbone, image_size=given["image_size"], crop_pct=given["crop_pct"])
