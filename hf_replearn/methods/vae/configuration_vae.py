"""Configuration of the VAE and its family (Kingma and Welling 2014, arXiv:1312.6114)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class VAEConfig(ImageMethodConfig):
    """Encoder f, a Gaussian of latents for each image, and a decoder g.

    latents:    K, numbers of the code.
    image_size: pixels of a side of the images.
    likelihood: "bernoulli", of levels from 0 to 1; or "gaussian", with one learnt standard deviation.
    objective:  "beta": beta times the KL; "beta_tc": beta times its part that is the total correlation.
    beta:       that weight; 1 is the VAE.
    capacity:   nats; not None: in place of beta times the KL, gamma times its distance from so many nats.
    gamma:      see capacity.
    kl_warmup:  share of the run in which the weight of the KL, or the capacity, rises from 0.
    free_bits:  nats of each latent's KL, in the mean of a batch, below which it costs no less.
    """

    model_type = "vae"

    latents: int = 10
    image_size: int = 28
    likelihood: str = "bernoulli"
    objective: str = "beta"
    beta: float = 1.0
    capacity: float | None = None
    gamma: float = 1000.0
    kl_warmup: float = 0.0
    free_bits: float = 0.0


__all__ = ["VAEConfig"]
