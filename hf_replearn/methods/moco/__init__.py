"""MoCo: Momentum Contrast, version 2 (arXiv:2003.04297, arXiv:1911.05722) and version 3 (arXiv:2104.02057)."""

from hf_replearn.methods.trunk import register

from .configuration_moco import MoCoConfig
from .modeling_moco import MoCoForPreTraining, MoCoModel, moco_v2, moco_v3

register(MoCoConfig, MoCoModel, MoCoForPreTraining)

__all__ = ["MoCoConfig", "MoCoForPreTraining", "MoCoModel", "moco_v2", "moco_v3"]
