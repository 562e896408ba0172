"""How well turns are told."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hf_replearn.methods.rotation.modeling_rotation import TURNS, rotation
from hf_replearn.sharing.report import OwnTask


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """Loss and accuracy over all four copies of each image."""
    logits = torch.cat([model(**views, return_loss=False).projections.float().cpu() for views in batches])
    right = logits.argmax(-1) == torch.arange(TURNS)
    return OwnTask(
        told="Which of four quarter turns was an image given? All four copies of each image are asked for.",
        rows={
            "this run": {"loss (nats)": rotation(logits).item(), "accuracy": right.float().mean().item()},
            "chance": {"loss (nats)": math.log(TURNS), "accuracy": 1 / TURNS},
        },
        smaller=["loss (nats)"],
    )
