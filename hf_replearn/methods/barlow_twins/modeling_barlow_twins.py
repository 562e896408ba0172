"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230): two views agree in every feature, and features do not repeat
one another.

B images of this process, N images of all processes, P projected features
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining, gather

from .configuration_barlow_twins import BarlowTwinsConfig


def barlow_twins(projections: Tensor, redundancy: float) -> Tensor:
    """How far the correlations of the features of one view with those of the other are from the identity (equation 1).

    sum_i (1 - C_ii)^2 + redundancy * sum_i sum_j!=i C_ij^2, C_ij the correlation over the N images of all processes
    of feature i of the first view with feature j of the second (equation 2). Each view is standardised by itself, with
    1e-5 added to the variances as in the authors' batch normalisation: scale and shift of a feature do not count.
    Computed in float32 whatever the autocast.

    projections: (B, 2, P), the same B in every process.
    """
    with torch.autocast(projections.device.type, enabled=False):
        z = gather(projections.float())  # (N, 2, P)
        z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        first, second = z.unbind(1)
        correlations = first.T @ second / len(z)  # (P, P)
        diagonal = correlations.diagonal()
        off_diagonal = correlations.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + redundancy * off_diagonal


class BarlowTwinsModel(ImageEncoder):
    config_class = BarlowTwinsConfig


class BarlowTwinsForPreTraining(TwoViewsForPreTraining):
    """Encoder f and projection head g under the loss of Barlow Twins."""

    config_class = BarlowTwinsConfig

    def make_projection(self, features: int) -> nn.Module:
        """Three layers of one width."""
        return Projector(features, self.config.projection_dim, self.config.projection_dim, layers=3)

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, 2, P)."""
        return self.config.loss_scale * barlow_twins(projections, self.config.redundancy)


__all__ = ["BarlowTwinsForPreTraining", "BarlowTwinsModel", "barlow_twins"]
