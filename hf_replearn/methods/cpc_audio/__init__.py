"""CPC on sounds: Representation Learning with Contrastive Predictive Coding (arXiv:1807.03748), section 3.1."""

from hf_replearn.methods import trunk

from .configuration_cpc_audio import CPCAudioConfig
from .modeling_cpc_audio import CPCAudioForPreTraining, CPCAudioModel

trunk.register(CPCAudioConfig, CPCAudioModel, CPCAudioForPreTraining)

__all__ = ["CPCAudioConfig", "CPCAudioForPreTraining", "CPCAudioModel"]
