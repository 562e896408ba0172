"""Many L2-regularised multinomial logistic regressions at once.

B problems (draws), n examples each, D features, q principal axes and the bias, P costs, K classes
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_replearn.representation import eigen

MAX_STEPS = 300
TOLERANCE = 2e-5  # of the objective: what a preconditioned gradient step still promises
SCORES = 2**25  # held at a time: 128 MiB


def softmax_regression(x: Tensor, labels: Tensor, costs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights and biases of softmax classifiers for every problem and every cost.

    Minimises  ½|W|² + C Σ_i cross-entropy(W x_i + b, y_i),  the objective of scikit-learn's LogisticRegression.

    x: (B, n, D) float32, best centred. labels: (B, n) in 0 … K-1. costs: (P,) values of C. classes: K.
    Returns W (B, P, K, D) and b (B, P, K). All are on the device of x.

    Preconditioned conjugate gradients on the principal axes of x, where the Hessian is close to diagonal: the number of
    steps hardly depends on how correlated the features are. All costs share the matrix products. Deterministic. The
    objective ends within 0.01 % of its minimum.
    """
    labels, costs = labels.to(x.device), costs.to(x.device)
    z, axes = _principal_axes(x)
    z = torch.cat([z.mT, torch.ones_like(z.mT[:, :1])], dim=1)  # (B, q + 1, n), the last for the bias
    some = max(1, SCORES // (labels.numel() * classes))
    w = torch.cat([_conjugate_gradients(z, labels, c, classes) for c in costs.split(some)], dim=1)
    if not w.isfinite().all():
        raise ArithmeticError("the logistic regression did not come to finite weights")
    return w[..., :-1] @ axes.mT[:, None], w[..., -1]


def centre_and_scale(x: Tensor, test: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Shift and divide by one number so that each problem of x (B, n, D) has mean 0 and mean squared norm 1.

    Returns these and, for each problem, test (M, D) moved alike. Features that are all the same become zeros.
    """
    mean = x.mean(dim=1, keepdim=True)
    x = x - mean
    scale = x.square().sum(dim=2, keepdim=True).mean(dim=1, keepdim=True).sqrt().clamp(min=1e-12)  # (B, 1, 1)
    return x / scale, [(test - m) / s for m, s in zip(mean, scale, strict=True)]


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates (B, n, q) of the rows on the eigenvectors of xᵀx, and these (B, D, q); q is the rank at most."""
    _, n, features = x.shape
    if n < features:  # the n x n form is the smaller
        values, u = eigen(x @ x.mT)
        scale = values.clamp(min=max(1e-6 * values.max().item(), 1e-30)).sqrt()[:, None]  # (B, 1, n)
        axes = x.mT @ (u / scale)
    else:
        axes = eigen(x.mT @ x)[1]
    return x @ axes, axes


def _conjugate_gradients(z: Tensor, labels: Tensor, costs: Tensor, classes: int) -> Tensor:
    """Polak-Ribière with a Newton step along each direction. z: (B, q + 1, n). Returns w (B, P, K, q + 1)."""
    problems, width, n = z.shape
    c = costs[:, None, None]  # (P, 1, 1)
    penalty = z.new_ones(width)
    penalty[-1] = 0.0
    of_class = (torch.nn.functional.one_hot(labels, classes).to(z).mT @ z.mT)[:, None]  # (B, 1, K, q + 1), class sums
    squares = z.square().sum(dim=2)[:, None, None]  # (B, 1, 1, q + 1)

    def times(a: Tensor, b: Tensor) -> Tensor:  # (B, P, K, ·) @ (B, ·, ·) as one wide product
        return (a.flatten(1, 2) @ b).view(*a.shape[:3], b.shape[-1])

    def inner(a: Tensor, b: Tensor) -> Tensor:  # (B, P, 1, 1)
        return (a * b).sum(dim=(2, 3), keepdim=True)

    def objective(w: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Its value (B, P, 1, 1), and the log partition functions (B, P, 1, n) of the scores f."""
        log_mass = f.logsumexp(dim=2, keepdim=True)
        fit = log_mass.sum(dim=3, keepdim=True, dtype=torch.float64) - inner(of_class.double(), w.double())
        return 0.5 * inner(w, penalty * w) + c * fit, log_mass

    w = g = d = z.new_zeros(problems, len(costs), classes, width)
    f = z.new_zeros(problems, len(costs), classes, n)
    value, log_mass = objective(w, f)
    gs = z.new_full(value.shape, torch.inf)
    result, left = torch.empty_like(w), torch.arange(len(costs), device=z.device)
    for _ in range(MAX_STEPS):
        p = (f - log_mass).exp_()
        g_old, g = g, penalty * w + c * (times(p, z.mT) - of_class)
        # The Hessian of each class, as if every example had the mean weight p (1 - p).
        weight = (p.sum(dim=3) - torch.linalg.vector_norm(p, dim=3).square())[..., None] / n  # (B, P, K, 1)
        s = g / (penalty + c * weight * squares)
        gs_old, gs = gs, inner(g, s)
        d = ((gs - inner(g_old, s)) / gs_old).clamp(min=0) * d - s
        d = torch.where(inner(d, g) < 0, d, -s)
        done = gs <= TOLERANCE * value  # (B, P, 1, 1)
        finished = done.all(dim=0).flatten()
        if finished.any():  # a small cost is found long before a large one: work on with the others
            result[:, left[finished]] = w[:, finished]
            left, c = left[~finished], c[~finished]
            if not len(left):
                return result
            w, f, p, g, d, gs, value, done = (part[:, ~finished] for part in (w, f, p, g, d, gs, value, done))
        fd = times(d, z)
        pfd = p * fd
        curvature = inner(pfd, fd) - pfd.sum(dim=2, keepdim=True).square().sum(dim=3, keepdim=True)
        step = -inner(g, d) / (inner(d, penalty * d) + c * curvature)
        step = step.masked_fill(done, 0)
        # The curvature falls along a long step of a confident classifier: halve where it went uphill.
        while True:
            there, scores = w + step * d, torch.addcmul(f, step, fd)
            trial, log_mass = objective(there, scores)
            if not (uphill := trial > value * (1 + 1e-5)).any():
                break
            step = torch.where(uphill, step / 2, step)
        w, f, value = there, scores, trial
    result[:, left] = w
    return result
