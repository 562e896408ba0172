"""What k-means leaves of inputs that are told by their nearest centroid."""

from __future__ import annotations

from torch import Tensor

from .modeling_kmeans import KMeansModel


def own_task(model: KMeansModel, inputs: Tensor) -> dict[str, float]:
    """The squared error of inputs (N, D) told by their nearest centroid, and the centroids that are nearest to any."""
    x = model.normalised(inputs)
    distances = model.distances(x)
    left = distances.min(1).values.double().square().sum() / (x - x.mean(0)).double().square().sum()
    used = distances.argmin(1).unique().numel() / len(model.centroids)
    return {"squared error, as a share of the variance": left.item(), "centroids that are nearest to some": used}
