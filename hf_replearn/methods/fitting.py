"""What fits share: sums over all of the data in float64, and whitening by them.

N inputs, D numbers of each
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from hf_replearn.errors import InputError

EDGE = 4096  # numbers of an input up to which their covariance is held
SMALL = 512  # up to so many, all is summed and solved in float64
FLAT, FLAT_OF_FLOATS = 1e-10, 1e-6  # of the largest variance: a direction of less is none
SPARE, ROUNDS, STILL = 32, 300, 1e-8  # of subspace iteration: further directions at least, steps, residual at the end


class Examples(Protocol):
    """The inputs of a fit, (N, D) in all, normalised and, where that is asked for, whitened.

    `batches(size, order)`: tensors (n, D) float32 of so many, in the order of the places (N,), or as they stand.
    `some(places)`: those at such places (n,).
    """

    width: int

    def __len__(self) -> int: ...

    def batches(self, size: int | None = None, order: Tensor | None = None) -> Iterator[Tensor]: ...

    def some(self, places: Tensor) -> Tensor: ...


def moments(examples: Examples) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) over all examples, float64, in one pass.

    Sums are taken around the first batch's mean: those of squares would lose what is left of large numbers. They are of
    float64; of more than SMALL numbers the products within a batch are of float32, in half the time.
    """
    count, centre, first, second = 0, None, 0.0, None
    for batch in examples.batches():
        batch = batch.double() if examples.width <= SMALL else batch
        centre = batch.mean(0) if centre is None else centre
        batch = batch - centre
        count, first = count + len(batch), first + batch.sum(0).double()
        second = products(batch).double() if second is None else second.add_(products(batch))
    mean = first / count
    return centre.double() + mean, second / count - mean.outer(mean)


def products(x: Tensor) -> Tensor:
    """xᵀ x of x (n, D). On a CPU by numpy, which knows that the result is symmetric and computes half of it."""
    if x.device.type != "cpu":
        return x.T @ x
    array = x.numpy()
    return torch.from_numpy(array.T @ array)


def leading(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues of a symmetric positive matrix (D, D), and their eigenvectors (D, count).

    Of a large matrix few by subspace iteration, which is several times faster; where it does not come to rest, and
    else, by all eigenvectors.
    """
    width = count + max(SPARE, count)  # the more, the fewer steps
    if len(matrix) > SMALL and width < len(matrix) / 8:
        start = torch.randn(len(matrix), width, generator=torch.Generator().manual_seed(0))
        q = torch.linalg.qr(start.to(matrix))[0]
        for _ in range(ROUNDS // 5):
            for _ in range(5):
                q = torch.linalg.qr(matrix @ q)[0]
            values, turned = torch.linalg.eigh(q.T @ matrix @ q)
            vectors, values = (q @ turned).flip(-1)[:, :count], values.flip(-1)[:count]
            if (matrix @ vectors - vectors * values).norm(dim=0).max() <= STILL * values[0]:
                return values, vectors
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(-1)[:count], vectors.flip(-1)[:, :count]


def principal_axes(examples: Examples, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), the `count` largest eigenvalues (count,) of the covariance, which divides by N, and their eigenvectors
    (count, D); float64, in the order of the eigenvalues, the largest entry of each positive.

    By the covariance (D, D), or by the products (N, N) of all examples where these are fewer. Raises InputError where
    the data has fewer directions, and where both are more than can be held.
    """
    if examples.width > EDGE and len(examples) > EDGE:
        raise InputError(
            f"{len(examples):,} examples of {examples.width:,} numbers each: principal axes are computed up to "
            f"{EDGE:,} of one or the other: lower --image_size, or learn from --patches"
        )
    if examples.width <= len(examples):
        mean, covariance = moments(examples)
        values, vectors = leading(covariance, count)
        axes = vectors.T
    else:
        x = torch.cat([batch.double() for batch in examples.batches()])
        mean = x.mean(0)
        x = x - mean
        values, vectors = leading(x @ x.T / len(x), count)
        axes = (x.T @ (vectors / (values.clamp(min=1e-300) * len(x)).sqrt())).T
    flat = FLAT if examples.width <= SMALL else FLAT_OF_FLOATS
    directions = int((values > flat * values[0]).sum())
    if values[0] <= 0 or directions < count:
        raise InputError(
            f"--components {count}: the data vary in {directions if values[0] > 0 else 0} directions only: give fewer"
        )
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return mean, values, axes * largest.sign()


def zca(examples: Examples, noise: float) -> tuple[Tensor, Tensor]:
    """Mean (D,) and the symmetric matrix V (Λ + noise)^-½ Vᵀ (D, D), which takes examples to unit covariance, up to the
    noise that keeps what hardly varies from being blown up (Coates, Lee & Ng 2011, section 3.2); float64."""
    if examples.width > EDGE:
        raise InputError(
            f"whitening {examples.width:,} numbers: up to {EDGE:,}: lower --image_size, or learn from --patches"
        )
    mean, covariance = moments(examples)
    values, vectors = torch.linalg.eigh(covariance)
    if values[-1] <= 0:
        raise InputError("all examples are the same: there is nothing to learn from them")
    return mean, (vectors / (values.clamp(min=0) + noise).sqrt()) @ vectors.T
