"""MAE: Masked Autoencoders Are Scalable Vision Learners (arXiv:2111.06377)."""

from hf_replearn.methods.trunk import register

from .configuration_mae import MAEConfig
from .modeling_mae import MAEForPreTraining, MAEModel, masked_error, targets

register(MAEConfig, MAEModel, MAEForPreTraining)

__all__ = ["MAEConfig", "MAEForPreTraining", "MAEModel", "masked_error", "targets"]
