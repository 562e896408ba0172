"""A generative adversarial network: G makes images of random numbers, and D tells them from real ones.

The loss is R3GAN's (Huang et al. 2024, arXiv:2501.05441): D compares a real with a generated image (Jolicoeur-Martineau
2018), and its gradient is penalised at both (R1 and R2). As there, networks are residual and have no normalisation, and
their last convolutions start at zero. They are smaller here: plain convolutions where the paper's are in groups.

Both take their steps at once, from the same generated images, with an optimizer that keeps the gradients and moments of
each parameter apart. The gradient of G's loss does not reach D, nor that of D's loss G.

The encoder f tells of a generated image the numbers that it was generated of, the latent regressor that Donahue et al.
(2017, arXiv:1605.09782) compare with their BiGAN. It is no BiGAN, whose encoder learns from real images too, by a
discriminator of pairs: here f never learns from a real image.

B images of this process, C channels, S x S pixels, K latents, D features
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, leaky_relu, softplus
from transformers.utils import ModelOutput

from hf_replearn.methods.codes import CodeForPreTraining
from hf_replearn.methods.trunk import ImageEncoder

from .configuration_gan import GANConfig

SLOPE, GAIN = 0.2, math.sqrt(2 / (1 + 0.2**2))  # of the leaky ReLU, and what keeps variances the same through it


def relativistic_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """What D and what G are to make small, () each, from D's scores (B,) of real and of generated images: the mean of
    softplus(fake - real), and of softplus(real - fake). ln 2 where D knows nothing."""
    apart = (real - fake).float()
    return softplus(-apart).mean(), softplus(apart).mean()


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """The mean over images of ||d score / d image||² (Mescheder et al. 2018), (), whose own gradient is known.

    scores: (B,), each of its image alone. images: (B, C, S, S), which require a gradient.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean()


def halvings(size: int) -> int:
    """How often S is halved until 4 to 7 are left. Raises ValueError where that is no whole number."""
    times = max(0, int(math.log2(size / 4)))
    if size % 2**times:
        below = size // 2**times * 2**times
        raise ValueError(f"{size} pixels cannot be halved {times} times, {below} or {below + 2**times} can")
    return times


def convolution(before: int, after: int, kernel: int, *, gain: float = 1.0, bias: bool = True) -> nn.Conv2d:
    """One that keeps variances, times `gain`², of inputs that are independent."""
    layer = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(before * kernel**2))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Block(nn.Module):
    """x + what two convolutions make of it, which is nothing at the start."""

    def __init__(self, width: int):
        super().__init__()
        self.first = convolution(width, width, 3, gain=GAIN)
        self.last = convolution(width, width, 3, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(leaky_relu(self.first(leaky_relu(x, SLOPE)), SLOPE))


def widths_of(config: GANConfig) -> list[int]:
    """Channels, from the fewest places to as many as the image has pixels."""
    return [config.width * 2 ** min(times, 3) for times in range(halvings(config.image_size), -1, -1)]


class Generator(nn.Module):
    """G: (B, K) -> images (B, C, S, S), black at -1 and white at 1, of which some may lie beyond."""

    def __init__(self, config: GANConfig, channels: int):
        super().__init__()
        widths, self.side = widths_of(config), config.image_size // 2 ** halvings(config.image_size)
        self.start = nn.Linear(config.latents, widths[0] * self.side**2)
        nn.init.normal_(self.start.weight, std=1 / math.sqrt(config.latents))
        nn.init.zeros_(self.start.bias)
        self.blocks = nn.ModuleList(Block(width) for width in widths)
        self.widen = nn.ModuleList(
            convolution(before, after, 1, bias=False) for before, after in zip(widths, widths[1:], strict=False)
        )
        self.colours = convolution(widths[-1], channels, 1, gain=0.1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.start(latents).unflatten(1, (-1, self.side, self.side))
        for place, block in enumerate(self.blocks):
            if place:
                x = interpolate(self.widen[place - 1](x), scale_factor=2, mode="bilinear")
            x = block(x)
        return self.colours(x)


class Discriminator(nn.Module):
    """D: images (B, C, S, S), black at -1 and white at 1 -> scores (B,); high for real ones. Its last layer starts at
    zero: it then knows nothing."""

    def __init__(self, config: GANConfig, channels: int):
        super().__init__()
        widths = widths_of(config)[::-1]
        self.colours = convolution(channels, widths[0], 1)
        self.blocks = nn.ModuleList(Block(width) for width in widths)
        self.widen = nn.ModuleList(
            convolution(before, after, 1, bias=False) for before, after in zip(widths, widths[1:], strict=False)
        )
        side = config.image_size // 2 ** halvings(config.image_size)
        self.together = convolution(widths[-1], widths[-1], side, gain=GAIN)
        self.together.padding = (0, 0)
        self.score = nn.Linear(widths[-1], 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def features(self, images: Tensor) -> Tensor:
        """What the score is read from, (B, …)."""
        x = self.colours(images)
        for place, block in enumerate(self.blocks):
            if place:
                x = self.widen[place - 1](interpolate(x, scale_factor=0.5, mode="bilinear"))
            x = block(x)
        return leaky_relu(self.together(leaky_relu(x, SLOPE)).flatten(1), SLOPE)

    def forward(self, images: Tensor) -> Tensor:
        return self.score(self.features(images))[:, 0]


@dataclass
class GANOutput(ModelOutput):
    """loss: (), the sum of the three others, which touch no parameter in common; absent with `return_loss=False`.
    discriminator_loss, with R1 and R2; generator_loss; encoder_loss, () each. pooler_output: (B, D), of real images.
    """

    loss: Tensor | None = None
    discriminator_loss: Tensor | None = None
    generator_loss: Tensor | None = None
    encoder_loss: Tensor | None = None
    pooler_output: Tensor | None = None


class GANModel(ImageEncoder):
    config_class = GANConfig


class GANForPreTraining(CodeForPreTraining):
    """Generator and discriminator under R3GAN's loss, and an encoder f that tells latents of generated images."""

    config_class = GANConfig
    needs_whole_weights = True  # for the gradients of gradients, while the loss is computed

    def __init__(self, config: GANConfig):
        super().__init__(config)
        self.generator = Generator(config, self.channels)
        self.discriminator = Discriminator(config, self.channels)
        self.kept_generator = copy.deepcopy(self.generator).requires_grad_(False)
        self.code = nn.Linear(self.read_features, config.latents)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))  # of the kept generator
        self.post_init()

    def codes(self, pixel_values: Tensor) -> Tensor:
        """The latents (B, K) that f tells of images (B, C, S, S), normalised."""
        return self.code(self.read(pixel_values)[0])

    def decode(self, codes: Tensor) -> Tensor:
        """The image that is generated of each code: (B, K) -> (B, C, S, S), levels from 0 to 1."""
        return self.levels(self.kept_generator(codes))

    @staticmethod
    def levels(images: Tensor) -> Tensor:
        """Of images that are black at -1 and white at 1, levels from 0 to 1."""
        return ((images + 1) / 2).clamp(0, 1)

    def normalised(self, levels: Tensor) -> Tensor:
        """Levels (B, C, S, S) as f takes them."""
        mean, std = (
            list(values) * (levels.shape[1] // len(values)) for values in (self.config.mean, self.config.std)
        )  # one for all channels, or one each
        channels = zip(levels.unbind(1), mean, std, strict=True)
        return torch.stack([(level - m) / s for level, m, s in channels], 1)  # no tensor goes to a GPU

    def forward(
        self,
        pixel_values: Tensor,
        levels: Tensor | None = None,
        latents: Tensor | None = None,
        return_loss: bool = True,
    ) -> GANOutput:
        """pixel_values: (B, C, S, S), real images, normalised. levels: the same, from 0 to 1. latents: (B, K),
        normal."""
        if not return_loss:
            return GANOutput(pooler_output=self.model(pixel_values).pooler_output)
        with torch.autocast(pixel_values.device.type, enabled=False):  # gradients of gradients need float32
            of_discriminator, of_generator = self.adversarial_losses(2 * levels.float() - 1, latents.float())
        with torch.no_grad():
            made = self.normalised(self.decode(latents.float()))
        maps, pooled = self.read(made)
        of_encoder = (self.code(maps).float() - latents).square().mean()
        return GANOutput(
            loss=of_discriminator + of_generator + of_encoder,
            discriminator_loss=of_discriminator.detach(),
            generator_loss=of_generator.detach(),
            encoder_loss=of_encoder.detach(),
            pooler_output=pooled,
        )

    def adversarial_losses(self, real: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of D, with R1 and R2, and that of G, () each. real: (B, C, S, S), black at -1 and white at 1."""
        with torch.enable_grad():
            made = self.generator(latents)
            seen = real.detach().requires_grad_(), made.detach().requires_grad_()
            scores = [self.discriminator(images) for images in seen]
            penalty = sum(gradient_penalty(*pair) for pair in zip(scores, seen, strict=True))
            of_discriminator = relativistic_losses(*scores)[0] + self.config.gamma / 2 * penalty
            fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            against = functional_call(self.discriminator, fixed, (made,))
            return of_discriminator, relativistic_losses(scores[0].detach(), against)[1]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """kept = decay * kept + (1 - decay) * generator; the decay rises to that of the configuration, or the mean
        would long be one of what the generator was at the start. Buffers, of which none are averaged, are copied."""
        self.updates += 1
        decay = (self.updates / (self.updates + 9)).clamp(max=self.config.ema).float()
        for kept, leading in zip(self.kept_generator.parameters(), self.generator.parameters(), strict=True):
            kept.lerp_(leading, 1 - decay)
        for kept, leading in zip(self.kept_generator.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(leading)


__all__ = ["GANForPreTraining", "GANModel", "gradient_penalty", "relativistic_losses"]
