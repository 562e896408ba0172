"""Configuration of the autoencoder (Hinton and Salakhutdinov 2006)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class AutoencoderConfig(ImageMethodConfig):
    """Encoder f, its code, and a decoder g.

    code:       numbers of the code.
    image_size: pixels of a side of the images.
    linear:     f is one linear map to the code, and g one back.
    tied:       of a linear one, whether g is f transposed.
    l2:         of a linear one, times the sum of squares of both maps, in the loss.
    """

    model_type = "autoencoder"

    code: int = 32
    image_size: int = 28
    linear: bool = False
    tied: bool = False
    l2: float = 0.0


__all__ = ["AutoencoderConfig"]
