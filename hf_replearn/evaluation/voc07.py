"""The VOC07 classification protocols of Goyal et al. 2019 for multi-label data: low-shot and full, by linear SVMs.

Source: "Scaling and Benchmarking Self-Supervised Visual Representation Learning" and the scripts under tools/svm and
extra_scripts of the authors' fair_self_supervision_benchmark.

N train and M test examples, D features, C classes, P costs, k positives a class
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import multi_label
from hf_replearn.evaluation.repetitions import INTERVAL, mean_and_interval
from hf_replearn.evaluation.svm import linear_svm
from hf_replearn.representation import Features

SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
COSTS = tuple(sorted([10.0**e for e in range(-7, 3)] + [0.5**e for e in range(4, 20)]))
FOLDS = 3
GRAM_ENTRIES = 2**23  # solved at a time: 32 MiB, which malloc still recycles


def voc07_low_shot(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int] | None = None,
    draws: int = 5,
    costs: Sequence[float] = COSTS,
    select: str = "oracle",
    seed: int = 0,
) -> dict[str, float]:
    """Mean average precision of one linear SVM a class on k positives and (C - 1)·k negatives.

    As published: features f / (|f| + 1e-5); for each class k positives and (C - 1)·k negatives drawn at random from its
    own (labels -1 are never drawn, nor scored); LinearSVC's objective with squared hinge, positives weighing 2, and a
    regularised bias; average precision on the whole test set; independent draws, of which mean, min, max and standard
    deviation (of the population) are reported, and half the 95 % t interval of the mean. The samples of one draw are
    nested in k and depend on the labels and (seed, draw) alone, so that all representations see the same rows.

    shots:  values of k; by default those of 1, 2, 4, … 96 for which the smallest class has examples enough.
    select: "oracle" takes for each k the cost of highest mean test mAP, as the authors' script does; "cv" takes that of
            highest mAP in 3-fold cross-validation inside the draws (2-fold for k = 2; k = 1 borrows the next k's).

    Returns for each k "voc07@k", "voc07@k_min", "_max", "_std", "_ci95" (None for one draw) in 0…1 and
    "voc07@k_cost"; "voc07_cv@k" … for "cv".

    Memory is N·(N + M) floats: meant for sets of the size of VOC07 (5,011 + 4,952).
    Raises InputError for features with NaN, labels that are not multi-label, or a k that a class cannot fill.
    """
    if select not in ("oracle", "cv"):
        raise InputError(f"select is {select!r}: use 'oracle' or 'cv'")
    costs = sorted(costs)
    grid = low_shot_grid(train, test, shots=shots, draws=draws, costs=costs, validate=select == "cv", seed=seed)
    if select == "cv" and max(grid) == 1:
        raise InputError("select='cv' with one positive a class leaves none to validate on: add a larger k to shots")
    scores = {}
    for k, (ap, _) in grid.items():
        criterion = ap if select == "oracle" else grid[k if k > 1 else sorted(grid)[1]][1]
        best = int(criterion.mean(dim=(0, 1)).argmax())
        chosen = ap[:, :, best].mean(dim=1)  # (draws,)
        name = f"voc07@{k}" if select == "oracle" else f"voc07_cv@{k}"
        scores |= {
            name: chosen.mean().item(),
            f"{name}_min": chosen.min().item(),
            f"{name}_max": chosen.max().item(),
            f"{name}_std": chosen.std(correction=0).item(),
            name + INTERVAL: mean_and_interval(chosen.tolist())[1],
            f"{name}_cost": costs[best],
        }
    return scores


def low_shot_grid(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int] | None = None,
    draws: int = 5,
    costs: Sequence[float] = COSTS,
    validate: bool = False,
    seed: int = 0,
) -> dict[int, tuple[Tensor, Tensor | None]]:
    """All that voc07_low_shot chooses from: for each k the average precisions (draws, C, P) on the test set and, with
    validate and k > 1, those in cross-validation, else None. Costs ascending; rows as low_shot_sample gives them.
    """
    train_labels, test_labels = multi_label(train, test)
    shots = _feasible(shots, train_labels)
    samples = [low_shot_sample(train_labels, max(shots), seed=seed, draw=draw) for draw in range(draws)]
    gram, cross = _inner_products(train.x, test.x)
    costs = torch.tensor(sorted(costs))
    grid = {}
    for k in shots:
        rows = torch.cat([torch.cat([pos[:, :k], neg[:, : (len(neg) - 1) * k]], dim=1) for pos, neg in samples])
        parts = []  # chunks of the draws x classes problems
        for some in torch.arange(len(rows)).split(max(1, GRAM_ENTRIES // rows.shape[1] ** 2)):
            block = _block(gram, rows[some])
            tested = _test(block, cross, rows[some], some % len(test_labels.T), k, test_labels, costs)
            parts.append((tested, _cross_validate(block, k, costs) if validate and k > 1 else None))
        ap, cv = zip(*parts, strict=True)
        shape = (draws, -1, len(costs))
        grid[k] = torch.cat(ap).view(shape), None if cv[0] is None else torch.cat(cv).view(shape)
    return grid


def voc07_full(train: Features, test: Features, *, costs: Sequence[float] = COSTS) -> dict[str, float]:
    """Mean average precision of one linear SVM a class on all train examples, its cost chosen by cross-validation.

    As published, a class's ignored examples (-1) train as negatives and are left out of the test. The 3 folds are those
    of scikit-learn's StratifiedKFold(3); the criterion inside them is the interpolated average precision of the test.
    Returns {"voc07_full": mAP in 0…1}. Memory and errors as voc07_low_shot.
    """
    from sklearn.model_selection import StratifiedKFold

    train_labels, test_labels = multi_label(train, test)
    costs = torch.tensor(sorted(costs))
    gram, cross = _inner_products(train.x, test.x)
    aps = []
    for label, test_label in zip(train_labels.T, test_labels.T, strict=True):
        positive = label == 1
        if positive.sum() < FOLDS:
            raise InputError(
                f"a class has {int(positive.sum())} positive examples, {FOLDS}-fold validation needs {FOLDS}"
            )
        folds = [torch.from_numpy(held) for _, held in StratifiedKFold(FOLDS).split(label, positive)]
        y = torch.where(positive, 1, -1).repeat(FOLDS + 1, 1)
        for fold, held in enumerate(folds):
            y[fold, held] = 0
        a = linear_svm(gram, y, costs)
        held_scores = [(a[fold] @ gram[:, held], positive[held]) for fold, held in enumerate(folds)]
        best = torch.stack([average_precision(*scores) for scores in held_scores]).mean(dim=0).argmax()
        known = test_label != -1
        aps.append(average_precision((a[-1, best] @ cross)[None, known], test_label[known] == 1))
    return {"voc07_full": torch.cat(aps).mean().item()}


def average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """Area under the interpolated precision-recall curve, for many rankings of the same examples.

    AP = mean over positives of the largest precision at their own or any higher recall (VOC 2010 and later; not the
    11-point form). Examples of equal score enter together, so that the order of the rows does not matter.

    scores: (R, M). positive: (M,) bool, at least one true. Returns (R,) in 0…1.
    Raises ArithmeticError for scores that are not finite.
    """
    # Precision is highest just after a positive, so the ranks of the positives are all there is to know. NumPy sorts
    # plain float32 rows several times faster than torch, which carries an index along.
    if not scores.isfinite().all():
        raise ArithmeticError("scores that are NaN or infinite rank nothing")
    ranked = torch.from_numpy(np.sort(scores.numpy(), axis=1))  # ascending
    found = torch.from_numpy(np.sort(scores[:, positive].numpy(), axis=1))
    rank = scores.shape[1] - torch.searchsorted(ranked, found)  # number of examples that score as high or higher
    precision = torch.arange(found.shape[1], 0, -1) / rank
    return precision.cummax(dim=1).values.mean(dim=1)


def _feasible(shots: Sequence[int] | None, labels: Tensor) -> list[int]:
    """The values of k to run, ascending; raises InputError naming the class that cannot fill one."""
    classes = labels.shape[1]
    if classes < 2:
        raise InputError("there is one class: k negatives from every other class need at least two")
    positives, negatives = (labels == 1).sum(dim=0), (labels == 0).sum(dim=0)
    most, scarce = torch.minimum(positives, negatives // (classes - 1)).min(dim=0)
    if shots is None:
        shots = [k for k in SHOTS if k <= most] or [1]
    if min(shots) < 1 or max(shots) > most:
        raise InputError(
            f"k = {max(shots)} shots need as many positives and {classes - 1} times as many negatives, class "
            f"{int(scarce)} has {int(positives[scarce])} and {int(negatives[scarce])}: use k from 1 to {int(most)}"
        )
    return sorted(set(shots))


def low_shot_sample(labels: Tensor, k: int, *, seed: int, draw: int) -> tuple[Tensor, Tensor]:
    """Rows of k positives (C, k) and (C - 1)·k negatives (C, (C - 1)·k) for each class, in random order."""
    rng = np.random.default_rng([seed, draw])
    classes = labels.shape[1]
    rows = [[rng.permutation(np.flatnonzero(column == value)) for value in (1, 0)] for column in labels.T.numpy()]
    positive, negative = np.stack([p[:k] for p, _ in rows]), np.stack([n[: (classes - 1) * k] for _, n in rows])
    return torch.from_numpy(positive), torch.from_numpy(negative)


def _inner_products(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Of train with train (N, N) and with test (N, M), normalised as published; plus one, the feature of the bias."""
    train, test = (x / (x.norm(dim=1, keepdim=True) + 1e-5) for x in (train, test))
    return train @ train.T + 1, train @ test.T + 1


def _block(gram: Tensor, rows: Tensor) -> Tensor:
    """Rows and columns of gram (N, N) that rows (B, n) name: (B, n, n). A few rows at a time stay in the cache."""
    block = gram.new_empty(*rows.shape, rows.shape[1])
    for out, row in zip(block, rows, strict=True):
        torch.cat([gram.index_select(0, some).index_select(1, row) for some in row.split(256)], out=out)
    return block


def _test(gram, cross, rows, classes, k, test_labels, costs) -> Tensor:
    """Train on rows (B, n), the first k of which are positive, for the given classes (B,): test AP (B, P)."""
    y = torch.ones_like(rows).index_fill_(1, torch.arange(k, rows.shape[1]), -1)
    ap = []
    for row, number, a in zip(rows, classes, linear_svm(gram, y, costs), strict=True):
        label = test_labels[:, number]
        scores = sum(part @ cross.index_select(0, r) for part, r in zip(a.split(256, 1), row.split(256), strict=True))
        ap.append(average_precision(scores[:, label != -1], label[label != -1] == 1))
    return torch.stack(ap)


def _cross_validate(gram: Tensor, k: int, costs: Tensor) -> Tensor:
    """AP of held-out rows, mean over folds (B, P). Rows come in random order: a fold is every third of either kind."""
    count, n, _ = gram.shape
    folds = min(FOLDS, k)
    fold = torch.cat([torch.arange(k), torch.arange(n - k)]) % folds
    positive = torch.arange(n) < k
    ap = []
    for held in fold == torch.arange(folds)[:, None]:
        y = torch.where(positive, 1, -1).masked_fill(held, 0).expand(count, n)
        scores = linear_svm(gram, y, costs) @ gram[:, :, held]
        ap.append(torch.stack([average_precision(s, positive[held]) for s in scores]))
    return torch.stack(ap).mean(dim=0)
