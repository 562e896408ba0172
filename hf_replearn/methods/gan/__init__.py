"""A GAN with the loss of R3GAN (Huang et al. 2024, arXiv:2501.05441), and an encoder of what it generates."""

from hf_replearn.methods.trunk import register

from .configuration_gan import GANConfig
from .modeling_gan import GANForPreTraining, GANModel, gradient_penalty, relativistic_losses

register(GANConfig, GANModel, GANForPreTraining)

__all__ = ["GANConfig", "GANForPreTraining", "GANModel", "gradient_penalty", "relativistic_losses"]
