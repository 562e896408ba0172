"""Optimizers and learning-rate rules of self-supervised pretraining. LARS itself is timm's, AdamW is torch's."""

from __future__ import annotations

import math
from typing import Literal

import torch
from timm.optim import Lars
from torch import nn


def learning_rate(rule: Literal["linear", "sqrt"], batch_size: int) -> float:
    """LARS's peak learning rate for a global batch (Chen et al. 2020, section 2.2 and appendix B.1).

    Both rules give 4.8 at a batch of 4096; "sqrt" gives more below, which the paper found better for small batches.
    """
    return 0.3 * batch_size / 256 if rule == "linear" else 0.075 * math.sqrt(batch_size)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices and filters with weight decay; norms, biases and other vectors without (paper, appendix B.1)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def lars(model: nn.Module, lr: float, *, weight_decay: float, momentum: float = 0.9) -> torch.optim.Optimizer:
    """LARS (You et al. 2017) with trust coefficient 0.001; norms and biases get neither decay nor trust ratio."""
    matrices, vectors = parameter_groups(model, weight_decay)
    matrices["always_adapt"] = True  # timm ties the trust ratio to a decay that is not zero
    return Lars([matrices, vectors], lr=lr, momentum=momentum, trust_coeff=0.001)


def adamw(model: nn.Module, lr: float, *, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; norms and biases get no decay."""
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, fused=True)
