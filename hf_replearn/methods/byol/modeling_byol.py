"""BYOL (Grill et al. 2020, arXiv:2006.07733): the student predicts what a teacher, its own running mean, makes of the
other view of an image.

B images of this process, P projected features
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import ImageEncoder, Projector, TeacherForPreTraining

from .configuration_byol import BYOLConfig


def byol(predictions: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of each view's normalised prediction from the teacher's normalised projection of the other view,
    2 - 2 cos, from 0 to 4 (equation 2).

    The mean over both views, where the paper's algorithm 1 has their sum. No gradient reaches the targets. Computed in
    float32 whatever the autocast. The mean of the processes' losses is that of all images.

    predictions, targets: (B, 2, P), row b of both from image b.
    """
    with torch.autocast(predictions.device.type, enabled=False):
        told = targets.detach().float().flip(1)
        return 2 - 2 * nn.functional.cosine_similarity(predictions.float(), told, dim=-1).mean()


class BYOLModel(ImageEncoder):
    config_class = BYOLConfig


class BYOLForPreTraining(TeacherForPreTraining):
    """Encoder f with projection head g and predictor, and a teacher of f and g alone. f of the student is kept."""

    config_class = BYOLConfig

    def __init__(self, config: BYOLConfig):
        super().__init__(config)
        self.predictor = Projector(config.projection_dim, config.predictor_hidden, config.projection_dim, layers=2)

    def make_projection(self, features: int) -> nn.Module:
        """One hidden layer, and nothing after the last."""
        return Projector(features, self.config.projection_hidden, self.config.projection_dim, layers=2)

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """The loss () of the student's projections and the teacher's, both (B, 2, P)."""
        return byol(self.predictor(projections.flatten(0, 1)).view_as(projections), targets)


__all__ = ["BYOLForPreTraining", "BYOLModel", "byol"]
