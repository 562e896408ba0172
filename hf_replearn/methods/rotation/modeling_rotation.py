"""Rotation (Gidaris et al. 2018, arXiv:1803.07728): by how many quarter turns was this image turned?

B images of this process, D features
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hf_replearn.methods.trunk import ImageEncoder, ImageForPreTraining, TwoViewsOutput, project

from .configuration_rotation import RotationConfig

TURNS = 4


def rotation(logits: Tensor) -> Tensor:
    """Cross entropy in nats, the mean over the four copies of each image, of which copy k is turned k times (equations
    2 and 3); ln 4 at chance.

    logits: (B, 4, 4), of the turns of each copy.
    """
    turns = torch.arange(TURNS, device=logits.device).repeat(len(logits))
    return cross_entropy(logits.float().flatten(0, 1), turns)


class RotationModel(ImageEncoder):
    config_class = RotationConfig


class RotationForPreTraining(ImageForPreTraining):
    """Encoder f and a linear classifier g of quarter turns."""

    config_class = RotationConfig

    def __init__(self, config: RotationConfig):
        super().__init__(config)
        self.head = nn.Linear(self.model.features, TURNS)
        self.post_init()

    def forward(self, pixel_values: Tensor, return_loss: bool = True) -> TwoViewsOutput:
        """pixel_values: (B, 4, C, H, W), normalised, copy k turned k times. Of the result, `projections` are the logits
        (B, 4, 4)."""
        h, logits = project(self.model, self.head, pixel_values)
        return TwoViewsOutput(loss=rotation(logits) if return_loss else None, projections=logits, pooler_output=h)


__all__ = ["RotationForPreTraining", "RotationModel", "rotation"]
