"""Rotation: Unsupervised Representation Learning by Predicting Image Rotations (arXiv:1803.07728)."""

from hf_replearn.methods.trunk import register

from .configuration_rotation import RotationConfig
from .modeling_rotation import RotationForPreTraining, RotationModel, rotation

register(RotationConfig, RotationModel, RotationForPreTraining)

__all__ = ["RotationConfig", "RotationForPreTraining", "RotationModel", "rotation"]
