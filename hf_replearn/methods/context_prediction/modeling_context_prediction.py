"""Context prediction (Doersch et al. 2015, arXiv:1505.05192): at which of eight places beside a patch was another cut?

B images of this process, D features
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_replearn.methods.trunk import ImageEncoder, ImageForPreTraining, Projector, TwoViewsOutput

from .configuration_context_prediction import ContextPredictionConfig

PLACES = 8


def context_prediction(logits: Tensor) -> Tensor:
    """Cross entropy in nats, the mean over the eight neighbours of each image's centre (section 3); ln 8 at chance.

    logits: (B, 8, 8), of the places of each neighbour; neighbour k is at place k.
    """
    places = torch.arange(PLACES, device=logits.device).repeat(len(logits))
    return cross_entropy(logits.float().flatten(0, 1), places)


class ContextPredictionModel(ImageEncoder):
    config_class = ContextPredictionConfig


class ContextPredictionForPreTraining(ImageForPreTraining):
    """Encoder f, which sees each patch by itself, and a head g of the features of two of them."""

    config_class = ContextPredictionConfig

    def __init__(self, config: ContextPredictionConfig):
        super().__init__(config)
        self.head = Projector(2 * self.model.features, config.head_hidden, PLACES, layers=3)
        self.post_init()

    def forward(self, pixel_values: Tensor, return_loss: bool = True) -> TwoViewsOutput:
        """pixel_values: (B, 9, C, h, w), normalised patches: the centre, then its neighbours in reading order. Of the
        result, `projections` are the logits (B, 8, 8), and features are those of the nine patches (B, 9, D)."""
        h = self.model(pixel_values.flatten(0, 1)).pooler_output.unflatten(0, pixel_values.shape[:2])
        pairs = torch.cat([h[:, :1].expand(-1, PLACES, -1), h[:, 1:]], dim=-1)  # (B, 8, 2 D)
        logits = self.head(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
        loss = context_prediction(logits) if return_loss else None
        return TwoViewsOutput(loss=loss, projections=logits, pooler_output=h)


__all__ = ["ContextPredictionForPreTraining", "ContextPredictionModel", "context_prediction"]
