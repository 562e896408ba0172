"""VICReg (Bardes et al. 2022, arXiv:2105.04906): two views agree, features vary, and no two features vary together.

B images of this process, N images of all processes, P projected features
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining, gather

from .configuration_vicreg import VICRegConfig


def vicreg(projections: Tensor, invariance: float, variance: float, covariance: float) -> Tensor:
    """invariance * s + variance * v + covariance * c (equation 6), each over the N images of all processes.

    s: mean over images and features of the squared difference of the two views.
    v: mean over views and features of max(0, 1 - sqrt(variance + 1e-4)) (equations 1 and 2).
    c: sum over views of the squares of all covariances of two features, divided by P (equations 3 and 4).
    As in the authors' code: the paper's equation 5 does not divide s by P, and its equation 6 adds v of the two views
    where the code has their mean. It is 0 where the views are equal and the features white.
    Computed in float32 whatever the autocast.

    projections: (B, 2, P), the same B in every process.
    """
    with torch.autocast(projections.device.type, enabled=False):
        z = gather(projections.float())  # (N, 2, P)
        first, second = z.unbind(1)
        s = (first - second).square().mean()
        v = (1 - (z.var(0) + 1e-4).sqrt()).relu().mean()
        centred = (z - z.mean(0)).transpose(0, 1)  # (2, N, P)
        covariances = centred.mT @ centred / (len(z) - 1)  # (2, P, P)
        off_diagonal = covariances.square().sum() - covariances.diagonal(dim1=1, dim2=2).square().sum()
        return invariance * s + variance * v + covariance * off_diagonal / z.shape[-1]


class VICRegModel(ImageEncoder):
    config_class = VICRegConfig


class VICRegForPreTraining(TwoViewsForPreTraining):
    """Encoder f and projection head g (the paper's expander) under VICReg."""

    config_class = VICRegConfig

    def make_projection(self, features: int) -> nn.Module:
        """Three layers of one width."""
        return Projector(features, self.config.projection_dim, self.config.projection_dim, layers=3)

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, 2, P)."""
        weights = self.config.invariance, self.config.variance, self.config.covariance
        return vicreg(projections, *weights)


__all__ = ["VICRegForPreTraining", "VICRegModel", "vicreg"]
