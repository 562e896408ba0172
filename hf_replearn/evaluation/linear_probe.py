"""The linear probe: how much of the labels a linear classifier reads off a frozen representation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import single_label
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression
from hf_replearn.representation import Features

COSTS = tuple(10.0 ** (e / 2) for e in range(-4, 6))  # 0.01 to 316
VALIDATION = 0.2


def linear_probe(
    train: Features,
    test: Features,
    *,
    costs: Sequence[float] = COSTS,
    validation: float = VALIDATION,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """Accuracy of an L2-regularised multinomial logistic regression on frozen features.

    The train features are centred and divided by one number, so that the mean squared norm is 1: costs then mean the
    same for every encoder, and rotations such as PCA change nothing (scaling each dimension by itself would blow up the
    least of them). The cost C is the one of best accuracy on a stratified share `validation` of train, the smallest one
    in a tie; then the classifier is fitted to all of train.

    device: where the classifiers are fitted.
    Returns {"linear": accuracy in 0…1, "linear_cost": C}.
    Raises InputError for features with NaN, missing or multi-label labels, a single class, or a single example of each.
    """
    predictions, cost = linear_predictions(train, test, costs=costs, validation=validation, seed=seed, device=device)
    return {"linear": (predictions == test.labels).double().mean().item(), "linear_cost": cost}


def batch_norm_probe(train: Features, test: Features, *, seed: int = 0) -> dict[str, float]:
    """`linear_probe` of features normalised by the mean and deviation of each dimension over train: what batch
    normalisation without scale and shift before the linear layer comes to (He et al. 2022, appendix A.1). Masked
    autoencoders need it: their dimensions differ much in size, which a penalty on the weights does not forgive.

    A dimension that does not vary is 0. Returns {"linear_bn": accuracy in 0…1, "linear_bn_cost": C}.
    """
    deviation, mean = torch.std_mean(train.x, dim=0, correction=0)
    scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)
    found = linear_probe(
        *(Features((part.x - mean) * scale, part.labels, part.names) for part in (train, test)), seed=seed
    )
    return {name.replace("linear", "linear_bn"): value for name, value in found.items()}


def linear_predictions(
    train: Features,
    test: Features,
    *,
    costs: Sequence[float] = COSTS,
    validation: float = VALIDATION,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[torch.Tensor, float]:
    """The class of each test example (M,), on the CPU, as the classifier of `linear_probe` tells it, and its cost C."""
    classes, train_labels, _ = single_label(train, test)
    costs = sorted(costs)
    fit, held = _split(train_labels, validation, seed)
    if not len(held):
        raise InputError("every class has a single training example: none is left to choose the cost C on")
    x, test_x = centre_and_scale(train.x[None].to(device), test.x.to(device))
    train_labels, fit, held = train_labels.to(device), fit.to(device), held.to(device)
    w, b = softmax_regression(x[:, fit], train_labels[None, fit], torch.tensor(costs), len(classes))
    best = costs[_accuracy(x[0, held], train_labels[held], w[0], b[0]).argmax()]  # the first of equals
    w, b = softmax_regression(x, train_labels[None], torch.tensor([best]), len(classes))
    return classes[(test_x[0] @ w[0, 0].T + b[0, 0]).argmax(dim=1).cpu()], best


def _split(labels: torch.Tensor, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows to fit and rows held out: the share of each class, rounded; at least one to fit and, of two, one to hold."""
    rng = np.random.default_rng(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for number in labels.unique().tolist():
        rows = rng.permutation((labels == number).nonzero().flatten().numpy())
        held[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()


def _accuracy(x: torch.Tensor, labels: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of each classifier w (P, K, D), b (P, K) on x (M, D): (P,)."""
    return torch.stack([((x @ wp.T + bp).argmax(dim=1) == labels).double().mean() for wp, bp in zip(w, b, strict=True)])
