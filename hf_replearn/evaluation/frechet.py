"""The Fréchet distance of two sets of images in features of ours.

Heusel et al. (2017, arXiv:1706.08500) take those of Inception-v3 and 50,000 images, and call it FID: this is none, for
its features and the number of images are others, on both of which the distance depends.

N images, F features
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 64)  # of the layers; the last are the features


class RandomFeatures(nn.Sequential):
    """Images of levels (B, C, S, S) -> (B, 64): three convolutions of 3 x 3 pixels with random weights, always the
    same, in strides of 2, a ReLU after each, and the mean over places. Nothing of them is learnt from any data."""

    def __init__(self, channels: int):
        generator, modules = torch.Generator().manual_seed(0), []
        for width in WIDTHS:
            layer = nn.Conv2d(channels, width, 3, stride=2, padding=1)
            with torch.no_grad():
                drawn = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(drawn * (2 / drawn[0].numel()) ** 0.5)
                layer.bias.copy_(torch.randn(width, generator=generator) / 10)
            modules += [layer, nn.ReLU()]
            channels = width
        super().__init__(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    @torch.no_grad()
    def of(self, batches: Iterable[Tensor]) -> Tensor:
        """Of levels from 0 to 1, on the CPU: (N, F) float64."""
        return torch.cat([self(2 * batch.float() - 1) for batch in batches]).double()


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """||m - n||² + tr(A + B - 2 (AB)^½), of means m, n and covariances A, B of two sets of features (N, F): the squared
    distance of the Gaussians that fit them (Dowson and Landau 1982)."""
    (m, a), (n, b) = ((x.double().mean(0), torch.cov(x.double().T)) for x in (one, other))
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    crossed = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()  # the trace of (AB)^½
    return ((m - n).square().sum() + a.trace() + b.trace() - 2 * crossed).item()
