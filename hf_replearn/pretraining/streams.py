"""What a run on images that are streamed does otherwise than one whose images are all here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainingArguments

from hf_replearn.data.images import ImageData
from hf_replearn.data.inventory import LeftOut, write_skipped
from hf_replearn.data.sources import Source
from hf_replearn.data.streams import ADDRESS
from hf_replearn.errors import InputError
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.pretraining.recipe import ImageMethod, ImageSettings
from hf_replearn.settings import changed
from hf_replearn.training.callbacks import Unusable
from hf_replearn.training.lanes import Lanes
from hf_replearn.training.trainer import PretrainingTrainer


def check_stream(settings: ImageSettings, method: ImageMethod, source: Source | None) -> None:
    """Raises InputError for what cannot be had of a stream, or only of one."""
    if not settings.streaming:
        if "shuffle_buffer" in changed(settings):
            raise InputError("--shuffle_buffer is of --streaming: other images are shuffled all together")
        if ADDRESS.fullmatch(settings.dataset):
            raise InputError(f"--dataset {settings.dataset}: what lies at an address is read with --streaming")
        return
    if source is not None:
        raise InputError("--streaming reads shards of files or of the Hub: the data is here already, leave it out")
    if settings.max_steps < 1 and settings.max_minutes is None:
        raise InputError("--streaming needs --max_steps or --max_minutes: a stream has no known length")
    if settings.data_on_device == "on":
        raise InputError("--data_on_device on: a stream is not kept anywhere: leave --streaming or this out")
    if settings.label_column is not None or settings.label_type == "classes":
        raise InputError("labels of a stream are not read: leave --label_column and --label_type out, or --streaming")
    if method.needs_labels:
        raise InputError(
            f"{method.facts.name} learns from labels, and those of a stream are not read: leave --streaming"
        )


def lanes(
    settings: ImageSettings, args: TrainingArguments, data: ImageData, collator: DataCollatorForViews, *, batch: int
) -> Lanes:
    """The batches of this process. Each image is decoded alone, so that one that does not decode is left out.

    Raises InputError where there are fewer shards than readers."""
    return Lanes(
        data.stream.for_readers(max(1, settings.dataloader_num_workers) * args.world_size),
        prepare=lambda row: collator([row]),
        collate=joined,
        batch=batch,
        buffer=settings.shuffle_buffer,
        seed=settings.seed,
        share=settings.max_undecodable,
        usable="images that decode",
        rank=args.process_index,
        processes=args.world_size,
        workers=settings.dataloader_num_workers,
    )


def joined(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One batch of several, which are of the same columns."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def list_what_is_skipped(trainer: PretrainingTrainer, out: Path, data: ImageData) -> None:
    """Has the trainer write what of a stream could not be used, whenever it saves."""
    if trainer.lanes is None:
        return

    def tell(skipped: list[list[str]]) -> None:
        write_skipped(out / "skipped_images.txt", [*data.left_out, *(LeftOut(*line) for line in skipped)])

    trainer.add_callback(Unusable(tell))


def fingerprint(settings: ImageSettings, data: ImageData) -> str:
    """Of the images to train on. Of a stream their order depends on how many read it."""
    return data.fingerprint + f", {settings.dataloader_num_workers} workers" * settings.streaming
