"""SupCon: Supervised Contrastive Learning (arXiv:2004.11362)."""

from hf_replearn.methods.trunk import register

from .configuration_supcon import SupConConfig
from .modeling_supcon import SupConForPreTraining, SupConModel, supcon

register(SupConConfig, SupConModel, SupConForPreTraining)

__all__ = ["SupConConfig", "SupConForPreTraining", "SupConModel", "supcon"]
