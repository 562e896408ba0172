"""Configuration of colorization (Zhang et al. 2016, arXiv:1603.08511)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class ColorizationConfig(ImageMethodConfig):
    """Encoder f of one channel, and a convolutional decoder g.

    objective:     "classes", a distribution over bins of colours; or "regression", the colour itself, by squared error.
    colour_stride: pixels, in a row, of each place whose colour is told.
    """

    model_type = "colorization"

    objective: str = "classes"
    colour_stride: int = 4


__all__ = ["ColorizationConfig"]
