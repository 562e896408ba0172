"""Autoencoders, linear, convolutional and denoising (Hinton and Salakhutdinov 2006; Vincent et al. 2010)."""

from hf_replearn.methods.trunk import register

from .configuration_autoencoder import AutoencoderConfig
from .modeling_autoencoder import AutoencoderForPreTraining, AutoencoderModel, reconstruction_error

register(AutoencoderConfig, AutoencoderModel, AutoencoderForPreTraining)

__all__ = ["AutoencoderConfig", "AutoencoderForPreTraining", "AutoencoderModel", "reconstruction_error"]
