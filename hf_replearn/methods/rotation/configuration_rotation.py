"""Configuration of rotation (Gidaris et al. 2018, arXiv:1803.07728)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class RotationConfig(ImageMethodConfig):
    """Encoder f, and a head g that is one linear layer to four classes: nothing else is to be said."""

    model_type = "rotation"


__all__ = ["RotationConfig"]
