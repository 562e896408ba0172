"""Configuration of DCL (Yeh et al. 2022, arXiv:2110.06848)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class DCLConfig(ImageMethodConfig):
    """What rebuilds encoder f and projection head g, and the temperature of their loss.

    projection_dim:    width of z = g(h), the space of the loss (paper: 128).
    projection_layers: of g (paper: 2). Hidden layers are as wide as h.
    temperature:       tau of equation 6 (paper, on ImageNet: 0.1).
    """

    model_type = "dcl"

    projection_dim: int = 128
    projection_layers: int = 2
    temperature: float = 0.1


__all__ = ["DCLConfig"]
