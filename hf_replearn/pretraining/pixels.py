"""The story of a run on images as rows of colours: data, palette, native model, training, the model and its image
processor in transformers' format, what it is worth layer by layer, samples, report, card, upload."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import ImageGPTImageProcessor, PreTrainedModel, set_seed

from hf_replearn import architectures
from hf_replearn.data.images import ImageData
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sources import Source
from hf_replearn.encoders.backbones import RGB
from hf_replearn.errors import InputError
from hf_replearn.evaluation.k_shot import feasible_shots
from hf_replearn.methods.collating import CROPS, DataCollatorForViews
from hf_replearn.pretraining import images
from hf_replearn.pretraining.fixed import fixed_sample
from hf_replearn.pretraining.memory import fit_to_memory
from hf_replearn.pretraining.recipe import PixelMethod, PixelSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.watch import watch
from hf_replearn.pretraining.worth import ask, judge, judge_stages, show_neighbours
from hf_replearn.randomness import Place, undisturbed, upload
from hf_replearn.representation import ImagePreprocessor, labels_of
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training import optimizers
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.sharded_checkpoints import model_of

HALF = (0.5,) * RGB  # mean and standard deviation of the input: black at -1, white at 1
COUNTED = 5000  # images whose colours are counted
TOGETHER = 64  # images in one pass, where nothing is trained


@dataclass(frozen=True, kw_only=True)
class OneView(DataCollatorForViews):
    """A crop of each image, mirrored or not. hidden: how many of its pixels are not seen."""

    hidden: int = 0

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, 3, S, S), black at -1 and white at 1. hidden: (B, n), positions, where some are."""
        pixels = self.normalized(self.policy, batch, place.generator(), count=1)[:, 0].contiguous()
        if not self.hidden:
            return {"pixel_values": pixels}
        drawn = place.uniform(len(pixels), pixels.shape[-1] * pixels.shape[-2])
        return {"pixel_values": pixels, "hidden": upload(drawn.argsort(1)[:, : self.hidden], pixels.device)}


def pretrain_pixels(
    settings: PixelSettings, method: PixelMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Trains the model of `method`, saves, judges, describes and shares it. Arguments and errors are those of
    `pretrain_images`."""
    # 1. Data and palette. What can be wrong with the input is found out here, before anything is trained.
    out, args = Path(settings.output_dir), images.training_arguments(settings)
    with args.main_process_first(desc="reading the images"):
        repo_id = None
        if args.process_index == 0:
            check_folder(settings, free=settings.left_to_memory)
            repo_id = check_sharing(settings)
        data = open_rgb(settings, source)
    judging = images.has_test_labels(data)
    if judging and data.single_label:
        feasible_shots(labels_of(data.labelled), settings.shots)
    rows, preprocess = data.train, ImagePreprocessor(settings.image_size, HALF, HALF, settings.crop_pct)
    policy = partial(CROPS, size=settings.image_size, min_scale=settings.min_scale, flip=settings.flip)
    hidden = round(method.hidden * settings.image_size**2)
    collator = OneView(policy, HALF, HALF, canvas=data.canvas(settings.image_size), hidden=hidden)
    palette = method.palette(colours_of(some(rows, COUNTED), preprocess), settings.colours)
    held, place = images.hold(settings, args, data, rows, collator)
    whole = partial(build, method=method, palette=palette)
    settings = fit_to_memory(settings, args, whole, collator, rows, least=1)
    if args.process_index == 0:
        check_folder(settings)
    given = circumstances(settings, data=data.fingerprint, processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)
    batch = images.batch_of(settings, args.world_size, images=len(rows))

    # 2. Native model, and its palette
    set_seed(settings.seed)
    model = build(settings, method=method, palette=palette)
    untrained = copy.deepcopy(model.model)

    # 3. Train
    trainer = images.make_trainer(
        settings, args, model, collator, rows if held is None else held, batch=batch, given=given
    )
    if settings.optimizer == "muon":
        trainer.make_optimizer = partial(muon, settings=settings)
    labelled = images.some_labelled(data) if judging and data.single_label else None
    watch(settings, trainer, collator, rows=rows, labelled=labelled, preprocess=preprocess)
    if trainer.is_world_process_zero():
        claim_folder(settings)
        write_skipped(out / "skipped_images.txt", [*data.left_out, *data.skipped])
        print(data.taken, *data.notes, sep="\n")
        print(f"{place}\n{len(rows):,} images, {len(data.skipped)} skipped; log: {out}/log.jsonl", flush=True)
        try_to_show(images.SAMPLE, partial(collator.draw, rows, out / images.SAMPLE))
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.whole_model()
    if not trainer.is_world_process_zero():
        return Run(out)

    # 4. Save: the native model with its image processor, and both with our head. Then what it is worth.
    write_model(model, out, image_size=settings.image_size)
    save_native(model, out / "pretraining")
    networks = {method.facts.name: model.to(args.device).model, "random weights": untrained.to(args.device)}
    judged = judge(settings, networks, data, preprocess=preprocess) if judging else {}
    report = images.describe(settings, method, trainer, data, rows, encoder_facts(settings, model), judged)
    report.command = command or report.command
    report.save(out)
    if judging and data.single_label:
        report.layers = judge_stages(settings, networks, data, preprocess=preprocess, split=method.layers)
        wanted = partial(ask, report, networks, data, preprocess=preprocess)
        try_to_show("what is asked of a representation", wanted)
    show(report, method, model, data, preprocess=preprocess, out=out)
    nearest = partial(show_neighbours, report, networks, data, out / images.NEAREST, preprocess=preprocess)
    try_to_show(images.NEAREST, nearest)
    tell_trackers(write_results(report, out, repo_id=repo_id), out, trainer)
    print(f"\n{report.table()}\n\nmodel and card: {out}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


def open_rgb(settings: PixelSettings, source: Source | None) -> ImageData:
    """The images, as RGB. Raises InputError where other channels are asked for."""
    if settings.channels not in (None, RGB):
        raise InputError(
            f"--channels {settings.channels}: a palette is of red, green and blue; leave it out, and grey images "
            "become RGB too"
        )
    return images.read_images(settings, source)


def some(rows, most: int):
    """So many rows at most, from all over the data."""
    if len(rows) <= most:
        return rows
    return rows.select([place * len(rows) // most for place in range(most)])


def batches_of(rows, preprocess: ImagePreprocessor, device: torch.device | str = "cpu"):
    """The images of rows, (B, 3, S, S) at a time."""
    for start in range(0, len(rows), TOGETHER):
        yield preprocess([rows[place] for place in range(start, min(start + TOGETHER, len(rows)))]).to(device)


def colours_of(rows, preprocess: ImagePreprocessor) -> Tensor:
    """The colours of all pixels, (N, 3) uint8."""
    pixels = [((batch + 1) * 127.5).round().to(torch.uint8) for batch in batches_of(rows, preprocess)]
    return torch.cat([part.permute(0, 2, 3, 1).reshape(-1, RGB) for part in pixels])


def build(settings: PixelSettings, *, method: PixelMethod, palette: Tensor) -> PreTrainedModel:
    """The model from scratch. Head and output projections start at zero: the loss begins at ln K of K colours."""
    config = method.native(settings, len(palette))
    model = method.model_class(method.model_class.config_class(decoder=config))
    model.model.palette.copy_(palette)
    with torch.no_grad():
        architectures.zero_output_projections(model.model.network)
        model.model.network.get_output_embeddings().weight.zero_()
    return model


def muon(model: PreTrainedModel, *, settings: PixelSettings) -> torch.optim.Optimizer:
    """Muon for the matrices of the blocks, AdamW for embeddings, head and norms."""
    return optimizers.muon(
        model,
        settings.learning_rate,
        matrices=architectures.hidden_matrices(model.model.network),
        muon_lr=settings.muon_learning_rate,
        weight_decay=settings.weight_decay,
        betas=settings.BETAS,
    )


def write_model(model: PreTrainedModel, out: Path, *, image_size: int) -> None:
    """The native model, and the image processor that makes its tokens."""
    save_native(model.model.network, out)
    size = {"height": image_size, "width": image_size}
    ImageGPTImageProcessor(clusters=model.model.palette.cpu().tolist(), size=size).save_pretrained(out)


def encoder_facts(settings: PixelSettings, model: PreTrainedModel) -> facts.Encoder:
    network = model.model.network
    return facts.Encoder(
        library="transformers",
        pipeline_tag="image-feature-extraction",
        architecture=type(network).__name__,
        parameters=network.num_parameters(),
        features=network.config.hidden_size,
        input_size=[RGB, settings.image_size, settings.image_size],
    )


def show(
    report: facts.Report,
    method: PixelMethod,
    model: PreTrainedModel,
    data: ImageData,
    *,
    preprocess: ImagePreprocessor,
    out: Path,
) -> None:
    """How well colours are told, and samples, into the report; each may fail by itself, with a word."""
    held_out = data.test is not None and len(data.test) > 0
    sample = fixed_sample(data.test if held_out else data.train)
    batches = partial(batches_of, preprocess=preprocess, device=model.device)
    model.eval()
    with torch.no_grad(), undisturbed():
        ask = partial(method.own_task, model, batches(some(data.train, COUNTED)), batches(sample))
        own, _ = try_to_show("how well it tells colours", ask)
        if own is not None:
            own.told += f" On {len(sample):,} images {'held out' if held_out else 'that it was trained on'}."
            report.own_task = own
            print(f"\n{own.table()}")
        drawn, _ = try_to_show("samples", lambda: method.pictures(model, next(batches(some(sample, 8))), out))
        report.figures |= drawn or {}


def export(method: PixelMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the native model of a checkpoint, and its image processor. given: what the run depended on."""
    write_model(model_of(checkpoint, method.model_class), out, image_size=given["image_size"])
