"""BYOL: Bootstrap Your Own Latent, A New Approach to Self-Supervised Learning (arXiv:2006.07733)."""

from hf_replearn.methods.trunk import register

from .configuration_byol import BYOLConfig
from .modeling_byol import BYOLForPreTraining, BYOLModel, byol

register(BYOLConfig, BYOLModel, BYOLForPreTraining)

__all__ = ["BYOLConfig", "BYOLForPreTraining", "BYOLModel", "byol"]
