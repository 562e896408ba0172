"""Configuration of SupCon (Khosla et al. 2020, arXiv:2004.11362)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class SupConConfig(ImageMethodConfig):
    """What rebuilds encoder f and projection head g, and the temperature of their loss.

    projection_hidden: width of the one hidden layer of g (paper: 2048).
    projection_dim:    width of z = g(h), the space of the loss (paper: 128).
    temperature:       tau of equation 2 (paper: 0.1).
    """

    model_type = "supcon"

    projection_hidden: int = 2048
    projection_dim: int = 128
    temperature: float = 0.1


__all__ = ["SupConConfig"]
