"""Adapting to an episode by gradients: MAML and its first order (arXiv:1703.03400), ANIL (arXiv:1909.09157), Reptile
(arXiv:1803.02999)."""

from hf_replearn.methods.trunk import register

from .configuration_maml import MAMLConfig
from .modeling_maml import MAMLForPreTraining, MAMLModel, normalised_by

register(MAMLConfig, MAMLModel, MAMLForPreTraining)

__all__ = ["MAMLConfig", "MAMLForPreTraining", "MAMLModel", "normalised_by"]
