"""Configuration of prototypical networks (Snell et al. 2017, arXiv:1703.05175)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class ProtoNetConfig(ImageMethodConfig):
    """shots: images of each class of an episode that its prototype is the mean of; the others are asked for."""

    model_type = "protonet"

    recipe: str = "episodes"
    shots: int = 1


__all__ = ["ProtoNetConfig"]
