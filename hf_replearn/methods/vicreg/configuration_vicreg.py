"""Configuration of VICReg (Bardes et al. 2022, arXiv:2105.04906)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class VICRegConfig(ImageMethodConfig):
    """What rebuilds encoder f and projection head g, and the weights of the three terms of their loss.

    projection_dim:    width of z = g(h) and of the two hidden layers of g (paper: 8192; wider is better).
    invariance, variance, covariance: lambda, mu and nu of equation 6 (paper: 25, 25, 1).
    """

    model_type = "vicreg"

    projection_dim: int = 8192
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0


__all__ = ["VICRegConfig"]
