"""Properties of a representation rather than scores: none of them is better the larger it is.

N examples, D features
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_replearn.errors import InputError
from hf_replearn.representation import Features

PAIRS = 100_000  # that uniformity and alignment are estimated from
SLOPE = (11, 101)  # eigenvalues, counted from 1, that α-ReQ fits by default


def label_free(
    features: Features, *, positives: tuple[Tensor, Tensor] | None = None, seed: int = 0
) -> dict[str, float]:
    """ "rankme", "alpha_req", "uniformity", "sparsity", "zeros", "dead" and, with positives, "alignment".

    positives: rows (P,) and (P,) of examples that mean the same; None: pairs of one class, if there are labels.
    Raises InputError for features with NaN, or fewer than two examples.
    """
    x = features.x
    if len(x) < 2 or not x.isfinite().all():
        raise InputError("properties need at least two examples with finite features")
    found = {
        "rankme": rankme(x),
        "alpha_req": alpha_req(x),
        "uniformity": uniformity(x, seed=seed),
        "sparsity": hoyer_sparsity(x),
        "zeros": (x == 0).double().mean().item(),
        "dead": (x.std(dim=0) <= 1e-6 * x.std(dim=0).max().clamp(min=1e-30)).double().mean().item(),
    }
    if positives is None and features.labels is not None and features.labels.ndim == 1:
        positives = same_class_pairs(features.labels, seed=seed)
    if positives is not None and len(positives[0]):
        found["alignment"] = alignment(x[positives[0]], x[positives[1]])
    if features.labels is not None and features.labels.ndim == 1 and not features.labels.is_floating_point():
        found |= {"separation": separation(x, features.labels), "selectivity": selectivity(x, features.labels)}
    return found


def rankme(x: Tensor) -> float:
    """Effective rank of x (N, D): exp of the entropy of its singular values (Garrido et al. 2023, equation 1)."""
    p = _spectrum(x).sqrt()
    p = p / p.sum().clamp(min=1e-300) + 1e-7
    return (-(p * p.log()).sum()).exp().item()


def alpha_req(x: Tensor) -> float:
    """Decay of the covariance's eigenvalues λ_i ∝ i^-α (Agrawal et al. 2022): the slope of log λ over log i.

    It is fitted to eigenvalues 11 to 100 as by Stringer et al. (2019), or to all positive ones where there are fewer
    than 30. NaN where fewer than two are positive.
    """
    eigenvalues = _spectrum(x - x.mean(dim=0))
    eigenvalues = eigenvalues[eigenvalues > 1e-7 * eigenvalues[0]]
    first, last = SLOPE if len(eigenvalues) >= 30 else (1, len(eigenvalues) + 1)
    i = torch.arange(first, min(last, len(eigenvalues) + 1), dtype=torch.float64)
    if len(i) < 2:
        return float("nan")
    u, v = i.log(), eigenvalues[first - 1 : first - 1 + len(i)].log()
    u = u - u.mean()
    return (-(u * v).sum() / (u * u).sum()).item()


def uniformity(x: Tensor, *, t: float = 2.0, seed: int = 0) -> float:
    """log mean exp(-t |x - y|²) over random pairs of unit length (Wang & Isola 2020, equation 2); 0: one point.

    All pairs are taken where there are at most PAIRS of them.
    """
    x = normalize(x).double()
    if len(x) * (len(x) - 1) // 2 <= PAIRS:
        squares = torch.pdist(x).square()
    else:
        generator = torch.Generator().manual_seed(seed)
        first = torch.randint(len(x), (PAIRS,), generator=generator)
        other = (first + torch.randint(1, len(x), (PAIRS,), generator=generator)) % len(x)  # never itself
        squares = (x[first] - x[other]).square().sum(dim=1)
    return (-t * squares).logsumexp(dim=0).item() - math.log(len(squares))


def alignment(x: Tensor, y: Tensor) -> float:
    """Mean |x - y|² of positive pairs (P, D) of unit length (Wang & Isola 2020, equation 1, α = 2); 0…4."""
    return (normalize(x) - normalize(y)).square().sum(dim=1).mean().item()


def same_class_pairs(labels: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Each row with the next one of its class in a random order: rows (P,) and (P,)."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]
    same = labels[order[1:]] == labels[order[:-1]]
    return order[:-1][same], order[1:][same]


def hoyer_sparsity(x: Tensor) -> float:
    """Mean over examples of (√D - |x|₁ / |x|₂) / (√D - 1) (Hoyer 2004): 0 all features equal, 1 a single one active."""
    root = x.shape[1] ** 0.5
    if root == 1:
        return 0.0
    ratio = x.abs().sum(dim=1) / x.norm(dim=1).clamp(min=1e-30)
    return ((root - ratio) / (root - 1)).double().mean().item()


def separation(x: Tensor, labels: Tensor) -> float:
    """1 - mean cosine distance within classes / overall, both with repetition (Kornblith et al. 2021, class R²)."""
    x = normalize(x).double()
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), x.shape[1], dtype=x.dtype).index_add_(0, classes, x)
    within = 1 - (sums / counts[:, None]).square().sum(dim=1)  # mean over all pairs of a class, itself included
    between_means = 1 - (sums / counts[:, None]).mean(dim=0).square().sum()  # every class counts the same
    return (1 - within.mean() / between_means.clamp(min=1e-30)).item()


def selectivity(x: Tensor, labels: Tensor) -> float:
    """Mean of `selectivities`, 0…1."""
    return selectivities(x, labels).mean().item()


def selectivities(x: Tensor, labels: Tensor) -> Tensor:
    """The share of each feature's variance that lies between classes (η²), (D,) in 0…1; 0 where it is constant."""
    x = (x - x.mean(dim=0)).double()
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), x.shape[1], dtype=x.dtype).index_add_(0, classes, x)
    total = x.square().sum(dim=0)
    return (sums.square() / counts[:, None]).sum(dim=0) / total.clamp(min=1e-30)


def most_active(features: Features, *, top: int, examples: int) -> list[tuple[int, float, list[int]]]:
    """What the `top` most selective features stand for: (feature, selectivity, the examples in which it is largest).

    A feature whose low side is the selective one still shows its largest values: signs are the encoder's.
    """
    share = selectivities(features.x, features.labels)
    best = share.topk(min(top, len(share))).indices.tolist()
    return [(d, share[d].item(), features.x[:, d].topk(min(examples, len(features))).indices.tolist()) for d in best]


def _spectrum(x: Tensor) -> Tensor:
    """Squared singular values of x (N, D), descending, float64."""
    x = x.double()
    square = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    return torch.linalg.eigvalsh(square).clamp(min=0).flip(0)
