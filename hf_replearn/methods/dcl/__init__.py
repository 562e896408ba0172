"""DCL: Decoupled Contrastive Learning (arXiv:2110.06848)."""

from hf_replearn.methods.trunk import register

from .configuration_dcl import DCLConfig
from .modeling_dcl import DCLForPreTraining, DCLModel, dcl

register(DCLConfig, DCLModel, DCLForPreTraining)

__all__ = ["DCLConfig", "DCLForPreTraining", "DCLModel", "dcl"]
