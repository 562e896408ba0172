"""CPC: Representation Learning with Contrastive Predictive Coding (arXiv:1807.03748; version 2: arXiv:1905.09272)."""

from hf_replearn.methods.trunk import register

from .configuration_cpc import CPCConfig
from .modeling_cpc import CPCForPreTraining, CPCModel, Direction, info_nce

register(CPCConfig, CPCModel, CPCForPreTraining)

__all__ = ["CPCConfig", "CPCForPreTraining", "CPCModel", "Direction", "info_nce"]
