"""What fits share: sums over all of the data in float64, and whitening by them.

N inputs, D numbers of each
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from hf_replearn.errors import InputError

EDGE = 4096  # numbers of an input up to which their covariance is held
SMALL = 512  # up to so many, all is summed and solved in float64
FLAT, FLAT_OF_FLOATS = 1e-10, 1e-6  # of the largest variance: a direction of less is none
SPARE, STILL, STILL_OF_FLOATS = 8, 1e-8, 1e-7  # of Krylov spaces: further directions, residuals at the end
PASSES, TOGETHER = 8, 512  # over the data at most, and examples at a time: they stay in the cache of a CPU


class Examples(Protocol):
    """The inputs of a fit, (N, D) in all, normalised and, where that is asked for, whitened.

    `batches(size, order)`: tensors (n, D) float32 of so many, in the order of the places (N,), or as they stand.
    `some(places)`: those at such places (n,). `held`: whether they lie in memory, so that a pass costs no reading.
    """

    width: int

    @property
    def held(self) -> bool: ...

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

    Of a large matrix few by its products with few vectors, which is many times faster; where these do not come to rest,
    and else, by all eigenvectors.
    """
    block, found = count + SPARE, None
    if len(matrix) > SMALL and block < len(matrix) / 16:
        start = random_vectors(len(matrix), block).to(matrix)
        found = by_products(lambda q: matrix @ q, start, count, most=len(matrix) // (2 * block), still=STILL)
    if found is None:
        values, vectors = torch.linalg.eigh(matrix)
        found = values.flip(-1)[:count], vectors.flip(-1)[:, :count]
    return found


def by_products(
    product: Callable[[Tensor], Tensor], start: Tensor, count: int, *, most: int, still: float
) -> tuple[Tensor, Tensor] | None:
    """The `count` largest eigenvalues (count,) and their eigenvectors (D, count) of a symmetric positive matrix A that
    is known by its products A q with vectors (D, B), float64: the best in the space that q, A q, A² q … span (block
    Lanczos, Golub & Underwood 1977; how good these are: Musco & Musco 2015).

    start: q (D, B), B >= count, or of equal eigenvalues some would not be found. still: residual |A v - λ v| of all, as
    a share of the largest eigenvalue, at which it ends; None where `most` products do not reach it.
    """
    q = torch.linalg.qr(start)[0]
    basis, images = q[:, :0], q[:, :0]
    for _ in range(most):
        image = product(q)
        basis, images = torch.cat([basis, q], 1), torch.cat([images, image], 1)
        inner = basis.T @ images
        values, turned = torch.linalg.eigh((inner + inner.T) / 2)
        values, turned = values.flip(-1)[:count], turned.flip(-1)[:, :count]
        vectors = basis @ turned
        if (images @ turned - vectors * values).norm(dim=0).max() <= still * values[0]:
            return values, vectors
        for _ in range(2):  # what rounding leaves of the first time, the second takes off
            image = image - basis @ (basis.T @ image)
        q = torch.linalg.qr(image)[0]
    return None


def random_vectors(width: int, count: int) -> Tensor:
    """(width, count), the same every time."""
    return torch.randn(width, count, generator=torch.Generator().manual_seed(0))


def principal_axes(examples: Examples, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), the `count` largest eigenvalues (count,) of the covariance, which divides by N, and their eigenvectors
    (count, D); float64, in the order of the eigenvalues, the largest entry of each positive.

    By the covariance (D, D), or by the products (N, N) of all examples where these are fewer; few axes of many numbers
    by some passes over the examples, if they are held in memory, which is less work than the covariance. Raises
    InputError where the data has fewer directions, and where both are more than can be held.
    """
    if examples.width > EDGE and len(examples) > EDGE:
        raise InputError(
            f"{len(examples):,} examples of {examples.width:,} numbers each: principal axes are computed up to "
            f"{EDGE:,} of one or the other: lower --image_size, or learn from --patches"
        )
    if examples.width <= len(examples):
        mean, values, vectors = in_passes(examples, count) or by_covariance(examples, count)
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


def by_covariance(examples: Examples, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), eigenvalues (count,), eigenvectors (D, count)."""
    mean, covariance = moments(examples)
    return mean, *leading(covariance, count)


def in_passes(examples: Examples, count: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """As `by_covariance`, by products of all examples with few vectors; None where that would be more work, or does not
    come to rest. A product with B vectors is 4 N D B operations of float32, the covariance N D²."""
    block = count + SPARE
    if not examples.held or examples.width <= max(SMALL, 4 * block * PASSES):
        return None
    mean = sum(batch.sum(0).double() for batch in examples.batches(TOGETHER)) / len(examples)
    centre = mean.float()

    def product(q: Tensor) -> Tensor:
        few, found = q.float(), torch.zeros_like(q.T)
        for batch in examples.batches(TOGETHER):
            batch = batch - centre
            found += (batch @ few).T @ batch
        return found.T / len(examples)

    start = random_vectors(examples.width, block).to(mean)
    found = by_products(product, start, count, most=PASSES, still=STILL_OF_FLOATS)
    return found and (mean, *found)


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
