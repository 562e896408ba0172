"""Configuration of LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class SIGRegConfig(ImageMethodConfig):
    """What rebuilds encoder f and projection head g, and the numbers of their loss.

    projection_hidden: width of the two hidden layers of g (authors' minimal example: 2048).
    projection_dim:    width of z = g(h), the space of the loss (authors: 16 to 128).
    weight:            lambda, the share of SIGReg in the loss; the rest is the agreement of the views (authors: 0.05,
                       0.02 in the minimal example).
    slices:            random directions a step on which the projections are compared with a Gaussian (authors: 1024;
                       256 in the minimal example).
    """

    model_type = "sigreg"

    projection_hidden: int = 2048
    projection_dim: int = 128
    weight: float = 0.05
    slices: int = 1024


__all__ = ["SIGRegConfig"]
