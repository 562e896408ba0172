"""Configuration of SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class SimCLRConfig(PreTrainedConfig):
    """What rebuilds the weights of encoder f and projection head g, and the temperature of their loss.

    backbone:          name of a timm architecture.
    backbone_args:     further keyword arguments of `timm.create_model`, e.g. {"img_size": 64, "patch_size": 8}.
    stem:              "cifar" replaces the 7x7 stride-2 convolution of a ResNet by a 3x3 stride-1 one and drops the
                       max pooling (paper, appendix B.9), for images of about 32 pixels.
    projection_dim:    width of z = g(h), the space of the loss (paper: 128).
    projection_layers: 2 in the paper, 3 in SimCLR v2 (arXiv:2006.10029). Hidden layers are as wide as h.
    temperature:       tau of equation 1 (paper: 0.1 on ImageNet, 0.5 on CIFAR-10).
    """

    model_type = "simclr"

    backbone: str = "resnet50"
    backbone_args: dict | None = None
    stem: Literal["imagenet", "cifar"] = "imagenet"
    projection_dim: int = 128
    projection_layers: int = 2
    temperature: float = 0.1

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.temperature < 0.025:  # exp((cosine - 1) / temperature) must stay above the smallest float32
            raise ValueError(f"temperature must be at least 0.025, got {self.temperature}")
        self.auto_map = {
            "AutoConfig": "configuration_simclr.SimCLRConfig",
            "AutoModel": "modeling_simclr.SimCLRModel",
            "AutoModelForPreTraining": "modeling_simclr.SimCLRForPreTraining",
        }


__all__ = ["SimCLRConfig"]
