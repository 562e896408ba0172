"""VAE (Kingma and Welling 2014, arXiv:1312.6114) and its family: an encoder gives each image a Gaussian of latents z, a
decoder tells the image from a draw.

All numbers are nats of an image: summed over its pixels and channels, the mean over images; a loss that is the mean
over pixels besides a KL that is summed over latents would weigh the KL hundreds of times.

B images of this process, C channels, S x S pixels, K latents, N images to learn from
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers.utils import ModelOutput

from hf_replearn.methods.codes import CodeDecoder, CodeForPreTraining
from hf_replearn.methods.trunk import ImageEncoder

from .configuration_vae import VAEConfig

LOG_TAU = math.log(2 * math.pi)
FARTHEST = (-30.0, 20.0)  # of logarithms of variances: beyond, a step too large makes them infinite


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent: (B, K), nats (appendix B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


def log_normal(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """The logarithm of the density of each number, nats."""
    return -0.5 * (LOG_TAU + logvar + (z - mean).square() * (-logvar).exp())


def parts_of_kl(z: Tensor, mean: Tensor, logvar: Tensor, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information of images and latents, total correlation, and the KL of single latents (Chen et al. 2018,
    equation 2), estimated from draws z (B, K) of the Gaussians (B, K) of a batch: three of (), nats. They add up to the
    KL of these draws.

    The density of all latents together, q(z), is a mean over the N = `images` of the data, of which there is a batch:
    by minibatch-stratified sampling (appendix C.2) z's own image weighs 1 / N, which it does in q(z), and each of the
    B - 1 others its share of the rest, (N - 1) / (N (B - 1)). In the paper one of these others, whichever is last, has
    another weight than they; this is the mean over which of them it is: as unbiased, and of less variance. With all
    images as the batch it is exact.
    """
    batch = len(z)
    log_each = log_normal(z[:, None], mean[None], logvar[None])  # (B, B, K): of draw i under image j
    others = math.log((images - 1) / (images * (batch - 1)))
    own = torch.eye(batch, device=z.device, dtype=z.dtype)
    weights = others - own * (math.log(images) + others)  # (B, B), of float64 where z is
    log_qz = (log_each.sum(2) + weights).logsumexp(1)
    log_qz_each = (log_each + weights[..., None]).logsumexp(1).sum(1)
    log_qz_of_image = log_normal(z, mean, logvar).sum(1)
    log_prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)
    information = (log_qz_of_image - log_qz).mean()
    return information, (log_qz - log_qz_each).mean(), (log_qz_each - log_prior).mean()


def bernoulli_nats(logits: Tensor, levels: Tensor) -> Tensor:
    """-log p(x|z) of each image (B,): the cross entropy of grey levels from 0 to 1, which is 0 for no grey level but
    black and white (its least is their entropy)."""
    nats = binary_cross_entropy_with_logits(logits.float(), levels.float(), reduction="none")
    return nats.flatten(1).sum(1)


def gaussian_nats(told: Tensor, levels: Tensor, log_sigma: Tensor) -> Tensor:
    """-log p(x|z) of each image (B,), with one standard deviation for all pixels (Rybkin et al. 2021,
    arXiv:2006.13202). The squared error alone would be one of 1 / sqrt 2."""
    return -log_normal(levels.float(), told.float(), 2 * log_sigma.float()).flatten(1).sum(1)


@dataclass
class VAEOutput(ModelOutput):
    """loss: (), nats, absent with `return_loss=False`. mean, logvar: (B, K), of the latents. nats: (B,), -log p(x|z).
    pooler_output: (B, D)."""

    loss: Tensor | None = None
    mean: Tensor | None = None
    logvar: Tensor | None = None
    nats: Tensor | None = None
    pooler_output: Tensor | None = None


class VAEModel(ImageEncoder):
    config_class = VAEConfig


class VAEForPreTraining(CodeForPreTraining):
    """Encoder f, the Gaussian of its latents and a decoder g under the negative evidence lower bound, or what its
    configuration makes of it. The code of an image is the mean of its latents."""

    config_class = VAEConfig

    def __init__(self, config: VAEConfig):
        super().__init__(config)
        read = self.read_features
        self.mean, self.logvar = nn.Linear(read, config.latents), nn.Linear(read, config.latents)
        self.decoder = CodeDecoder(self.model, config.latents, channels=self.channels, size=config.image_size)
        if config.likelihood == "gaussian":
            self.log_sigma = nn.Parameter(torch.tensor(math.log(0.2)))
        self.register_buffer("progress", torch.zeros(()))  # share of the run that is done
        self.post_init()

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.progress.fill_(progress)

    def latents(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and logarithm of the variance (B, K) of the latents of images (B, C, S, S), normalised, in float32; and
        the features (B, D)."""
        read, pooled = self.read(pixel_values)
        return self.mean(read).float(), self.logvar(read).float().clamp(*FARTHEST), pooled

    def codes(self, pixel_values: Tensor) -> Tensor:
        """The mean of the latents (B, K) of images (B, C, S, S), normalised."""
        return self.mean(self.read(pixel_values)[0])

    def decode(self, codes: Tensor) -> Tensor:
        """The mean image of each code: (B, K) -> (B, C, S, S), levels from 0 to 1."""
        told = self.decoder(codes)
        return told.sigmoid() if self.config.likelihood == "bernoulli" else told.clamp(0, 1)

    def nats(self, z: Tensor, levels: Tensor) -> Tensor:
        """-log p(x|z) of each image (B,)."""
        told = self.decoder(z)
        if self.config.likelihood == "bernoulli":
            return bernoulli_nats(told, levels)
        return gaussian_nats(told, levels, self.log_sigma)

    def forward(
        self,
        pixel_values: Tensor,
        levels: Tensor,
        noise: Tensor,
        images: int | None = None,
        return_loss: bool = True,
    ) -> VAEOutput:
        """pixel_values: (B, C, S, S), normalised. levels: the same from 0 to 1. noise: (B, K), standard normal, by
        which latents are drawn. images: N, for the objective "beta_tc"; None: these are all."""
        mean, logvar, pooled = self.latents(pixel_values)
        z = mean + (0.5 * logvar).exp() * noise
        nats = self.nats(z, levels)
        loss = nats.mean() + self.price(z, mean, logvar, images or len(z)) if return_loss else None
        return VAEOutput(loss=loss, mean=mean, logvar=logvar, nats=nats, pooler_output=pooled)

    def price(self, z: Tensor, mean: Tensor, logvar: Tensor, images: int) -> Tensor:
        """What is added to the nats of the image: the KL in the VAE. ()"""
        config = self.config
        of_latents = kl_to_standard_normal(mean, logvar).mean(0)  # (K,)
        kl = of_latents.clamp(min=config.free_bits).sum() if config.free_bits else of_latents.sum()
        risen = (self.progress / config.kl_warmup).clamp(max=1) if config.kl_warmup else 1.0
        if config.capacity is not None:  # Burgess et al. 2018, equation 8
            return config.gamma * (kl - risen * config.capacity).abs()
        if config.objective == "beta_tc":  # mutual information + beta * total correlation + KL of single latents
            return risen * (kl + (config.beta - 1) * parts_of_kl(z, mean, logvar, images)[1])
        return risen * config.beta * kl


__all__ = ["VAEForPreTraining", "VAEModel", "bernoulli_nats", "gaussian_nats", "kl_to_standard_normal", "parts_of_kl"]
