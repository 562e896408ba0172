"""VAE (Kingma and Welling 2014), beta-VAE (Higgins et al. 2017; Burgess et al. 2018), beta-TCVAE (Chen et al. 2018)."""

from hf_replearn.methods.trunk import register

from .configuration_vae import VAEConfig
from .modeling_vae import VAEForPreTraining, VAEModel, kl_to_standard_normal, parts_of_kl

register(VAEConfig, VAEModel, VAEForPreTraining)

__all__ = ["VAEConfig", "VAEForPreTraining", "VAEModel", "kl_to_standard_normal", "parts_of_kl"]
