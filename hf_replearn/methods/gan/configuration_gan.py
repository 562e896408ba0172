"""Configuration of a generative adversarial network (Huang et al. 2024, arXiv:2501.05441) with an encoder beside it."""

from dataclasses import field

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class GANConfig(ImageMethodConfig):
    """Generator, discriminator, and an encoder f of what was generated.

    latents:    numbers of which an image is generated.
    width:      channels of both networks where they have as many places as the image pixels; they double each time that
                the places are halved, up to eight times as many.
    gamma:      of R1 and R2, the squared gradients of the discriminator at real and at generated images; of images
                with levels from -1 to 1.
    ema:        decay of the running mean of the generator, which is the one that is kept.
    image_size: pixels of a side: a multiple of the power of two that makes it 4 to 7 places.
    mean, std:  of f's input, per channel.
    """

    model_type = "gan"

    latents: int = 64
    width: int = 32
    gamma: float = 0.1
    ema: float = 0.999
    image_size: int = 32
    mean: list[float] | tuple[float, ...] = field(default_factory=lambda: [0.5])
    std: list[float] | tuple[float, ...] = field(default_factory=lambda: [0.5])


__all__ = ["GANConfig"]
