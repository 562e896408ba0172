"""Autoencoder (Hinton and Salakhutdinov 2006, doi:10.1126/science.1127647): an image is made again of a few numbers.

Where f sees a noisy image and is to make the clean one, it is a denoising autoencoder (Vincent et al. 2010). Where f
and g are linear, it finds the principal components (Baldi and Hornik 1989).

B images of this process, C channels, S x S pixels, K numbers of a code
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from hf_replearn.methods.codes import CodeDecoder, CodeForPreTraining
from hf_replearn.methods.trunk import ImageEncoder

from .configuration_autoencoder import AutoencoderConfig


def reconstruction_error(told: Tensor, levels: Tensor) -> Tensor:
    """||x - g(f(x))||², summed over the pixels and channels of an image, its mean over images, in float32.

    told, levels: (B, C, S, S).
    """
    return (told.float() - levels.float()).square().flatten(1).sum(1).mean()


@dataclass
class AutoencoderOutput(ModelOutput):
    """loss: (), absent with `return_loss=False`. told: (B, C, S, S), levels. code: (B, K). pooler_output: (B, D)."""

    loss: Tensor | None = None
    told: Tensor | None = None
    code: Tensor | None = None
    pooler_output: Tensor | None = None


class AutoencoderModel(ImageEncoder):
    config_class = AutoencoderConfig


class Transposed(nn.Module):
    """g of a tied linear autoencoder: the matrix of f, transposed, and an offset of its own."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels * size**2))
        self.shape = (channels, size, size)

    def forward(self, codes: Tensor, weight: Tensor) -> Tensor:
        return (codes @ weight + self.bias).unflatten(1, self.shape)


class AutoencoderForPreTraining(CodeForPreTraining):
    """Encoder f, its code and a decoder g under the squared error of what g makes of the code."""

    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig):
        super().__init__(config)
        about = {"channels": self.channels, "size": config.image_size}
        if config.linear:  # the features are the code
            self.code = nn.Identity()
            self.decoder = Transposed(**about) if config.tied else linear_decoder(config.code, **about)
        else:
            self.code = nn.Linear(self.read_features, config.code)
            self.decoder = CodeDecoder(self.model, config.code, **about)
        self.post_init()

    def codes(self, pixel_values: Tensor) -> Tensor:
        """The code (B, K) of images (B, C, S, S), normalised."""
        return self.code(self.read(pixel_values)[0])

    def made(self, codes: Tensor) -> Tensor:
        """What g makes of codes (B, K): levels (B, C, S, S), of which some may lie beyond 0 or 1."""
        return self.decoder(codes, self.matrices[0]) if self.config.tied else self.decoder(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """The image of each code: (B, K) -> (B, C, S, S), levels from 0 to 1."""
        return self.made(codes).clamp(0, 1)

    @property
    def matrices(self) -> tuple[Tensor, Tensor]:
        """Of a linear one the matrices of f (K, C S S) and g (C S S, K)."""
        encoder = self.model.encoder.layers[1].weight
        return encoder, encoder.T if self.config.tied else self.decoder[0].weight

    def forward(
        self, pixel_values: Tensor, levels: Tensor | None = None, return_loss: bool = True
    ) -> AutoencoderOutput:
        """pixel_values: (B, C, S, S), normalised, maybe noisy. levels: (B, C, S, S), what is to be made, from 0 to
        1."""
        read, pooled = self.read(pixel_values)
        code = self.code(read)
        told, loss = self.made(code), None
        if return_loss:
            loss = reconstruction_error(told, levels)
            if self.config.l2:
                loss = loss + self.config.l2 * sum(map.float().square().sum() for map in self.matrices)
        return AutoencoderOutput(loss=loss, told=told, code=code, pooler_output=pooled)


def linear_decoder(code: int, *, channels: int, size: int) -> nn.Sequential:
    """g of a linear autoencoder whose maps are two."""
    return nn.Sequential(nn.Linear(code, channels * size**2), nn.Unflatten(1, (channels, size, size)))


__all__ = ["AutoencoderForPreTraining", "AutoencoderModel", "reconstruction_error"]
