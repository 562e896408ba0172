"""Colorization: Colorful Image Colorization (arXiv:1603.08511)."""

from hf_replearn.methods.trunk import register

from .configuration_colorization import ColorizationConfig
from .modeling_colorization import ColorizationForPreTraining, ColorizationModel, colour_cross_entropy

register(ColorizationConfig, ColorizationModel, ColorizationForPreTraining)

__all__ = ["ColorizationConfig", "ColorizationForPreTraining", "ColorizationModel", "colour_cross_entropy"]
