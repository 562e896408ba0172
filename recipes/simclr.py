"""SimCLR (Chen et al. 2020, arXiv:2002.05709): from unlabelled images to an encoder that anyone can load.

    accelerate launch recipes/simclr.py --config recipes/configs/simclr/toy_digits.yaml --output_dir out/digits
    hf-replearn simclr --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/simclr.py \\
        --config recipes/configs/simclr/imagenet_resnet50.yaml --output_dir out/imagenet

The digits take two minutes on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass
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
    augmentation: Literal["imagenet", "cifar"] = setting(
        "imagenet", "imagenet: with blur; cifar: without", section="data"
    )
    image_size: int = setting(224, "pixels of a view", section="data", at_least=8, at_most=4096)
    strength: float = setting(
        1.0, "of the colour jitter (paper: 1 on ImageNet, 0.5 on CIFAR-10)", section="data", at_least=0, at_most=10
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
    backbone: str = setting("resnet50", "timm architecture, or a timm checkpoint: Hub id or folder", section="model")
    backbone_args: dict | None = setting(None, "further arguments of timm.create_model", section="model")
    stem: Literal["imagenet", "cifar"] = setting("imagenet", "cifar: a ResNet's stem for small images", section="model")
    projection_dim: int = setting(128, "width of z = g(h)", section="model", at_least=2, at_most=65_536)
    projection_layers: int = setting(2, "of g; 3 in SimCLR v2", section="model", at_least=1, at_most=100)
    temperature: float = setting(
        0.1, "of the loss (paper: 0.1 on ImageNet, 0.5 on CIFAR-10)", section="model", at_least=0.025, at_most=1000
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
    from hf_replearn.data.images import load_images, stack_images
    from hf_replearn.data.inventory import write_skipped
    from hf_replearn.encoders.backbones import find_backbone
    from hf_replearn.evaluation.k_shot import feasible_shots
    from hf_replearn.evaluation.suite import suite
    from hf_replearn.methods.simclr import DataCollatorForSimCLR, SimCLRConfig, SimCLRForPreTraining
    from hf_replearn.representation import ImagePreprocessor, extract, labels_of, pca
    from hf_replearn.sharing.export import export_timm, save_native
    from hf_replearn.sharing.hub import push
    from hf_replearn.sharing.results import check_sharing, write_results
    from hf_replearn.training import optimizers
    from hf_replearn.training.callbacks import CollapseWarning, JSONLines, OnlineKNN
    from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
    from hf_replearn.training.trainer import PretrainingTrainer

    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    out = Path(settings.output_dir)
    backbone = find_backbone(
        settings.backbone, image_size=settings.image_size, arguments=settings.backbone_args, stem=settings.stem
    )
    args = settings.training_arguments(
        lr_scheduler_type="cosine", warmup_steps=settings.warmup_steps, max_grad_norm=0.0
    )
    with args.main_process_first(desc="reading the images"):
        if args.process_index == 0:
            check_folder(settings)
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
    config = SimCLRConfig(
        backbone=backbone.architecture,
        backbone_args=backbone.arguments,
        stem=settings.stem,
        projection_dim=settings.projection_dim,
        projection_layers=settings.projection_layers,
        temperature=settings.temperature,
    )
    model = SimCLRForPreTraining(config).to(memory_format=torch.channels_last)
    encoder, untrained = model.model.encoder, copy.deepcopy(model.model.encoder)
    if backbone.weights is not None:
        encoder.load_state_dict(backbone.weights)
    if args.world_size > 1 and args.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # or local statistics give the positives away

    # 4. Train
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
        callbacks=[JSONLines(out), CollapseWarning()],
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
        augmentation.picture(stack_images([data.train[0]], canvas=None)[0][0], out / "augmentations.png")
        print(data.taken, *data.notes, sep="\n", flush=True)
        print(f"{len(data.train):,} images, {len(data.skipped)} skipped; learning rate {lr:.4g}; log: {out}/log.jsonl")
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.is_world_process_zero():
        return

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

    # 7. Share: f in timm's format, f and g to go on training, the report and its card
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
    save_native(model, out / "pretraining")
    report = describe(settings, trainer, data, backbone, exported, judged)
    write_results(report, out, repo_id=repo_id)
    print(f"\n{report.table()}\n\nencoder and card: {out}\nto go on training: {out / 'pretraining'}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")


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
    from hf_replearn.encoders.backbones import find_backbone
    from hf_replearn.methods.simclr import SimCLRForPreTraining
    from hf_replearn.sharing.export import export_timm

    size = facts["image_size"]
    backbone = find_backbone(facts["backbone"], image_size=size, arguments=facts["backbone_args"], stem=facts["stem"])
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
