"""k-shot accuracy: what a frozen representation is worth when only k examples of each class have labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import single_label
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression
from hf_replearn.evaluation.statistics import t_half_width
from hf_replearn.representation import Features

SHOTS = (1, 2, 4, 8, 16, 32, 64)
COST = 10.0
TIE = 1e-6  # scores nearer than this differ by rounding


def k_shot(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int] | None = None,
    draws: int = 10,
    cost: float = COST,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """Accuracy on the whole test set of a linear classifier trained on k labelled examples a class.

    Each draw picks k rows of every class; within a draw the rows for k contain those for any smaller k. They depend on
    the labels and (seed, draw) alone, so that all representations of a dataset see the same rows and compare in pairs.

    The labelled examples are centred and divided by one number (mean squared norm 1) and an L2-regularised multinomial
    logistic regression with one fixed cost is fitted: a few labels leave none to choose a cost with, and 10 was within
    noise of the best of 0.1 … 1000 for raw pixels, PCA, random and trained encoders alike. No unlabelled row is used.

    shots: values of k; by default those of 1, 2, 4, … 64 that the smallest class has examples for.
    device: where the classifiers are fitted; the draws are the same everywhere.
    Returns for each k "k_shot@k", the mean accuracy over draws in 0…1, and "k_shot@k_ci95", the half width of its 95 %
    t interval over draws; None of fewer than three.
    Raises InputError for features with NaN, missing or multi-label labels, a single class, fewer than two draws, or a k
    larger than the smallest class.
    """
    if draws < 2:
        raise InputError(f"draws is {draws}: an interval needs at least 3, and 10 or more to be trusted")
    scores = {}
    found = k_shot_correct(train, test, shots=shots, draws=draws, cost=cost, seed=seed, device=device)
    for k, correct in found.items():
        accuracy = correct.double().mean(dim=1)  # (draws,)
        scores[f"k_shot@{k}"] = accuracy.mean().item()
        scores[f"k_shot@{k}_ci95"] = t_half_width(accuracy.tolist())
    return scores


def k_shot_correct(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int] | None = None,
    draws: int = 10,
    cost: float = COST,
    seed: int = 0,
    device: str = "cpu",
) -> dict[int, torch.Tensor]:
    """How well the classifiers of `k_shot` tell each test example: {k: (draws, M)}, in ascending order of k, on the
    CPU.

    1 where right, 0 where wrong, and 1/n where n classes have the same highest score and the right one is among them:
    features that are all alike are worth a guess, not the share of the class that happens to have the number 0.
    """
    classes, train_labels, test_labels = single_label(train, test)
    shots = feasible_shots(train_labels, shots)
    samples = _sample(train_labels, max(shots), draws, seed)  # (draws, K, k)
    found, test_x, test_labels = {}, test.x.to(device), test_labels.to(device)
    for k in shots:
        rows = samples[:, :, :k].flatten(1)  # (draws, K·k)
        x, moved = centre_and_scale(train.x[rows].to(device), test_x)
        w, b = softmax_regression(x, train_labels[rows], torch.tensor([cost]), len(classes))
        found[k] = torch.stack([credit(t @ w[i, 0].T + b[i, 0], test_labels) for i, t in enumerate(moved)]).cpu()
    return found


def credit(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of scores (M, K) of classes and labels (M,), -1 for none of them: (M,) in 0…1, see `k_shot_correct`."""
    best = scores.max(dim=1, keepdim=True).values
    tied = scores >= best - TIE * best.abs().clamp(min=1.0)
    right = tied.gather(1, labels.clamp(min=0)[:, None])[:, 0] & (labels >= 0)
    return right / tied.sum(dim=1)


def feasible_shots(
    labels: torch.Tensor, shots: Sequence[int] | None = None, *, names: Sequence[str] | None = None
) -> list[int]:
    """The values of k to run, ascending, for train labels (N,); InputError names the class that cannot fill one.

    names: of the classes, by number; None: classes are called by their numbers.
    """
    counts = labels.bincount()
    most, scarce = torch.where(counts > 0, counts, len(labels) + 1).min(dim=0)
    if shots is None:
        shots = [k for k in SHOTS if k <= most]
    if min(shots) < 1 or max(shots) > most:
        wrong = min(shots) if min(shots) < 1 else max(shots)
        scarce = int(scarce) if names is None else repr(names[int(scarce)])
        raise InputError(
            f"shots contains {wrong}, class {scarce} has {int(most)} of the {len(labels):,} training examples that are "
            f"used: use 1 to {int(most)}, or more training examples"
        )
    return sorted(set(shots))


def _sample(labels: torch.Tensor, k: int, draws: int, seed: int) -> torch.Tensor:
    """Rows (draws, K, k) of k examples of each class in random order."""
    by_class = [np.flatnonzero(labels.numpy() == number) for number in range(int(labels.max()) + 1)]
    generators = [np.random.default_rng([seed, draw]) for draw in range(draws)]
    return torch.from_numpy(np.stack([[rng.permutation(rows)[:k] for rows in by_class] for rng in generators]))
