"""Inpainting (Pathak et al. 2016, arXiv:1604.07379): what is in the part of an image that is hidden?

With the reconstruction loss alone, by which the paper learns its features; its adversarial loss, for sharper pictures,
is left out, and so is the layer that connects all places within a channel: the encoders of today see the whole image
from each place.

B images of this process, C channels, H x W pixels
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d
from transformers.utils import ModelOutput

from hf_replearn.methods.trunk import Decoder, ImageEncoder, ImageForPreTraining

from .configuration_inpainting import InpaintingConfig


def error_of_filled(told: Tensor, images: Tensor, hidden: Tensor, *, overlap: int, overlap_weight: float) -> Tensor:
    """Mean squared error of the hidden pixels and, weighted, of a border of so many pixels around them (equation 1 and
    section 4.1), in float32. All others do not count. It is the mean over images of each one's, however large its hole,
    so that the mean of several processes is that of one with all images.

    told, images: (B, C, H, W). hidden: (B, 1, H, W), 1 where nothing was seen, else 0.
    """
    hidden = hidden.float()
    border = max_pool2d(hidden, 2 * overlap + 1, stride=1, padding=overlap) - hidden
    weights = hidden + overlap_weight * border
    errors = (told.float() - images.float()).square().mean(1, keepdim=True)
    return ((weights * errors).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1)).mean()


@dataclass
class InpaintingOutput(ModelOutput):
    """loss: (), absent with `return_loss=False`. told: (B, C, H, W), the whole image. pooler_output: (B, D)."""

    loss: Tensor | None = None
    told: Tensor | None = None
    pooler_output: Tensor | None = None


class InpaintingModel(ImageEncoder):
    config_class = InpaintingConfig


class InpaintingForPreTraining(ImageForPreTraining):
    """Encoder f of what is seen, and a decoder g of the image."""

    config_class = InpaintingConfig

    def __init__(self, config: InpaintingConfig):
        super().__init__(config)
        channels = (config.backbone_args or {}).get("in_chans", 3)
        self.decoder = Decoder(self.model, channels, stride=1)
        self.post_init()

    def forward(self, pixel_values: Tensor, hidden: Tensor, return_loss: bool = True) -> InpaintingOutput:
        """pixel_values: (B, C, H, W), normalised. hidden: (B, 1, H, W) bool; the encoder gets 0 there, the mean colour
        of the normalisation (section 3.3)."""
        maps, pooled = self.model.maps_and_features(torch.where(hidden, 0.0, pixel_values))
        told = self.decoder(maps)
        if told.shape[2:] != pixel_values.shape[2:]:
            told = interpolate(told.float(), pixel_values.shape[2:], mode="bilinear")
        loss = None
        if return_loss:
            about = {"overlap": self.config.overlap, "overlap_weight": self.config.overlap_weight}
            loss = error_of_filled(told, pixel_values, hidden, **about)
        return InpaintingOutput(loss=loss, told=told, pooler_output=pooled)


__all__ = ["InpaintingForPreTraining", "InpaintingModel", "error_of_filled"]
