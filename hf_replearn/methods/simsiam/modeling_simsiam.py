"""SimSiam (Chen and He 2021, arXiv:2011.10566): a predictor tells one view's projection from the other's; the
projection that is told takes no gradient.

B images of this process, P projected features
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining

from .configuration_simsiam import SimSiamConfig


def simsiam(predictions: Tensor, projections: Tensor) -> Tensor:
    """Minus the cosine of each view's prediction with the other view's projection, mean over both (equation 4).

    No gradient reaches the projections from here (equation 3): without that stop the loss collapses to -1 at once.
    Computed in float32 whatever the autocast. The mean of the processes' losses is that of all images.

    predictions, projections: (B, 2, P), row b of both from image b.
    """
    with torch.autocast(projections.device.type, enabled=False):
        told = projections.detach().float().flip(1)
        return -nn.functional.cosine_similarity(predictions.float(), told, dim=-1).mean()


class SimSiamModel(ImageEncoder):
    config_class = SimSiamConfig


class SimSiamForPreTraining(TwoViewsForPreTraining):
    """Encoder f with projection head g, and the predictor; g and predictor are thrown away after pretraining."""

    config_class = SimSiamConfig

    def __init__(self, config: SimSiamConfig):
        super().__init__(config)
        projected, hidden = config.projection_dim, config.predictor_hidden
        norm = nn.Sequential(nn.Linear(projected, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU())
        self.predictor = nn.Sequential(*norm, nn.Linear(hidden, projected))

    def make_projection(self, features: int) -> nn.Module:
        """Layers of one width; the last is batch-normalised without scale and shift."""
        width, layers = self.config.projection_dim, self.config.projection_layers
        return Projector(features, width, width, layers=layers, last_norm="plain")

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, 2, P)."""
        predictions = self.predictor(projections.flatten(0, 1)).view_as(projections)
        return simsiam(predictions, projections)


__all__ = ["SimSiamForPreTraining", "SimSiamModel", "simsiam"]
