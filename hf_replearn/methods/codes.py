"""What methods share that make a code of an image, from which a decoder makes the image again. It travels with the
weights, as the trunk does.

B images, C channels, S x S pixels, D features, K numbers of a code
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import Decoder, Dense, ImageEncoder, ImageForPreTraining, ImageMethodConfig


class CodeDecoder(nn.Sequential):
    """g: codes to what is said of each pixel, (B, K) -> (B, C, S, S). The encoder's layers, the other way round.

    Of a dense encoder these are dense layers; of others a linear map to its last feature maps, whose places then are
    doubled until they are pixels (`Decoder`).
    """

    def __init__(self, encoder: ImageEncoder, code: int, *, channels: int, size: int):
        network = encoder.encoder
        if isinstance(network, Dense):
            widths, modules = [code, *reversed(network.widths)], []
            for before, width in zip(widths, widths[1:], strict=False):
                modules += [nn.Linear(before, width), nn.ReLU()]
            modules += [nn.Linear(widths[-1], channels * size**2), nn.Unflatten(1, (channels, size, size))]
        else:
            side = -(-size // encoder.stride)
            modules = [nn.Linear(code, encoder.map_features * side**2), nn.ReLU()]
            modules += [nn.Unflatten(1, (encoder.map_features, side, side))]
            modules += [Decoder(encoder, channels, stride=1, least=16), Cut(size)]
        super().__init__(*modules)


class Cut(nn.Module):
    """The middle S x S of maps that are larger, where an image is no whole number of strides wide."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        top, left = ((side - self.size) // 2 for side in maps.shape[2:])
        return maps[:, :, top : top + self.size, left : left + self.size]


class CodeForPreTraining(ImageForPreTraining):
    """Encoder f, a code of its last layer, and a decoder of the code.

    The code is read from all places of the last feature maps, which tell where things are; the features D, by which f
    is judged, are their mean as ever. Of a network without maps it is read from the features.

    A method has `codes` and `decode`, by which an image is made of numbers, and images are mixed (`hf_replearn.decode`,
    `hf_replearn.interpolate`); its configuration `image_size`.
    """

    def __init__(self, config: ImageMethodConfig):
        super().__init__(config)
        self.channels = (config.backbone_args or {}).get("in_chans", 3)

    @property
    def read_features(self) -> int:
        """How many numbers the code is read from."""
        if isinstance(self.model.encoder, Dense):
            return self.model.features
        with torch.no_grad():
            size, was_training = self.config.image_size, self.model.training
            self.model.eval()
            weight = next(self.model.parameters())
            image = torch.zeros(1, self.channels, size, size, device=weight.device, dtype=weight.dtype)
            found = self.model.maps(image).flatten(1).shape[1]
            self.model.train(was_training)
        return found

    def read(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """What the code is read from (B, …), and the features (B, D), of images (B, C, S, S), normalised."""
        if isinstance(self.model.encoder, Dense):
            pooled = self.model(pixel_values).pooler_output
            return pooled, pooled
        maps, pooled = self.model.maps_and_features(pixel_values)
        return maps.flatten(1), pooled

    def codes(self, pixel_values: Tensor) -> Tensor:
        """The code (B, K) of images (B, C, S, S), normalised."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """The image of each code: (B, K) -> (B, C, S, S), levels from 0 to 1."""
        raise NotImplementedError


class Codes(nn.Module):
    """The codes of a model as an encoder of their own: (B, C, S, S), normalised -> (B, K)."""

    def __init__(self, model: CodeForPreTraining):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model.codes(pixel_values)


__all__ = ["CodeDecoder", "CodeForPreTraining", "Codes", "Cut"]
