"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (arXiv:2002.05709)."""

from hf_replearn.methods.trunk import register

from .configuration_simclr import SimCLRConfig
from .modeling_simclr import SimCLRForPreTraining, SimCLRModel, nt_xent

register(SimCLRConfig, SimCLRModel, SimCLRForPreTraining)

__all__ = ["SimCLRConfig", "SimCLRForPreTraining", "SimCLRModel", "nt_xent"]
