"""VICReg: Variance-Invariance-Covariance Regularization (arXiv:2105.04906)."""

from hf_replearn.methods.trunk import register

from .configuration_vicreg import VICRegConfig
from .modeling_vicreg import VICRegForPreTraining, VICRegModel, vicreg

register(VICRegConfig, VICRegModel, VICRegForPreTraining)

__all__ = ["VICRegConfig", "VICRegForPreTraining", "VICRegModel", "vicreg"]
