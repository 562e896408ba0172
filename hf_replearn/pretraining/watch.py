"""What is watched while an encoder of images trains: scores of a fixed sample of its images, and its kNN accuracy where
there are labels. Nothing of it reaches the weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_replearn.evaluation.health import view_scores
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.steps import alone
from hf_replearn.pretraining.fixed import FixedBatches, fixed_sample
from hf_replearn.pretraining.recipe import PictureSettings
from hf_replearn.randomness import undisturbed
from hf_replearn.representation import extract
from hf_replearn.training.callbacks import HealthWarning, SampleScores
from hf_replearn.training.trainer import PretrainingTrainer

WIDEST = 4096  # projected features that are looked at: prototypes may be many more


def watch(
    settings: PictureSettings,
    trainer: PretrainingTrainer,
    collator,
    *,
    rows,
    labelled: Sequence | None,
    preprocess: Callable[..., Tensor],
) -> None:
    """Has the trainer log scores of a fixed sample of its rows, and warn of a representation that is not well.

    labelled: rows to learn classes from and rows to tell, few of them; None without labels.
    """
    model, sample, workers = trainer.model, fixed_sample(rows), settings.dataloader_num_workers
    if settings.knn_steps:
        encoder, batch = model.model.encoder, settings.per_device_train_batch_size
        knn = labelled and partial(accuracy_now, encoder, labelled, preprocess, workers=workers)
        measure = partial(scores_now, model, sample, collator, batch=batch, workers=workers, neighbours=knn)
        trainer.add_callback(
            SampleScores(
                trainer.together(measure), steps=settings.knn_steps, log=trainer.log, everywhere=trainer.is_sharded
            )
        )
    trainer.add_callback(HealthWarning(min(len(sample), model.model.features)))


def scores_now(
    model: PreTrainedModel, sample, collator, *, batch: int, workers: int, neighbours: Callable[[], dict] | None = None
) -> dict[str, float]:
    """The scores of the model as it is, {name: value}; one that cannot be computed is missing, with a warning.

    Two views of each image are always the same: their place in the run is fixed. The random numbers of the training,
    its running statistics and its mode are as they were before.

    collator:   of the method; where it makes several views of an image, the first two are taken.
    neighbours: () -> {"knn@20": accuracy}; None without labels.
    """
    steps = {"rankme": partial(_of_views, model, sample, collator, batch=batch, workers=workers), "knn@20": neighbours}
    found: dict[str, float] = {}
    with undisturbed():
        for name, compute in steps.items():
            values, missing = alone(compute, metrics=[name]) if compute is not None else ({}, {})
            found |= {key: round(value, 4) for key, value in values.items()}
            for metric, reason in missing.items():  # the training itself says whether it can go on
                warnings.warn(f"no {metric}: {reason}", stacklevel=2)
    return found


@torch.no_grad()
def _of_views(model: PreTrainedModel, sample, collator, *, batch: int, workers: int) -> dict[str, float]:
    device, was_training = next(model.parameters()).device, model.training
    features, projections = [], []
    model.eval()
    try:
        for views in FixedBatches(sample, collator, device, batch, workers):
            found = model(**views, return_loss=False)
            pooled = found.pooler_output if found.pooler_output.ndim == 3 else found.pooler_output.unsqueeze(1)
            features.append(pooled[:, :2].float().cpu())
            if "projections" in found:
                projections.append(found.projections[:, :2, :WIDEST].float().cpu())
    finally:
        model.train(was_training)
    return view_scores(torch.cat(features), torch.cat(projections) if projections else None)


def accuracy_now(encoder: nn.Module, parts: Sequence, preprocess: Callable[..., Tensor], *, workers: int) -> dict:
    """kNN accuracy of the encoder as it is. parts: rows to learn from, and to be told."""
    return knn(*(extract(encoder, part, preprocess=preprocess, num_workers=workers) for part in parts), k=20)
