"""DINO: Emerging Properties in Self-Supervised Vision Transformers (arXiv:2104.14294)."""

from hf_replearn.methods.trunk import register

from .configuration_dino import DINOConfig
from .modeling_dino import DINOForPreTraining, DINOModel, centred, dino, sinkhorn

register(DINOConfig, DINOModel, DINOForPreTraining)

__all__ = ["DINOConfig", "DINOForPreTraining", "DINOModel", "centred", "dino", "sinkhorn"]
