"""Colorization (Zhang et al. 2016, arXiv:1603.08511): which colours has this grey image?

B images of this process, H x W pixels, h x w places whose colour is told, Q = 313 bins of colours, K the nearest
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.utils import ModelOutput

from hf_replearn.methods.trunk import Decoder, ImageEncoder, ImageForPreTraining

from .configuration_colorization import ColorizationConfig

GRID = 10  # of a and b, between the centres of two bins
# a -> the first and the last b of the bins that sRGB reaches, as in the authors' list of 313.
REACHED = {
    -90: (50, 90), -80: (20, 90), -70: (0, 90), -60: (-20, 90), -50: (-30, 100), -40: (-40, 100), -30: (-50, 100),
    -20: (-50, 100), -10: (-60, 100), 0: (-70, 100), 10: (-80, 90), 20: (-80, 90), 30: (-90, 90), 40: (-100, 90),
    50: (-100, 80), 60: (-110, 80), 70: (-110, 80), 80: (-110, 70), 90: (-110, 70), 100: (-90, 0),
}  # fmt: skip
NEAREST, SIGMA = 5, 5.0  # bins that share a colour, and the deviation of their weights (section 2.1)
TEMPERATURE = 0.38  # of the annealed mean (equation 5)
SCALE = 100.0  # of a and b, where they are told themselves


def bins() -> Tensor:
    """The centres of the bins, a and b: (313, 2)."""
    return torch.tensor(
        [(a, b) for a, (first, last) in REACHED.items() for b in range(first, last + GRID, GRID)], dtype=torch.float32
    )


def soft_encode(ab: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest bins of each colour, nearest first, and their weights, which sum to 1: (B, K, h, w) each, of colours
    (B, 2, h, w)."""
    centres = bins().to(ab.device, non_blocking=True)
    with torch.autocast(ab.device.type, enabled=False):
        colours = ab.float().flatten(2).transpose(1, 2)  # (B, h w, 2)
        distances = (colours[..., None, :] - centres).square().sum(-1)  # squared
        squared, nearest = distances.topk(NEAREST, dim=-1, largest=False)
        weights = (squared / (-2 * SIGMA**2)).softmax(-1)
    return tuple(part.transpose(1, 2).unflatten(2, ab.shape[2:]) for part in (nearest, weights))


def colour_cross_entropy(logits: Tensor, ab: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy in nats, the mean over all places (equation 2, without v). With weights (B, h, w), v of equation 2,
    its gradient is that of the weighted mean: what is told stays comparable.

    logits: (B, Q, h, w). ab: (B, 2, h, w).
    """
    nearest, shares = soft_encode(ab)
    losses = -(logits.float().log_softmax(1).gather(1, nearest) * shares).sum(1)  # (B, h, w)
    loss = losses.mean()
    if weights is None:
        return loss
    weighted = (losses * weights).mean()
    return weighted + (loss - weighted).detach()


def rebalancing(prior: Tensor, share: float) -> Tensor:
    """Weights of the bins (Q,), larger for rare colours, with mean 1 under the prior (equation 4).

    prior: (Q,), how often each bin is met. share: lambda, of the uniform distribution that is mixed in; 1: all are 1.
    """
    weights = 1 / ((1 - share) * prior + share / len(prior))
    return weights / (prior * weights).sum()


def annealed_mean(logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The mean colour (B, 2, h, w) of distributions made sharper (equation 5): between their mean, at 1, and their
    mode, towards 0. logits: (B, Q, h, w)."""
    shares = (logits.float() / temperature).softmax(1)
    return torch.einsum("bqhw,qd->bdhw", shares, bins().to(logits.device))


@dataclass
class ColorizationOutput(ModelOutput):
    """loss: (), absent with `return_loss=False`. told: (B, Q, h, w) logits, or (B, 2, h, w). pooler_output: (B, D)."""

    loss: Tensor | None = None
    told: Tensor | None = None
    pooler_output: Tensor | None = None


class ColorizationModel(ImageEncoder):
    config_class = ColorizationConfig


class ColorizationForPreTraining(ImageForPreTraining):
    """Encoder f of lightness, and a decoder g of colours at some places."""

    config_class = ColorizationConfig

    def __init__(self, config: ColorizationConfig):
        super().__init__(config)
        self.classes = config.objective == "classes"
        self.decoder = Decoder(self.model, len(bins()) if self.classes else 2, stride=config.colour_stride)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, ab: Tensor, weights: Tensor | None = None, return_loss: bool = True
    ) -> ColorizationOutput:
        """pixel_values: (B, 1, H, W), lightness, normalised. ab: (B, 2, h, w). weights: (B, h, w), of the gradient of
        each place; they are not for a regression."""
        maps, pooled = self.model.maps_and_features(pixel_values)
        told = self.decoder(maps)
        if told.shape[2:] != ab.shape[2:]:
            told = interpolate(told.float(), ab.shape[2:], mode="bilinear", antialias=True)
        loss = None
        if return_loss and self.classes:
            loss = colour_cross_entropy(told, ab, weights)
        elif return_loss:
            loss = (told.float() - ab / SCALE).square().sum(1).mean() / 2  # equation 1
        return ColorizationOutput(loss=loss, told=told, pooler_output=pooled)

    def colours(self, told: Tensor) -> Tensor:
        """a and b (B, 2, h, w) of what was told."""
        return annealed_mean(told) if self.classes else told.float() * SCALE


__all__ = ["ColorizationForPreTraining", "ColorizationModel", "colour_cross_entropy"]
