"""What principal and independent components keep of data, beside as many random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from .modeling_components import ComponentsModel


def own_task(model: ComponentsModel, inputs: Tensor) -> dict[str, float]:
    """What of the variance of inputs (N, D) the span of the components leaves, and how heavy the tails of the codes
    are: 0 of a Gaussian, 3 of a Laplace distribution."""
    x = model.normalised(inputs)
    x = (x - x.mean(0)).double()  # random components know no mean
    codes = x @ model.components.double().T
    told = codes @ torch.linalg.pinv(model.components.double()).T
    left = (x - told).square().sum() / x.square().sum()
    deviation, mean = torch.std_mean(codes, dim=0, correction=0)
    spread = (codes - mean) / deviation.clamp(min=1e-12)
    return {
        "share of the variance that is left": left.item(),
        "excess kurtosis of codes": (spread.pow(4).mean(0) - 3).mean().item(),
    }
