"""Fine-tuning: how well a network learns a task when all its weights may move, from a checkpoint's or random ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from transformers import ProgressCallback, Trainer

from hf_replearn.encoders.load import load_network, load_processor
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.metrics import score

__all__ = ["fit", "finetune", "load_network", "load_processor", "score"]

LENGTH = "length"  # of a row, by which rows are put together into batches


def finetune(network: nn.Module, train, test, *, collate: Callable, args) -> tuple[np.ndarray, np.ndarray]:
    """Trains `network` on all rows of train, in place; returns its predictions on test and the labels, (M,) each.

    collate: rows -> batch with `labels`. args: transformers.TrainingArguments. Batches hold texts of about one length.
    Where the network has batch normalisation, a last batch of one example is left out, another one in each epoch.
    Raises TrainingError where the loss or a prediction is not finite: of these no class can be told; InputError where
    batch normalisation would see one example at a time.
    """
    if "text" in train.column_names:
        texts = zip(*(train[name][:] for name in ("text", "text_pair") if name in train.column_names), strict=True)
        train = train.add_column(LENGTH, [sum(map(len, parts)) for parts in texts])
    found = fit(network, train, collate=collate, args=args).predict(test)
    logits = found.predictions[0] if isinstance(found.predictions, tuple) else found.predictions
    if not np.isfinite(logits).all():
        raise TrainingError(
            f"{(~np.isfinite(logits)).any(axis=1).sum():,} of {len(logits):,} test examples get NaN or infinity from "
            "the fine-tuned network, which has diverged: lower --learning_rate"
        )
    return logits.squeeze(1) if logits.shape[1] == 1 else logits.argmax(axis=1), found.label_ids


def fit(network: nn.Module, train, *, collate: Callable, args) -> Trainer:
    """Trains `network` on all rows of train, in place; returns its trainer, which predicts in the order of the rows.

    train: where it has a column `length`, batches hold rows of about one length. Raises as `finetune`.
    """
    if LENGTH in train.column_names:  # padding would be half of the work
        args.train_sampling_strategy, args.length_column_name = "group_by_length", LENGTH
    trainer = _Finetuner(model=network, args=args, train_dataset=train, data_collator=collate)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Bar())
    args.dataloader_drop_last = _leaves_one(network, len(train), args)
    trainer.train()
    args.dataloader_drop_last = False  # it would leave out test examples too
    args.train_sampling_strategy = "random"  # it would order test too, which is in the order of length
    return trainer


def _leaves_one(network: nn.Module, examples: int, args) -> bool:
    """Whether the last batch of an epoch is one example, of which batch normalisation makes zeros, or an error."""
    if not any(
        isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm))
        for module in network.modules()
    ):
        return False
    batch = args.train_batch_size * args.world_size
    if args.train_batch_size == 1 or examples == 1:
        raise InputError(
            f"the network has batch normalisation, which needs several examples at a time: {examples} labelled, "
            f"--per_device_train_batch_size {args.per_device_train_batch_size}: raise them"
        )
    return examples > batch and 1 <= examples % batch <= args.world_size


class _Finetuner(Trainer):
    """Stops at a loss that is NaN or infinite, before it makes the weights so."""

    def training_step(self, *arguments, **options) -> torch.Tensor:
        loss = super().training_step(*arguments, **options)
        if not loss.isfinite():
            raise TrainingError(
                f"the loss of fine-tuning is {loss.item()} in step {self.state.global_step + 1} of "
                f"{self.state.max_steps}, it has diverged: lower --learning_rate"
            )
        return loss


class _Bar(ProgressCallback):
    """Without the dictionaries that it prints in between."""

    def on_log(self, args, state, control, **kwargs):
        pass
