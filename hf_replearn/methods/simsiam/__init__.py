"""SimSiam: Exploring Simple Siamese Representation Learning (arXiv:2011.10566)."""

from hf_replearn.methods.trunk import register

from .configuration_simsiam import SimSiamConfig
from .modeling_simsiam import SimSiamForPreTraining, SimSiamModel, simsiam

register(SimSiamConfig, SimSiamModel, SimSiamForPreTraining)

__all__ = ["SimSiamConfig", "SimSiamForPreTraining", "SimSiamModel", "simsiam"]
