"""The colours that an image is written in (Chen et al. 2020, section 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hf_replearn.errors import InputError

ROUNDS = 50  # of k-means, at most


def fit_palette(colours: Tensor, count: int) -> Tensor:
    """(count, 3) colours, black at -1 and white at 1, that are nearest to the given ones by k-means.

    colours: (N, 3) uint8. A cluster that no colour is nearest to starts anew at the colour that is furthest from its
    own, which scikit-learn's k-means does. Always the same for the same colours. Raises InputError for a palette that
    has more colours than the data.
    """
    from sklearn.cluster import KMeans

    distinct, times = np.unique(colours.numpy(), axis=0, return_counts=True)
    if len(distinct) < count:
        raise InputError(
            f"--colours {count}: these images have {len(distinct)} different colours: say --colours {len(distinct)} "
            "or fewer"
        )
    means = KMeans(count, n_init=1, max_iter=ROUNDS, random_state=0)
    means.fit(distinct.astype(np.float64), sample_weight=times)
    return torch.from_numpy(means.cluster_centers_).float() / 127.5 - 1
