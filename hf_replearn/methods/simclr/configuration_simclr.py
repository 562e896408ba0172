"""Configuration of SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class SimCLRConfig(ImageMethodConfig):
    """What rebuilds the weights of encoder f and projection head g, and the temperature of their loss.

    projection_dim:    width of z = g(h), the space of the loss (paper: 128).
    projection_layers: 2 in the paper, 3 in SimCLR v2 (arXiv:2006.10029). Hidden layers are as wide as h.
    temperature:       tau of equation 1 (paper: 0.1 on ImageNet, 0.5 on CIFAR-10).
    """

    model_type = "simclr"

    projection_dim: int = 128
    projection_layers: int = 2
    temperature: float = 0.1

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.temperature < 0.025:  # exp((cosine - 1) / temperature) must stay above the smallest float32
            raise ValueError(f"temperature must be at least 0.025, got {self.temperature}")


__all__ = ["SimCLRConfig"]
