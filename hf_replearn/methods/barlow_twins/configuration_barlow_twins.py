"""Configuration of Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class BarlowTwinsConfig(ImageMethodConfig):
    """What rebuilds encoder f and projection head g, and the weights of their loss.

    projection_dim:    width of z = g(h) and of the two hidden layers of g (paper: 8192; wider is better).
    redundancy:        lambda of equation 1, the weight of each correlation of two features (paper: 0.0051).
    loss_scale:        a factor on the loss. LARS's steps for matrices do not feel it, those for norms do: 0.024 is
                       the share of their rate that the authors give norms and biases (0.0048 of 0.2).
    """

    model_type = "barlow_twins"

    projection_dim: int = 8192
    redundancy: float = 0.0051
    loss_scale: float = 0.024


__all__ = ["BarlowTwinsConfig"]
