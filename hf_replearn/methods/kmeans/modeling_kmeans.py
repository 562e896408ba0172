"""k-means features (Coates, Lee & Ng 2011): how near an input is to each centroid.

N inputs, D numbers of each, K centroids
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.fitted import FittedModel

from .configuration_kmeans import KMeansConfig


def triangle(distances: Tensor) -> Tensor:
    """max(0, mean over centroids - distance), of distances (N, K) (section 3.3.1): about half of them are 0."""
    return distances.mean(1, keepdim=True).sub(distances).clamp_(min=0)


class KMeansModel(FittedModel):
    config_class = KMeansConfig

    def __init__(self, config: KMeansConfig):
        super().__init__(config)
        self.centroids = nn.Parameter(torch.zeros(config.components, config.inputs))
        self.post_init()

    def distances(self, inputs: Tensor) -> Tensor:
        """Euclidean distances of inputs (N, D) to the centroids: (N, K)."""
        lengths = self.centroids.square().sum(1) + inputs.square().sum(1, keepdim=True)
        return lengths.addmm_(inputs, self.centroids.T, alpha=-2).clamp_(min=0).sqrt_()

    def code(self, inputs: Tensor) -> Tensor:
        """(N, D) -> (N, K)"""
        distances = self.distances(inputs)
        if self.config.activation == "triangle":
            return triangle(distances)
        return nn.functional.one_hot(distances.argmin(1), self.config.components).to(inputs)

    def filters(self) -> Tensor:
        """The centroids (K, D), of whitened inputs where these are whitened."""
        return self.centroids


__all__ = ["KMeansModel", "triangle"]
