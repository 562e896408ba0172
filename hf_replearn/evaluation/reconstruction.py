"""Principal components of images, the best linear autoencoder: what a code of the same width has to beat.

N images, D numbers of an image, K components
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

WIDEST = 4096  # numbers of an image up to which the covariance of all images is held


@dataclass(frozen=True)
class Components:
    """mean: (D,). axes: (D, K), orthonormal. variances: (K,), largest first. All float64.

    covariance: (D, D); None: it was too large to be held.
    """

    mean: Tensor
    axes: Tensor
    variances: Tensor
    covariance: Tensor | None

    def rebuilt(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) from their K numbers."""
        centred = images.flatten(1).double() - self.mean
        return (centred @ self.axes @ self.axes.T + self.mean).float().view_as(images)

    @cached_property
    def left(self) -> float:
        """Σ of the variances beyond K: the least that a linear map to K numbers and one back can leave of an image, in
        squared units, its mean over images (Baldi and Hornik 1989)."""
        return (self.covariance.trace() - self.variances.sum()).item()

    def left_by(self, linear: Tensor, offset: Tensor) -> float:
        """The mean over images of ||x - (Ax + b)||², with A (D, D) and b (D,)."""
        rest = torch.eye(len(linear), dtype=torch.float64) - linear
        bias = rest @ self.mean - offset
        return ((rest @ self.covariance * rest).sum() + bias.square().sum()).item()

    def largest_angle(self, matrix: Tensor) -> float:
        """Between the columns' span of a matrix (D, K) and that of the components, in degrees."""
        own = torch.linalg.qr(matrix.double()).Q
        outside = own - self.axes @ (self.axes.T @ own)
        return torch.rad2deg(torch.linalg.matrix_norm(outside, 2).clamp(max=1).asin()).item()


def principal_components(batches: Iterable[Tensor], count: int) -> Components:
    """The first `count` of images, or all there are: batches of (B, C, H, W). Up to 4,096 numbers an image they are
    those of the covariance, to which a batch at a time is added, else of all images together, in memory."""
    first, batches = _first(batches)
    if first[0].numel() > WIDEST:
        x = torch.cat([first, *batches]).flatten(1).double()
        centred = x - x.mean(0)
        count = min(count, *x.shape)
        values, vectors = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(centred @ centred.T))
        axes = torch.linalg.qr(centred.T @ vectors).Q
        return Components(x.mean(0), axes, values.clamp(min=0) / len(x), None)
    number, total, squares = 0, 0.0, 0.0
    for batch in (first, *batches):
        x = batch.flatten(1).double()
        number, total, squares = number + len(x), total + x.sum(0), squares + x.T @ x
    mean = total / number
    covariance = squares / number - mean[:, None] * mean
    values, vectors = torch.linalg.eigh(covariance)
    count = min(count, number, len(mean))
    return Components(mean, vectors.flip(1)[:, :count], values.flip(0)[:count].clamp(min=0), covariance)


def _first(batches: Iterable[Tensor]) -> tuple[Tensor, Iterable[Tensor]]:
    batches = iter(batches)
    return next(batches), batches
