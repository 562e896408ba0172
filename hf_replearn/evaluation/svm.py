"""Many linear support vector machines at once, in Gram space.

B problems (class x draw), n examples each, P costs, q directions of the preconditioner
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_replearn.representation import eigen

RANK = 32  # directions of largest variance that the preconditioner knows
CG_STEPS = 14  # settle every cost below about 0.1; Newton's method finishes the others
NEWTON_STEPS = 50  # 3 to 8 do in practice
TOLERANCE = 3e-4  # relative error of w after conjugate gradients
PADDING = 1e30  # a ridge that holds the coefficient of a padded example at zero
ROUNDING = 3e-3  # relative error of float32 beyond which Newton's method takes float64
MARGIN = 1e-4  # examples this close to the margin count as on either side of it (1e-2 left scores 8 % off at C = 100)


def linear_svm(gram: Tensor, labels: Tensor, costs: Tensor, *, positive_weight: float = 2.0) -> Tensor:
    """Dual coefficients of L2-regularised squared-hinge SVMs, for every problem and every cost.

    Minimises  ½|w|² + C Σ_i c_i max(0, 1 - y_i w·x_i)²  over w = Σ_i a_i x_i, with c_i = positive_weight where y_i = 1
    and 1 elsewhere. Inner products plus one give liblinear's bias: a feature of value 1, regularised like the rest.

    gram:   (B, n, n) inner products of the examples, or (n, n) where all problems share them.
    labels: (B, n) of 1, -1, or 0 for an example that takes no part.
    costs:  (P,) values of C, ascending.
    Returns a (B, P, n); the scores of new examples are a @ (inner products of the n examples with them).

    Two phases. Conjugate gradients in the inner product of the kernel take one matrix product a step for all costs
    together and settle the small ones. At large costs few examples lie inside the margin, and Newton's method on those
    alone is exact in a few steps (Keerthi & DeCoste 2005; Chapelle 2007).
    """
    y = labels.to(gram.dtype)
    c = costs.to(gram.dtype)[:, None] * (torch.where(y > 0, positive_weight, 1.0) * (y != 0))[:, None]  # (B, P, n)
    a, settled = _conjugate_gradients(gram, y[:, None], c, costs)
    hard = (~settled).nonzero().flatten().tolist()
    if hard:
        gram, start = gram.expand(len(y), -1, -1), a[:, hard[0]]
        f = torch.stack([b @ g for b, g in zip(start, gram, strict=True)])
        for p in hard:  # each from the solution of the cost before
            start, f = _newton(gram, y, c[:, p], start, f)
            a[:, p] = start
    return a


def _pull(y: Tensor, c: Tensor, f: Tensor) -> Tensor:
    """Minus the derivative of the loss with respect to the scores f: the coefficients that f asks for."""
    return 2 * c * torch.where(y * f < 1, y - f, 0)


def _line_search(
    y: Tensor, c: Tensor, f: Tensor, fd: Tensor, wd: Tensor, dd: Tensor, rounds: int, longest: float = torch.inf
) -> Tensor:
    """Step t (..., 1) that minimises ½|w + t d|² + loss(f + t fd), up to the longest: one variable, no matrix product.

    wd = <w, d> and dd = <d, d>, both (..., 1). Newton's method, which can jump to and fro across a kink of the slope;
    then the middle of what still brackets the minimum.
    """
    t, low, high = torch.zeros_like(wd), torch.zeros_like(wd), torch.full_like(wd, longest)
    for _ in range(rounds):
        at = f + t * fd
        slope = wd + t * dd - (_pull(y, c, at) * fd).sum(-1, keepdim=True)
        curvature = dd + 2 * (torch.where(y * at < 1, c, 0) * fd * fd).sum(-1, keepdim=True)
        low, high = torch.where(slope < 0, t, low), torch.where(slope < 0, high, t)
        t = torch.where(curvature > 0, t - slope / curvature, t)  # where all is flat, to rounding, stay
        t = torch.where((t < low) | (t > high), (low + high) / 2, t)
    return t


def _conjugate_gradients(gram: Tensor, y: Tensor, c: Tensor, costs: Tensor) -> tuple[Tensor, Tensor]:
    """Preconditioned Polak-Ribière from zero. Returns a (B, P, n) and which costs are settled in all problems (P,)."""
    precondition = _nystrom(gram, costs)
    solution, settled = torch.zeros_like(c), torch.zeros(len(costs), dtype=torch.bool)
    live = torch.arange(len(costs))
    a, f = torch.zeros_like(c), torch.zeros_like(c)
    r = _pull(y, c, f)  # minus the gradient, as coefficients
    kr = r @ gram
    s, ks = precondition(r, kr, live)
    d, kd, rs = s, ks, (s * kr).sum(-1, keepdim=True)
    done = torch.zeros_like(rs, dtype=torch.bool)  # (B, P, 1)
    for _ in range(CG_STEPS):
        wd, dd = (f * d).sum(-1, keepdim=True), (d * kd).sum(-1, keepdim=True)
        t = _line_search(y, c, f, kd, wd, dd, rounds=2).masked_fill(done, 0)
        a, f = a + t * d, f + t * kd
        r = _pull(y, c, f) - a
        kr_old, kr = kr, r @ gram
        # The objective is at least as convex as ½|w|², so w is no further from the minimiser than |gradient|.
        done |= (r * kr).sum(-1, keepdim=True) <= TOLERANCE**2 * (a * f).sum(-1, keepdim=True)
        solution[:, live] = a
        keep = ~done.all(dim=0).flatten()
        settled[live] = ~keep
        if not keep.any():
            break
        s, ks = precondition(r, kr, live)
        rs_old, rs = rs, (s * kr).sum(-1, keepdim=True)
        beta = ((rs - (s * kr_old).sum(-1, keepdim=True)) / rs_old).clamp(min=0).masked_fill(done | (rs_old <= 0), 0)
        d, kd = s + beta * d, ks + beta * kd
        live = live[keep]
        a, f, c, d, kd, kr, rs, done = (v[:, keep] for v in (a, f, c, d, kd, kr, rs, done))
    return solution, settled


def _nystrom(gram: Tensor, costs: Tensor):
    """Preconditioner (I + 2CK)⁻¹ on the span of K's first eigenvectors, the identity elsewhere (Frangella et al. 2021).

    Features have a few directions of large variance, the mean and the bias above all: without this they rule the step.
    """
    n = gram.shape[-1]
    q = torch.linalg.qr(gram[..., :: max(1, n // RANK)][..., :RANK])[0]
    q = torch.linalg.qr(gram @ q)[0]
    kq = gram @ q
    values, vectors = eigen(q.mT @ kq)
    u, ku = (q @ vectors).mT, (kq @ vectors).mT  # (B, q, n), or (q, n) like gram
    stiffness = 2 * costs.to(gram)[:, None] * values.clamp(min=0)[..., None, :]  # (B, P, q)
    shrink = stiffness / (1 + stiffness)

    def precondition(r: Tensor, kr: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
        along = (r @ u.mT) * shrink[..., live, :]
        return r - along @ u, kr - along @ ku

    return precondition


def _newton(gram: Tensor, y: Tensor, c: Tensor, a: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients and scores (B, n) for one cost, from the start a, f = a K.

    With A the examples inside the margin, the quadratic that fits there has its minimum at
    a_A = (K_AA + diag(1/2c))⁻¹ y_A and zero elsewhere; going there with an exact line search converges (Keerthi &
    DeCoste 2005).
    """
    solution, scores = torch.empty_like(a), torch.empty_like(f)
    live = torch.arange(len(a))
    condition = 2 * c.max() * gram.diagonal(dim1=1, dim2=2).sum(dim=1).max()  # of the systems to solve, at most
    if condition * torch.finfo(gram.dtype).eps > ROUNDING:
        y, c, a, f = (v.double() for v in (y, c, a, f))
    for _ in range(NEWTON_STEPS):
        inside = (y * f < 1) & (c > 0)
        target, f_target = _ridge(gram, live, y, c, inside)
        d, fd = target - a, f_target - f
        wd, dd = (f * d).sum(-1, keepdim=True), (d * fd).sum(-1, keepdim=True)
        # Done where the quadratic is the objective at its own minimum too: all examples are on the side assumed.
        crossed = torch.where(inside, y * f_target > 1 + MARGIN, y * f_target < 1 - MARGIN) & (c > 0)
        go_on = crossed.any(dim=1)
        t = torch.where(go_on[:, None], _line_search(y, c, f, fd, wd, dd, rounds=8, longest=1.0), 1.0)
        a, f = a + t * d, f + t * fd
        solution[live], scores[live] = a.to(solution), f.to(scores)
        if not go_on.any():
            break
        live, y, c, a, f = (v[go_on] for v in (live, y, c, a, f))
    return solution, scores


def _ridge(gram: Tensor, live: Tensor, y: Tensor, c: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression on the examples inside the margin: coefficients and scores, both (B, n).

    The problems are solved together, each padded with examples of zero coefficient to the largest number inside.
    """
    m = max(1, int(inside.sum(dim=1).max()))
    index = inside.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :m]  # (B, m): those inside first
    kept = inside.gather(1, index)
    rows = torch.stack([gram[b].index_select(0, i) for b, i in zip(live, index, strict=True)]).to(y)  # (B, m, n)
    square = torch.stack([r.index_select(1, i) for r, i in zip(rows, index, strict=True)])
    square.diagonal(dim1=1, dim2=2).add_(torch.where(kept, 0.5 / c.gather(1, index), PADDING))
    rhs = torch.where(kept, y.gather(1, index), 0.0)[:, :, None]
    coefficients = torch.cholesky_solve(rhs, torch.linalg.cholesky(square)).mT  # (B, 1, m)
    return torch.zeros_like(y).scatter_(1, index, coefficients[:, 0]), (coefficients @ rows)[:, 0]
