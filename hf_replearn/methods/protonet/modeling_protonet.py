"""Prototypical networks (Snell et al. 2017, arXiv:1703.05175): a query is of the class whose mean lies nearest.

E episodes, N classes of one, K support images and Q queries of each class, M = K + Q, D features
"""

from dataclasses import dataclass

from torch import Tensor, arange, cdist, nn
from transformers.utils import ModelOutput

from hf_replearn.methods.trunk import ImageEncoder, ImageForPreTraining

from .configuration_protonet import ProtoNetConfig


def prototype_logits(support: Tensor, query: Tensor) -> Tensor:
    """Minus the squared distance of each query to the mean of each class (equations 1 and 2), in float32: a softmax of
    them is the probability of the classes.

    support: (E, N, K, D). query: (E, Q', D), in any order. Returns (E, Q', N).
    """
    return -cdist(query.float(), support.float().mean(2)).square()


@dataclass
class EpisodesOutput(ModelOutput):
    """loss: () in nats a query, absent with `return_loss=False`. pooler_output: (E N M, D). logits: (E, N Q, N)."""

    loss: Tensor | None = None
    pooler_output: Tensor | None = None
    logits: Tensor | None = None


class ProtoNetModel(ImageEncoder):
    config_class = ProtoNetConfig


class ProtoNetForPreTraining(ImageForPreTraining):
    """The encoder f; there is no head that is learnt."""

    config_class = ProtoNetConfig

    def __init__(self, config: ProtoNetConfig):
        super().__init__(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, return_loss: bool = True) -> EpisodesOutput:
        """pixel_values: (E, N, M, C, H, W), of each class the support first. All go through f in one pass: while it
        trains, batch normalisation is by the statistics of the whole batch; in evaluation mode by running ones, so that
        no answer depends on other queries."""
        episodes, way, each = pixel_values.shape[:3]
        h = self.model(pixel_values.flatten(0, 2)).pooler_output
        if not return_loss:
            return EpisodesOutput(pooler_output=h)
        support, query = h.unflatten(0, (episodes, way, each)).tensor_split([self.config.shots], dim=2)
        logits = prototype_logits(support, query.flatten(1, 2))
        answers = arange(way, device=h.device).repeat_interleave(each - self.config.shots).repeat(episodes)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), answers)
        return EpisodesOutput(loss=loss, pooler_output=h, logits=logits)


__all__ = ["ProtoNetForPreTraining", "ProtoNetModel", "prototype_logits"]
