"""How well what a machine sees is told from its hidden units, and how many of these are on."""

from __future__ import annotations

from torch import Tensor

from .modeling_rbm import RBMModel


def own_task(model: RBMModel, inputs: Tensor) -> dict[str, float]:
    """The squared error of inputs (N, D) told from the probabilities of hidden units, and the mean of these."""
    x = model.normalised(inputs)
    codes = model.code(x)
    left = (model.decode(codes) - x).double().square().sum() / (x - x.mean(0)).double().square().sum()
    return {
        "squared error, as a share of the variance": left.item(),
        "mean probability of a hidden unit": codes.mean().item(),
    }
