"""Configuration of SimSiam (Chen and He 2021, arXiv:2011.10566)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class SimSiamConfig(ImageMethodConfig):
    """What rebuilds encoder f, projection head g and predictor.

    projection_dim:    width of z = g(h) and of the hidden layers of g (paper: 2048).
    projection_layers: of g (paper: 3; 2 on CIFAR-10).
    predictor_hidden:  width of the predictor's one hidden layer, narrower than z (paper: 512).
    """

    model_type = "simsiam"

    projection_dim: int = 2048
    projection_layers: int = 3
    predictor_hidden: int = 512


__all__ = ["SimSiamConfig"]
