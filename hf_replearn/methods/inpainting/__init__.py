"""Inpainting: Context Encoders: Feature Learning by Inpainting (arXiv:1604.07379)."""

from hf_replearn.methods.trunk import register

from .configuration_inpainting import InpaintingConfig
from .modeling_inpainting import InpaintingForPreTraining, InpaintingModel, error_of_filled

register(InpaintingConfig, InpaintingModel, InpaintingForPreTraining)

__all__ = ["InpaintingConfig", "InpaintingForPreTraining", "InpaintingModel", "error_of_filled"]
