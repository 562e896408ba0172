"""Many L2-regularised multinomial logistic regressions at once.

B problems (draws), n examples each, D features, q principal axes and the bias, P costs, K classes
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STEPS = 300
TOLERANCE = 1e-3  # of the first gradient, in the norm of the preconditioner
SCORES = 2**25  # held at a time: 128 MiB


def softmax_regression(x: Tensor, labels: Tensor, costs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weights and biases of softmax classifiers for every problem and every cost.

    Minimises  ½|W|² + C Σ_i cross-entropy(W x_i + b, y_i),  the objective of scikit-learn's LogisticRegression.

    x: (B, n, D) float32, best centred. labels: (B, n) in 0 … K-1. costs: (P,) values of C. classes: K.
    Returns W (B, P, K, D) and b (B, P, K).

    Preconditioned conjugate gradients on the principal axes of x, where the Hessian is close to diagonal: the number of
    steps hardly depends on how correlated the features are. All costs share the matrix products. Deterministic.
    """
    z, axes = _principal_axes(x)
    z = torch.cat([z, torch.ones_like(z[..., :1])], dim=-1)  # (B, n, q + 1), the last for the bias
    some = max(1, SCORES // (labels.numel() * classes))
    w = torch.cat([_conjugate_gradients(z, labels, c, classes) for c in costs.split(some)], dim=1)
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
        values, u = torch.linalg.eigh(x @ x.mT)
        scale = values.clamp(min=1e-6 * values.max().item()).sqrt()[:, None]  # (B, 1, n)
        axes = x.mT @ (u / scale)
    else:
        axes = torch.linalg.eigh(x.mT @ x)[1]
    return x @ axes, axes


def _conjugate_gradients(z: Tensor, labels: Tensor, costs: Tensor, classes: int) -> Tensor:
    """Polak-Ribière with a Newton step along each direction. Returns w (B, P, K, q + 1)."""
    problems, n, width = z.shape
    c = costs[:, None, None]  # (P, 1, 1)
    penalty = torch.ones(width).index_fill_(0, torch.tensor(width - 1), 0.0)
    of_class = torch.nn.functional.one_hot(labels, classes).to(z).mT @ z  # (B, K, q + 1), sums of each class
    # 1 / K is the largest eigenvalue of the softmax's Hessian at w = 0.
    inverse = 1 / (penalty + c / classes * z.square().sum(dim=1)[:, None, None])  # (B, P, 1, q + 1)
    w = z.new_zeros(problems, len(costs), classes, width)
    f = z.new_zeros(problems, len(costs), classes, n)

    def times(a: Tensor, b: Tensor) -> Tensor:  # (B, P, K, ·) @ (B, ·, ·) as one wide product
        return (a.flatten(1, 2) @ b).view(*a.shape[:3], b.shape[-1])

    def inner(a: Tensor, b: Tensor) -> Tensor:  # (B, P, 1, 1)
        return (a * b).sum(dim=(2, 3), keepdim=True)

    def loss(w: Tensor, f: Tensor) -> Tensor:
        own = f.gather(2, labels[:, None, None].expand(-1, f.shape[1], -1, -1))  # (B, P, 1, n)
        fit = f.logsumexp(dim=2, keepdim=True) - own
        return 0.5 * inner(w, penalty * w) + c * fit.sum(dim=3, keepdim=True)

    p = f.softmax(dim=2)
    g = c * (times(p, z) - of_class[:, None])
    s = inverse * g
    gs = first = inner(g, s)
    d, value = -s, loss(w, f)
    result, left = torch.empty_like(w), torch.arange(len(costs))
    for _ in range(MAX_STEPS):
        done = gs <= TOLERANCE**2 * first  # (B, P, 1, 1)
        finished = done.all(dim=0).flatten()
        if finished.any():  # a small cost is found long before a large one: work on with the others
            result[:, left[finished]] = w[:, finished]
            some = ~finished
            left, c = left[some], c[some]
            if not len(left):
                return result
            w, f, p, g, d, gs, first, value, inverse, done = (
                part[:, some] for part in (w, f, p, g, d, gs, first, value, inverse, done)
            )
        fd = times(d, z.mT)
        pfd = p * fd
        spread = inner(pfd, fd) - pfd.sum(dim=2, keepdim=True).square().sum(dim=3, keepdim=True)
        step = -inner(g, d) / (inner(d, penalty * d) + c * spread)
        step = step.masked_fill(done, 0)
        # The curvature falls along a long step of a confident classifier: halve where it went uphill.
        while ((trial := loss(w + step * d, f + step * fd)) > value * (1 + 1e-5)).any():
            step = torch.where(trial > value * (1 + 1e-5), step / 2, step)
        w, f, value = w + step * d, f + step * fd, trial
        p = f.softmax(dim=2)
        g_old, g = g, penalty * w + c * (times(p, z) - of_class[:, None])
        s = inverse * g
        gs_old, gs = gs, inner(g, s)
        beta = ((gs - inner(g_old, s)) / gs_old).clamp(min=0)
        d = beta * d - s
        d = torch.where(inner(d, g) < 0, d, -s)
    result[:, left] = w
    return result
