"""k-means features (Coates, Lee & Ng 2011): how near an input is to each centroid.

N inputs, D numbers of each, K centroids
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hf_replearn.methods.fitted import FittedModel

from .configuration_kmeans import KMeansConfig


def triangle(distances: Tensor) -> Tensor:
    """max(0, mean over centroids - distance), of distances (N, K) (section 3.3.1): about half of them are 0. Where no
    gradient is asked for it takes the memory of the distances, which else would no longer fit into a CPU's cache."""
    out = None if distances.requires_grad else distances
    return torch.sub(distances.mean(1, keepdim=True), distances, out=out).clamp_(min=0)


class KMeansModel(FittedModel):
    config_class = KMeansConfig

    def __init__(self, config: KMeansConfig):
        super().__init__(config)
        self.centroids = nn.Parameter(torch.zeros(config.components, config.inputs))
        self.post_init()

    def distances(self, inputs: Tensor) -> Tensor:
        """Euclidean distances of inputs (N, D) to the centroids: (N, K)."""
        return self._distances(inputs, self._factor())

    def code(self, inputs: Tensor) -> Tensor:
        """(N, D) -> (N, K)"""
        return self.coder()(inputs)

    def coder(self) -> Callable[[Tensor], Tensor]:
        factor = self._factor()
        if self.config.activation == "triangle":
            return lambda inputs: triangle(self._distances(inputs, factor))
        number = self.config.components
        return lambda inputs: nn.functional.one_hot(self._distances(inputs, factor).argmin(1), number).to(inputs)

    def _factor(self) -> Tensor:
        """(D + 2, K): -2 c, 1, |c|² of each centroid c."""
        squares = self.centroids.square().sum(1, keepdim=True)
        return torch.cat([-2 * self.centroids, torch.ones_like(squares), squares], dim=1).T

    @staticmethod
    def _distances(inputs: Tensor, factor: Tensor) -> Tensor:
        """|x|² - 2 x c + |c|² as one product, of (x, |x|², 1) and the factor, so that (N, K) is written once."""
        squares = torch.linalg.vector_norm(inputs, dim=1, keepdim=True).square()
        x = torch.cat([inputs, squares, torch.ones_like(squares)], dim=1)
        return (x @ factor).clamp_(min=0).sqrt_()

    def filters(self) -> Tensor:
        """The centroids (K, D), of whitened inputs where these are whitened."""
        return self.centroids


__all__ = ["KMeansModel", "triangle"]
