"""Configuration of inpainting (Pathak et al. 2016, arXiv:1604.07379)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class InpaintingConfig(ImageMethodConfig):
    """Encoder f and a convolutional decoder g.

    overlap:        pixels around what is hidden that are to be told too, so that what is filled in fits its border.
    overlap_weight: of their error, in units of that of hidden pixels.
    """

    model_type = "inpainting"

    overlap: int = 7
    overlap_weight: float = 10.0


__all__ = ["InpaintingConfig"]
