"""Maps: features in two dimensions, to be looked at and not to be scored."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hf_replearn.representation import Features, pca

COMPONENTS = 50  # that t-SNE sees: less noise and less time, as van der Maaten & Hinton (2008) did


def pca_map(features: Features) -> np.ndarray:
    """The first two principal components (N, 2)."""
    points = pca(features, features, components=2)[0].x.numpy()
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def tsne_of(points: Tensor) -> np.ndarray:
    """`tsne_map` of points (N, D)."""
    return tsne_map(Features(points))


def tsne_map(features: Features, *, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """t-SNE (van der Maaten & Hinton 2008) of the first 50 principal components, started from the first two: (N, 2).

    Distances between far groups, and their sizes, mean nothing. Features that are all the same are one point.
    """
    from sklearn.manifold import TSNE

    some = pca(features, features, components=COMPONENTS)[0].x.double().numpy()
    spread = np.ptp(some, axis=0).max()
    if spread == 0:  # scikit-learn's program crashes there
        return np.zeros((len(some), 2))
    some /= spread  # which changes no map, and keeps squares of tiny distances from becoming 0
    perplexity = min(perplexity, (len(some) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(some)
