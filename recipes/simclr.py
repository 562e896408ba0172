"""SimCLR (Chen et al. 2020, arXiv:2002.05709): from unlabelled images to an encoder that anyone can load.

    accelerate launch recipes/simclr.py --config recipes/configs/simclr/toy_digits.yaml --output_dir out/digits
    hf-replearn simclr --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/simclr.py \\
        --config recipes/configs/simclr/imagenet_resnet50.yaml --output_dir out/imagenet

The digits take two minutes on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

import copy
import json
import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import as_dict, changed, command_line, run, setting
from hf_replearn.training.settings import PretrainingSettings


@dataclass(kw_only=True)
class SimCLRSettings(PretrainingSettings):
    dataset: str = setting(
        ...,
        "folder of images, in class folders or train/ and test/ or flat; or of parquet or arrow; Hub id, or toy",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.png'; none: all of the one kind there is", section="data"
    )
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    label_column: str | None = setting(None, "column of the labels, only ever used for evaluation", section="data")
    label_type: Literal["classes", "ignored"] | None = setting(
        None, "what the labels are, where their type leaves a choice; ignored: no labels, no scores", section="data"
    )
    max_undecodable: float = setting(
        0.01, "share of images that may fail to decode before the run stops", section="data", at_least=0, at_most=1
    )
    value_range: tuple[float, ...] | None = setting(
        None, "LOW,HIGH: levels of 16- and 32-bit greys that become black and white; none: 0,65535", section="data"
    )
    augmentation: Literal["imagenet", "cifar"] | None = setting(
        None, "imagenet: with blur; cifar: without; none: cifar up to 64 pixels", section="data"
    )
    image_size: int | None = setting(
        None,
        "pixels of a view; none: about those of the images, at most 224, or those of a checkpoint",
        section="data",
        at_least=8,
        at_most=4096,
    )
    strength: float | None = setting(
        None,
        "of the colour jitter; none: 0.5 up to 64 pixels (paper, CIFAR-10), 1 above (ImageNet)",
        section="data",
        at_least=0,
        at_most=2.5,
    )
    min_scale: float = setting(
        0.08, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    flip: float = setting(
        0.5, "probability of mirroring; 0 where left and right matter", section="data", at_least=0, at_most=1
    )
    crop_pct: float = setting(
        1.0, "share of the image that evaluation sees (ImageNet: 0.875)", section="data", at_least=0.1, at_most=1
    )
    backbone: str | None = setting(
        None,
        "timm architecture, or a checkpoint to start from: Hub id or folder of timm's format, or what a SimCLR run "
        "left; none: resnet18 up to 64 pixels, resnet50 above",
        section="model",
    )
    backbone_args: dict | None = setting(None, "further arguments of timm.create_model", section="model")
    stem: Literal["imagenet", "cifar"] | None = setting(
        None, "cifar: a ResNet's stem for small images; none: that for ResNets up to 64 pixels", section="model"
    )
    projection_dim: int = setting(128, "width of z = g(h)", section="model", at_least=2, at_most=65_536)
    projection_layers: int = setting(2, "of g; 3 in SimCLR v2", section="model", at_least=1, at_most=100)
    temperature: float | None = setting(
        None,
        "of the loss; none: 0.5 up to 64 pixels (paper, CIFAR-10), 0.1 above (ImageNet)",
        section="model",
        at_least=0.025,
        at_most=1000,
    )
    per_device_train_batch_size: int | None = setting(
        None,
        "images per process and step; none: 256, or the largest power of two that the data allow",
        section="training",
        at_least=2,
        at_most=1_000_000,
    )
    optimizer: Literal["lars", "adamw"] = setting("lars", "LARS as in the paper, or AdamW", section="training")
    learning_rate: float | None = setting(
        None, "peak learning rate; none: by --learning_rate_rule", section="training", above=0, at_most=1000
    )
    learning_rate_rule: Literal["linear", "sqrt"] = setting(
        "linear",
        "0.3 * batch / 256, or 0.075 * sqrt(batch) for batches below 4096 (paper, appendix B.1)",
        section="training",
    )
    weight_decay: float = setting(
        1e-6, "of weight matrices; norms and biases have none", section="training", at_least=0
    )
    warmup_steps: float = setting(
        0.1,
        "linear warm-up before the cosine decay: steps, or a share of all if below 1",
        section="training",
        at_least=0,
    )
    negatives: int | None = setting(
        None,
        "images in one loss, over all processes; more than their batches: cached gradients",
        section="training",
        at_least=2,
    )
    knn_steps: int = setting(
        500, "steps between two kNN accuracies, if there are labels; 0: none", section="evaluation", at_least=0
    )
    shots: tuple[int, ...] | None = setting(
        None, "labels a class; none: 1, 2, 4, ... 64 as the smallest class allows", section="evaluation", at_least=1
    )
    draws: int = setting(20, "random choices of these labels", section="evaluation", at_least=2, at_most=10_000)


def main(settings: SimCLRSettings) -> None:
    """SimCLR: learn an encoder from unlabelled images by contrasting two views of each (arXiv:2002.05709)."""
    import torch
    from transformers import set_seed

    from hf_replearn import augmentation
    from hf_replearn.data.images import load_images
    from hf_replearn.data.inventory import write_skipped
    from hf_replearn.evaluation.k_shot import feasible_shots
    from hf_replearn.evaluation.suite import suite
    from hf_replearn.methods.simclr import DataCollatorForSimCLR
    from hf_replearn.representation import ImagePreprocessor, extract, labels_of, pca
    from hf_replearn.sharing.export import export_timm, save_native
    from hf_replearn.sharing.hub import push
    from hf_replearn.sharing.results import check_sharing, write_results
    from hf_replearn.sharing.show import try_to_show
    from hf_replearn.training import optimizers, schedules
    from hf_replearn.training.callbacks import CollapseWarning, Estimate, JSONLines, OnlineKNN
    from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
    from hf_replearn.training.trainer import PretrainingTrainer

    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    out = Path(settings.output_dir)
    find_start(settings, image_size=settings.image_size)
    args = training_arguments(settings)
    with args.main_process_first(desc="reading the images"):
        if args.process_index == 0:
            check_folder(settings, free=left_to_the_data(settings))
            repo_id = check_sharing(settings)
        data = load_images(
            settings.dataset,
            files=settings.files,
            image_column=settings.image_column,
            label_column=settings.label_column,
            label_type=settings.label_type,
            max_undecodable=settings.max_undecodable,
            value_range=settings.value_range,
        )
    labelled = data.test is not None and data.label_names is not None and len(data.label_names) > 1
    if labelled and data.single_label:
        feasible_shots(labels_of(data.labelled), settings.shots)
    chosen = left_to_the_data(settings)
    settings, backbone = fit_to_data(settings, data, processes=args.world_size)
    if args.process_index == 0:
        check_folder(settings)
    facts = circumstances(settings, data=data.fingerprint, processes=args.world_size)
    checkpoint = find_checkpoint(settings, facts, args=args)
    batch = images_per_step(settings, args.world_size, images=len(data.train)) // args.world_size

    # 2. Views
    policy = partial(
        {"imagenet": augmentation.simclr_imagenet, "cifar": augmentation.simclr_cifar}[settings.augmentation],
        size=settings.image_size,
        strength=settings.strength,
        min_scale=settings.min_scale,
        flip=settings.flip,
    )
    collator = DataCollatorForSimCLR(policy, backbone.mean, backbone.std, canvas=data.canvas(settings.image_size))

    # 3. Encoder f, projection head g, objective
    set_seed(settings.seed)
    model = build(settings, backbone, examples=min(batch, settings.per_device_train_batch_size), device=args.device)
    encoder, untrained = model.model.encoder, copy.deepcopy(model.model.encoder)
    if backbone.weights is not None:
        encoder.load_state_dict(backbone.weights)
    try_once(model, collator, data.train, named=f"--backbone {settings.backbone} with {backbone.arguments}")
    if args.world_size > 1 and args.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # or local statistics give the positives away

    # 4. Train
    schedule = partial(schedules.cosine, warmup=settings.warmup_steps) if settings.max_minutes is not None else None
    lr = settings.learning_rate or optimizers.learning_rate(settings.learning_rate_rule, batch * args.world_size)
    args.per_device_train_batch_size = batch
    trainer = PretrainingTrainer(
        model=model,
        args=args,
        train_dataset=data.train,
        data_collator=collator,
        views=collator.views,
        micro_batch=settings.per_device_train_batch_size if batch > settings.per_device_train_batch_size else None,
        make_optimizer=partial(getattr(optimizers, settings.optimizer), lr=lr, weight_decay=settings.weight_decay),
        circumstances=facts,
        max_skipped=settings.skippable_steps,
        max_minutes=settings.max_minutes,
        schedule=schedule,
        callbacks=[JSONLines(out), CollapseWarning(), *([Estimate()] if settings.max_minutes is None else [])],
    )
    preprocess = ImagePreprocessor(settings.image_size, backbone.mean, backbone.std, settings.crop_pct)
    if settings.knn_steps and labelled and data.single_label:
        few = [
            part.shuffle(seed=0).select(range(min(n, len(part))))
            for part, n in ((data.labelled, 4000), (data.test, 1000))
        ]
        now = partial(map, partial(extract, encoder, preprocess=preprocess), few)
        trainer.add_callback(OnlineKNN(now, steps=settings.knn_steps, log=trainer.log))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        write_skipped(out / "skipped_images.txt", [*data.left_out, *data.skipped])
        print(data.taken, *data.notes, sep="\n")
        print(what_was_chosen(settings, data, chosen), end="")
        print(
            f"{len(data.train):,} images, {len(data.skipped)} skipped; learning rate {lr:.4g}; log: {out}/log.jsonl",
            flush=True,
        )
        try_to_show("augmentations.png", partial(draw_views, collator, data.train, out / "augmentations.png"))
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.is_world_process_zero():
        return
    exported = export_timm(
        encoder,
        out,
        architecture=backbone.architecture,
        arguments=backbone.arguments,
        image_size=settings.image_size,
        mean=backbone.mean,
        std=backbone.std,
        crop_pct=settings.crop_pct,
    )
    save_native(model, out / "pretraining")  # both before anything is judged or drawn, which may fail

    # 5. Represent: the encoder, and what it must beat
    judged = {}
    if labelled:
        parts = (data.labelled, data.test)
        represent = partial(extract, preprocess=preprocess, num_workers=settings.dataloader_num_workers)
        small = ImagePreprocessor(min(settings.image_size, 32), backbone.mean, backbone.std)
        pixels = [extract(torch.nn.Flatten(), part, preprocess=small, progress="pixels") for part in parts]
        features = {
            "SimCLR": [represent(encoder, part, progress="SimCLR") for part in parts],
            "raw pixels": pixels,
            "PCA of pixels": pca(pixels[0], *pixels, components=64),
            "random weights": [represent(untrained.to(args.device), part, progress="random weights") for part in parts],
        }

        # 6. Evaluate
        judge = partial(suite, shots=settings.shots, draws=settings.draws, seed=settings.seed)
        judged = {name: judge(train, test, name=name) for name, (train, test) in features.items()}

    # 7. Share: the report and its card, beside f in timm's format and f and g to go on training
    report = describe(settings, trainer, data, backbone, exported, judged)
    if (out / "augmentations.png").exists():
        report.figures["augmentations.png"] = "Images of the data, and views of each as this run drew them."
    write_results(report, out, repo_id=repo_id)
    print(f"\n{report.table()}\n\nencoder and card: {out}\n{how_to_go_on(out)}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")


# ---- what is left to the data


SMALL = 64  # pixels up to which an image is treated as those of CIFAR-10
LEFT_TO_DATA = (
    "backbone", "image_size", "stem", "augmentation", "strength", "temperature", "per_device_train_batch_size",
)  # fmt: skip


def left_to_the_data(settings: SimCLRSettings) -> list[str]:
    """The names of the settings that were not given and depend on the images."""
    return [name for name in LEFT_TO_DATA if getattr(settings, name) is None]


def fit_to_data(settings: SimCLRSettings, data, *, processes: int):
    """The settings with what was left to the data filled in, and the backbone with them."""
    side = typical_side(data.sizes)
    small = (settings.image_size or side) <= SMALL
    name = settings.backbone or ("resnet18" if small else "resnet50")
    settings = replace(settings, backbone=name)
    backbone, stem = find_start(settings, image_size=settings.image_size)
    if settings.image_size is not None:
        size = settings.image_size
    elif backbone.source is not None:
        size = backbone.input_size
    else:  # a ResNet with the CIFAR stem halves three times, other networks five: 2 x 2 are left of the smallest
        step, least, most = (8, 16, SMALL) if stem == "cifar" and small else (32, 64, 224)
        size = min(max(-(-side // step) * step, least), most)
    small = size <= SMALL
    stem = stem if small or backbone.source is not None or settings.stem is not None else "imagenet"
    settings = replace(
        settings,
        image_size=size,
        stem=stem,
        augmentation=settings.augmentation or ("cifar" if small else "imagenet"),
        strength=(0.5 if small else 1.0) if settings.strength is None else settings.strength,
        temperature=settings.temperature or (0.5 if small else 0.1),
        per_device_train_batch_size=settings.per_device_train_batch_size
        or batch_that_fits(settings.negatives or len(data.train), processes, whole=settings.negatives is not None),
    )
    return settings, backbone if backbone.source is not None else find_start(settings, image_size=size)[0]


def typical_side(sizes) -> int:
    """The median over images of their longer side, in pixels. sizes: (H, W) -> how many."""
    sides = sorted((max(size), count) for size, count in sizes.items())
    half = (sum(count for _, count in sides) + 1) // 2
    for side, count in sides:
        half -= count
        if half <= 0:
            return side
    return sides[-1][0]


def batch_that_fits(images: int, processes: int, *, whole: bool) -> int:
    """The largest power of two from 2 to 256 of which so many images hold a batch for each process; whole: no rest."""
    for batch in (256, 128, 64, 32, 16, 8, 4):
        if batch * processes <= images and not (whole and images % (batch * processes)):
            return batch
    return 2


def find_start(settings: SimCLRSettings, *, image_size: int | None):
    """The encoder to train, as a Backbone, and its stem: an architecture, a timm checkpoint, or an earlier run's."""
    from hf_replearn.encoders.backbones import find_backbone

    name = settings.backbone or "resnet50"
    earlier = earlier_run(name)
    if earlier is not None:
        return of_earlier_run(settings, earlier)
    find = partial(find_backbone, name, image_size=image_size, arguments=settings.backbone_args)
    if settings.stem is not None:
        return find(stem=settings.stem), settings.stem
    try:
        return find(stem="cifar"), "cifar"
    except InputError:  # not a ResNet, or a checkpoint, which has its own
        return find(stem="imagenet"), "imagenet"


def earlier_run(name: str) -> Path | None:
    """The folder with f and g that an earlier run left in `name`, or that `name` is."""
    for folder in (Path(name), Path(name, "pretraining")):
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(config, dict) and config.get("model_type") == "simclr":
            return folder
    return None


def of_earlier_run(settings: SimCLRSettings, folder: Path):
    """f of an earlier run, as it was trained: its stem is its own, where the exported network has it folded."""
    from hf_replearn.encoders.backbones import find_backbone
    from hf_replearn.encoders.weights import refusing
    from hf_replearn.methods.simclr import SimCLRForPreTraining
    from hf_replearn.sharing.export import UPSAMPLING

    with refusing(f"--backbone {settings.backbone} is of an earlier run, but cannot be loaded"):
        network = SimCLRForPreTraining.from_pretrained(folder)
        config, told = network.config, json.loads((folder.parent / "config.json").read_text())["pretrained_cfg"]
        mean, std, size = tuple(told["mean"]), tuple(told["std"]), told["input_size"][-1]
    size = size // UPSAMPLING if config.stem == "cifar" else size
    asked = {"--stem": (settings.stem, config.stem), "--backbone_args": (settings.backbone_args, config.backbone_args)}
    for flag, (given, has) in asked.items():
        if given not in (None, has):
            raise InputError(f"{flag} {given}: {settings.backbone} has {has}: leave it out")
    fixed = (config.backbone_args or {}).get("img_size")
    if fixed is not None and settings.image_size not in (None, fixed):
        raise InputError(f"--image_size {settings.image_size}: {settings.backbone} takes {fixed} pixels: leave it out")
    plain = find_backbone(config.backbone, image_size=size, arguments=config.backbone_args, stem=config.stem)
    weights = network.model.encoder.state_dict()
    start = {"mean": mean, "std": std, "input_size": size, "weights": weights, "source": settings.backbone}
    return replace(plain, **start), config.stem


def what_was_chosen(settings: SimCLRSettings, data, left: list[str]) -> str:
    """One line that says what was left to the data."""
    (height, width), _ = data.sizes.most_common(1)[0]
    several = f"of several sizes, half of them up to {typical_side(data.sizes)}"
    size = f"{width} x {height}" if len(data.sizes) == 1 else several
    names = [name for name in left if name != "image_size" and (name, getattr(settings, name)) != ("stem", "imagenet")]
    flags = " ".join(f"--{name} {getattr(settings, name)}" for name in names)
    line = f"images are {size} pixels: trained at {settings.image_size} with {flags}".removesuffix(" with ")
    return f"{line}\n" if names or "image_size" in left else ""


# ---- before and after training


def build(settings: SimCLRSettings, backbone, *, examples: int, device):
    """f with fresh weights and g. Raises InputError where f does not take the views, or so many at once do not fit."""
    import torch

    from hf_replearn.encoders.weights import refusing
    from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining, SimCLRModel
    from hf_replearn.training.memory import check_memory

    config = SimCLRConfig(
        backbone=backbone.architecture,
        backbone_args=backbone.arguments,
        stem=settings.stem,
        projection_dim=settings.projection_dim,
        projection_layers=settings.projection_layers,
        temperature=settings.temperature,
    )
    named = f"--backbone {settings.backbone} with {backbone.arguments}"
    with refusing(f"{named} cannot take the views of this run, 3 colours of {settings.image_size} pixels"):
        check_memory(
            partial(SimCLRModel, config),
            (2, 3, settings.image_size, settings.image_size),
            examples=2 * examples,
            device=device,
            lower="--per_device_train_batch_size or --image_size (--negatives keeps the number of images in a loss)",
        )
    with refusing(f"{named} is no encoder that can be trained"):
        return SimCLRForPreTraining(config).to(memory_format=torch.channels_last)


def training_arguments(settings: SimCLRSettings):
    """What transformers.Trainer is told. The batch may still be left to the data."""
    from hf_replearn.training.settings import ENDLESS

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


def try_once(model, collator, rows, *, named: str) -> None:
    """Raises InputError, which begins with `named`, where f and g cannot take the views of this run."""
    import torch

    from hf_replearn.encoders.weights import refusing
    from hf_replearn.randomness import Place

    model.eval()
    with torch.no_grad(), refusing(f"{named} cannot take the views of this run"):
        batch = collator([rows[0], rows[1]])
        found = model(**collator.views(batch, Place(0, 0, 0, 0, 1)), return_loss=False)
    if found.pooler_output.ndim != 3:
        shape = list(found.pooler_output.shape[2:])
        raise InputError(f"{named} gives features of shape {shape} for an image, not one vector")
    if not found.projections.isfinite().all():
        raise InputError(f"{named} gives NaN or infinite numbers: its weights have diverged or are broken")


def draw_views(collator, rows, path: Path) -> None:
    """A picture of what the network sees: some images of the data, and views of each as this run draws them."""
    from hf_replearn.augmentation import draw_views
    from hf_replearn.randomness import Place

    shown = min(6, len(rows))
    batch = collator([rows[place * len(rows) // shown] for place in range(shown)])  # neighbours are often of one class
    images, aspect = batch["pixel_values"], batch.get("aspect")
    views = collator.policy(images, views=6, generator=Place(0, 0, 0, 0, 1).generator(), aspect=aspect)
    draw_views(images, views, path, aspect=aspect)


def how_to_go_on(out: Path) -> str:
    """What can be done with the result next."""
    return (
        f"to train longer: the same command with more --num_train_epochs, --max_steps or --max_minutes, and "
        f"--allow_change\nto start another run from this encoder: --backbone {out}"
    )


def images_per_step(settings: SimCLRSettings, processes: int, *, images: int) -> int:
    """The images contrasted in one loss, over all processes. Raises InputError for a size that cannot be had."""
    together = settings.per_device_train_batch_size * processes
    negatives = settings.negatives or together
    if negatives < together or negatives % together:
        raise InputError(
            f"--negatives {negatives} must be a multiple of {together}, the images that {processes} process(es) hold "
            f"with --per_device_train_batch_size {settings.per_device_train_batch_size}"
        )
    if negatives < 2:
        raise InputError("a batch of one image has no negatives: raise --per_device_train_batch_size")
    if negatives > images:
        raise InputError(
            f"a batch of {negatives} images is larger than the data, {images}: lower --per_device_train_batch_size"
        )
    return negatives


def describe(settings: SimCLRSettings, trainer, data, backbone, exported, judged: dict[str, tuple[dict, dict]]):
    """The facts of this run for its report and card. judged: of each row its scores, and why others are missing."""
    from hf_replearn.encoders.backbones import count_features, count_parameters
    from hf_replearn.evaluation.suite import protocols
    from hf_replearn.sharing import report as facts

    return facts.Report(
        method=facts.Method(
            name="SimCLR",
            summary="Two augmented views of an image attract in the space of a projection head, and views of other "
            "images repel; no labels are used, and the head is thrown away.",
            paper="A Simple Framework for Contrastive Learning of Visual Representations",
            arxiv="2002.05709",
            bibtex=BIBTEX,
            model_class="hf_replearn.methods.simclr.SimCLRForPreTraining",
        ),
        encoder=facts.Encoder(
            library="timm",
            pipeline_tag="image-feature-extraction",
            architecture=backbone.architecture,
            parameters=count_parameters(exported),
            features=count_features(exported),
            input_size=list(exported.pretrained_cfg["input_size"]),
            initialized_from="random weights" if backbone.source is None else backbone.source,
            base_model=backbone.hub_id,
        ),
        data=facts.Data(
            name=data.name,
            hub_id=data.hub_id,
            unit="image",
            train=len(data.train),
            test=len(data.test) if data.test is not None else 0,
            skipped=len(data.skipped),
            classes=len(data.label_names) if data.label_names else None,
            held_out=data.test_source,
        ),
        training=facts.Training(**trainer.summary()),
        command=shlex.join(["hf-replearn", "simclr", *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
        rows={name: scores for name, (scores, _) in judged.items()},
        missing={name: missing for name, (_, missing) in judged.items()},
        protocols=protocols([metric for scores, _ in judged.values() for metric in scores]),
    )


def export(checkpoint: Path, facts: dict, out: Path) -> None:
    """Writes the encoder of a checkpoint in timm's format. facts: what the run depended on."""
    from hf_replearn.methods.simclr import SimCLRForPreTraining
    from hf_replearn.sharing.export import export_timm

    size = facts["image_size"]
    then = {name: facts[name] for name in ("backbone", "backbone_args", "image_size", "stem")}
    backbone, _ = find_start(SimCLRSettings(dataset=facts["dataset"], output_dir=str(out), **then), image_size=size)
    export_timm(
        SimCLRForPreTraining.from_pretrained(checkpoint).model.encoder,
        out,
        architecture=backbone.architecture,
        arguments=backbone.arguments,
        image_size=size,
        mean=backbone.mean,
        std=backbone.std,
        crop_pct=facts["crop_pct"],
    )


BIBTEX = """\
@inproceedings{chen2020simple,
  title     = {A Simple Framework for Contrastive Learning of Visual Representations},
  author    = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning},
  year      = {2020}
}"""

if __name__ == "__main__":
    run(main, SimCLRSettings, prog="simclr")
