"""The story of a run on images with captions: data, two towers, training, both in the format of others, what they are
worth beside chance and a linear map, report, card, upload."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedConfig, PreTrainedModel, set_seed

from hf_replearn.data.image_texts import PairData, load_pairs
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sources import Source
from hf_replearn.data.tokenization import TRAINED_ON, load_tokenizer, train_once
from hf_replearn.encoders.backbones import count_parameters
from hf_replearn.encoders.pair_encoder import ImageProjection, PairEncoder, read_pair_encoder
from hf_replearn.encoders.towers import (
    SIZES,
    USUAL_LENGTH,
    ImageStart,
    TextStart,
    find_image_tower,
    find_text_tower,
    held_by,
    new_text_tower,
    with_poolers,
)
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError
from hf_replearn.evaluation.judged_pairs import judge_pairs
from hf_replearn.pretraining import images
from hf_replearn.pretraining.exported_pairs import export_pairs
from hf_replearn.pretraining.recipe import SMALL, PairMethod, PairSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.start import typical_side
from hf_replearn.randomness import Place
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.drawn_pairs import draw_found
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training.callbacks import HealthWarning
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.sharded_checkpoints import model_of
from hf_replearn.training.trainer import PretrainingTrainer

RANDOM = "random weights"  # the row of the towers before training
FOUND = "found.png"


def pretrain_pairs(
    settings: PairSettings, method: PairMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Trains both towers of `method`, judges, exports, describes and shares them. Arguments and errors are those of
    `pretrain_images`."""
    # 1. Data and towers. What can be wrong with the input is found out here, before anything is trained.
    out, args = Path(settings.output_dir), images.training_arguments(settings)
    with args.main_process_first(desc="reading the images and captions"):
        repo_id = None
        if args.process_index == 0:
            check_folder(settings)
            repo_id = check_sharing(settings)
        data = read_pairs(settings, source)
        set_seed(settings.seed)
        image, text = find_towers(settings, data)
    batch = batch_of(settings, args.world_size, pairs=len(data.train))
    given = circumstances(settings, data=data.fingerprint, processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)

    # 2. Both towers and what joins them
    config, told = configuration(settings, method, image, text)
    collator = method.collator(settings, image, text, data)
    model = method.model_class(config)
    model.encoder.image.network.load_state_dict(image.network.state_dict())
    model.encoder.text.network.load_state_dict(text.network.state_dict())
    untrained = copy.deepcopy(model.encoder)
    try_once(model, collator, data.train, named=f"{settings.image_encoder} with {settings.text_encoder}")

    # 3. Train
    trainer = images.make_trainer(settings, args, model, collator, data.train, batch=batch, given=given)
    trainer.add_callback(HealthWarning(settings.projection_dim))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        text.tokenizer.save_pretrained(out / "pretraining")  # by which checkpoints can be exported
        say_what_is_read(settings, data, image, told=told, together=batch * args.world_size)
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.whole_model()
    if not trainer.is_world_process_zero():
        return Run(out)

    # 4. Save both, in the format of others and with our loss. What is judged is what others will load.
    exported = export_pairs(model.encoder.cpu(), out, config, text.tokenizer)
    save_native(model, out / "pretraining")
    encoder = read_pair_encoder(str(out))
    encoder.model.to(args.device)
    judged, shown = judge(settings, method, encoder, untrained.to(args.device), data)
    report = describe(settings, method, trainer, data, encoder_facts(model, exported, image, text), judged)
    report.command = command or report.command
    report.save(out)
    drawn, _ = try_to_show(FOUND, partial(draw_found, shown, out / FOUND))
    report.figures |= {FOUND: drawn} if drawn else {}
    tell_trackers(write_results(report, out, repo_id=repo_id), out, trainer)
    print(f"\n{report.table()}\n\nencoder and card: {out}\n{images.LONGER}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


def read_pairs(settings: PairSettings, source: Source | None) -> PairData:
    """The pairs that the settings name, or those of the source."""
    return load_pairs(
        settings.dataset if source is None else source,
        files=settings.files,
        config=settings.dataset_config,
        image_column=settings.image_column,
        text_column=settings.text_column,
        max_undecodable=settings.max_undecodable,
    )


def batch_of(settings: PairSettings, processes: int, *, pairs: int) -> int:
    """The pairs of one process in one loss. Raises InputError for a number that cannot be had."""
    together = settings.pairs_per_step(processes)
    if together > pairs:
        raise InputError(
            f"a batch of {together} pairs is larger than the data, {pairs}: lower --per_device_train_batch_size"
        )
    return together // processes


def say_what_is_read(settings: PairSettings, data: PairData, image: ImageStart, *, told: str, together: int) -> None:
    """What is learnt from, what was left out of it, and what will be written."""
    write_skipped(Path(settings.output_dir, "skipped_pairs.txt"), [*data.left_out, *data.skipped])
    print(data.taken, *data.notes, told, sep="\n")
    print(
        f"{len(data.train):,} pairs, {len(data.skipped)} skipped; images of {image.size} pixels; {together:,} pairs in "
        f"a loss; log: {settings.output_dir}/log.jsonl",
        flush=True,
    )


# ---- towers


def find_towers(settings: PairSettings, data: PairData) -> tuple[ImageStart, TextStart]:
    """Both as they start. Raises InputError."""
    side = typical_side(data.sizes)
    step, least, most = (8, 16, SMALL) if side <= SMALL else (32, 64, 224)
    image = find_image_tower(
        settings.image_encoder,
        size=settings.image_size,
        usual_size=min(max(-(-side // step) * step, least), most),
        patch_size=settings.patch_size,
        arguments=settings.image_encoder_args,
        pooling=settings.image_pooling,
    )
    if settings.text_encoder in SIZES:
        if settings.lock == "text":
            raise InputError(f"--lock text: {settings.text_encoder} has random weights, and would keep them")
        length = settings.max_length or USUAL_LENGTH
        text = new_text_tower(settings.text_encoder, find_tokenizer(settings, data), length=length)
    else:
        if settings.tokenizer is not None:
            raise InputError(
                f"--tokenizer {settings.tokenizer}: {settings.text_encoder} has its own, which it was trained with: "
                "leave it out"
            )
        text = find_text_tower(settings.text_encoder, max_length=settings.max_length)
    if settings.lock == "image" and image.source is None:
        raise InputError(f"--lock image: {settings.image_encoder} has random weights, and would keep them")
    return with_poolers(image, text) if settings.lock == "none" else (image, text)


def find_tokenizer(settings: PairSettings, data: PairData) -> Any:
    """That named, or one trained on the captions. Raises InputError."""
    if settings.tokenizer is not None:
        tokenizer = load_tokenizer(settings.tokenizer)
        if None in (tokenizer.eos_token_id, tokenizer.bos_token_id):
            raise InputError(
                f"--tokenizer {settings.tokenizer} has no token for the beginning or the end of a text, which CLIP's "
                "text transformer is read by: leave it out"
            )
        return tokenizer
    texts, characters = [], 0
    for text in dict.fromkeys(data.train["text"][:]):
        texts.append(text)
        characters += len(text)
        if characters > TRAINED_ON:
            break
    return train_once(texts, kind="clip", vocab_size=settings.vocab_size, lowercase=True)


def configuration(
    settings: PairSettings, method: PairMethod, image: ImageStart, text: TextStart
) -> tuple[PreTrainedConfig, str]:
    """What rebuilds both towers, and in words what they will be written as."""
    kind = method.model_class.config_class
    whole, why = held_by(image, text)
    own = {spec.name for spec in fields(kind)} - {spec.name for spec in fields(PreTrainedConfig)}
    about = {
        "image": image.about,
        "text": text.config.to_dict(),
        "description": {
            "projection_dim": settings.projection_dim,
            "image": image.description,
            "text": text.description,
        },
        "held_by": whole,
        "locked": settings.lock,
        "image_size": image.size,
        "mean": list(image.mean),
        "std": list(image.std),
    }
    about |= {name: getattr(settings, name) for name in sorted(own - about.keys())}
    told = (
        f"will be written as a {whole} of transformers with its processor"
        if whole
        else f"no class of transformers holds both encoders ({why}): two folders will be written, image_encoder/ and "
        "text_encoder/, each in its library's own format, and dual_encoder.py, which joins them"
    )
    return kind(**about), told


@torch.no_grad()
def try_once(model: PreTrainedModel, collator: Any, rows: Dataset, *, named: str) -> None:
    """Raises InputError where the towers cannot take the pairs of this run."""
    model.eval()
    with refusing(f"{named} cannot take these images and captions"):
        found = model(**collator.views(collator([rows[0], rows[1]]), Place(0, 0, 0, 0, 1)), return_loss=False)
    if not found.projections.isfinite().all():
        raise InputError(f"{named} gives NaN or infinite numbers: their weights have diverged or are broken")
    model.train()


# ---- what they are worth


def judge(
    settings: PairSettings, method: PairMethod, encoder: PairEncoder, untrained: Any, data: PairData
) -> tuple[Any, Any]:
    """The scores of the encoder, of its random weights, of a linear map of pixels and of chance; and what it finds."""
    before = replace(encoder, model=untrained.eval(), images=ImageProjection(untrained))
    parts = {"": data.test} | ({"_unseen": data.unseen} if data.unseen is not None else {})
    sources = {"": data.test_source, "_unseen": "what no training image shows"}
    return judge_pairs(
        {method.facts.name: encoder, RANDOM: before},
        parts,
        sources=sources,
        train=data.train,
        seed=settings.seed,
        workers=settings.dataloader_num_workers,
    )


def encoder_facts(
    model: PreTrainedModel, exported: PreTrainedModel | None, image: ImageStart, text: TextStart
) -> facts.Encoder:
    towers = [start.source for start in (image, text) if start.source]
    named = image.about.get("architecture") or type(image.network).__name__
    return facts.Encoder(
        library="transformers",
        pipeline_tag="zero-shot-image-classification",
        architecture=type(exported).__name__ if exported is not None else f"{named} and {type(text.network).__name__}",
        parameters=count_parameters(model.encoder),
        features=model.config.description["projection_dim"],
        input_size=[3, image.size, image.size],
        initialized_from=" and ".join(towers) or "random weights",
        base_model=image.hub_id,
        own_code=exported is None,
    )


def describe(
    settings: PairSettings,
    method: PairMethod,
    trainer: PretrainingTrainer,
    data: PairData,
    encoder: facts.Encoder,
    judged: Any,
) -> facts.Report:
    """The facts of this run for its report and card."""
    report = images.describe(settings, method, trainer, data, data.train, encoder, {})
    report.rows, report.missing, report.protocols = judged.rows, judged.missing, judged.protocols
    return report


def export(method: PairMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes both towers of a checkpoint as a run leaves them. given: what the run depended on."""
    model = model_of(checkpoint, method.model_class)
    export_pairs(model.encoder, out, model.config, load_tokenizer(str(checkpoint.parent / "pretraining")))
