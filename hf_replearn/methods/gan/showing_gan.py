"""How near generated images are to real ones, how much of its latents the encoder tells, and pictures of both.

B images, K latents
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from hf_replearn.evaluation.frechet import RandomFeatures, frechet_distance
from hf_replearn.evaluation.reconstruction import principal_components
from hf_replearn.methods.codes import Codes
from hf_replearn.methods.showing_codes import images_of, trained_on
from hf_replearn.sharing.drawn import draw_lines
from hf_replearn.sharing.report import OwnTask

SAMPLES, NEAREST, BETWEEN, VIDEO, ENCODED = (
    "samples.png", "nearest_training_images.png", "interpolation.png", "walk.gif", "encoded.png",
)  # fmt: skip
DISTANCE, TOLD = "Fréchet distance", "share of latents told"
COMPONENTS, MOST, TOGETHER = 64, 2000, 128  # of the Gaussian; images compared at most; images in one pass
STEPS, FRAMES, SHOWN = 9, 12, 10  # of an interpolation in the picture, and in the video; images of a line


class Judging(nn.Module):
    """The last layer of the discriminator before its score: images (B, C, S, S), normalised -> (B, F)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        config = self.model.config
        mean, std = (pixel_values.new_tensor(values).view(-1, 1, 1) for values in (config.mean, config.std))
        return self.model.discriminator.features(2 * (pixel_values * std + mean) - 1)


def codes(model: nn.Module) -> dict[str, nn.Module]:
    """What else is judged: the latents that the encoder tells of an image, and what the discriminator makes of it."""
    return {f"its code ({model.config.latents})": Codes(model), "its discriminator": Judging(model)}


def drawn_latents(model: nn.Module, count: int, *, seed: int = 0) -> Tensor:
    """Always the same, (count, K)."""
    return torch.randn(count, model.config.latents, generator=torch.Generator().manual_seed(seed)).to(model.device)


def generated(model: nn.Module, latents: Tensor) -> Tensor:
    """Levels of the images that the kept generator makes, on the CPU."""
    return torch.cat([model.decode(part).float().cpu() for part in latents.split(TOGETHER)])


def own_task(model: nn.Module, batches) -> OwnTask:
    """The Fréchet distance of generated images to images held out, beside those of as many training images and of as
    many samples of a Gaussian; and how much of the latents of generated images the encoder tells."""
    count = min(len(batches), len(batches.learnt), MOST)
    network = RandomFeatures(model.channels)
    real = network.of(images_of(batches))[:count]
    latents = drawn_latents(model, count)
    made = generated(model, latents)
    sets = {
        "this run": made,
        "training images": torch.cat(list(trained_on(batches, most=count))),
        f"Gaussian of PCA ({COMPONENTS})": gaussian(batches, count),
    }
    rows = {name: {DISTANCE: frechet_distance(network.of(part.split(TOGETHER)), real)} for name, part in sets.items()}
    read = torch.cat([model.codes(model.normalised(part.to(model.device))) for part in made.split(TOGETHER)])
    rows["this run"][TOLD] = 1 - ((read - latents).square().mean() / latents.var()).item()
    return OwnTask(
        told=f"How near are {count:,} generated images to real ones? Fréchet distance in 64 features of a "
        "convolutional network with random weights, always the same; it depends on the number of images, and is no "
        "FID. As many training images are what it can at best be, and images drawn from a Gaussian with the mean and "
        f"the principal components of the training images are what it has to beat. The {TOLD} is that of the variance "
        "of these generated images' latents which the encoder tells.",
        rows=rows,
        smaller=[DISTANCE],
    )


def gaussian(batches, count: int) -> Tensor:
    """Samples of the Gaussian with the training images' mean and first components, as levels (count, C, S, S)."""
    known, shape = principal_components(trained_on(batches, most=10_000), COMPONENTS), batches.few(1)["levels"].shape
    drawn = torch.randn(
        count, len(known.variances), generator=torch.Generator().manual_seed(0), dtype=known.variances.dtype
    )
    samples = known.mean + (drawn * known.variances.sqrt()) @ known.axes.T
    return samples.float().unflatten(1, shape[1:]).clamp(0, 1)


def on_the_arc(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """So many from one latent to the other, both included, (B, K), (B, K) -> (B, steps, K): along the arc between
    them, where they are as long as those that were drawn; on the line they would be shorter (White 2016,
    arXiv:1609.04468)."""
    share = torch.linspace(0, 1, steps, device=first.device).view(1, steps, 1)
    angle = cosine_similarity(first, last).clamp(-1, 1).acos().view(-1, 1, 1).clamp(min=1e-4)
    weights = ((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()
    return weights[0] * first[:, None] + weights[1] * last[:, None]


def nearest_trained(images: Tensor, batches) -> Tensor:
    """Of each image (B, C, S, S), levels, the training image whose pixels are nearest to it."""
    least, found = torch.full((len(images),), math.inf), torch.zeros_like(images)
    for batch in trained_on(batches):
        distance, place = torch.cdist(images.flatten(1), batch.flatten(1)).min(1)
        nearer = distance < least
        least = torch.where(nearer, distance, least)
        found[nearer] = batch[place[nearer]]
    return found


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Samples, the training images nearest to some, what lies between latents, and real images told and made again."""
    samples = generated(model, drawn_latents(model, 64, seed=1))
    draw_lines(
        [("generated" if not line else "", samples[line * 8 : line * 8 + 8]) for line in range(8)], folder / SAMPLES
    )
    some = samples[:SHOWN]
    draw_lines([("generated", some), ("nearest training image", nearest_trained(some, batches))], folder / NEAREST)
    between(model, folder)
    few = batches.few(SHOWN)
    again = generated(model, model.codes(few["pixel_values"]))
    draw_lines([("image", few["levels"]), ("generated of its code", again)], folder / ENCODED)
    return {
        SAMPLES: "Images that the generator makes of random latents; none are picked.",
        NEAREST: "Generated images, and below each the training image whose pixels are nearest to it: were they the "
        "same, it would have learnt images by heart.",
        BETWEEN: "From the latents of one generated image to those of another, along the arc between them.",
        VIDEO: "The same as a video, from one generated image to the next, and back to the first.",
        ENCODED: "Real images, which the encoder has not learnt from, and what the generator makes of the latents that "
        "it tells of them.",
    }


def between(model: nn.Module, folder: Path) -> None:
    """What is generated of the latents between two, as a picture and as a video."""
    ends = drawn_latents(model, 6, seed=2)
    arcs = on_the_arc(ends, ends.roll(-1, 0), STEPS)
    draw_lines([("", generated(model, arc)) for arc in arcs[:5]], folder / BETWEEN)
    frames = generated(model, on_the_arc(ends, ends.roll(-1, 0), FRAMES + 1)[:, :-1].flatten(0, 1))
    size = max(1, 192 // frames.shape[-1])
    frames = (interpolate(frames, scale_factor=size) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    frames = frames[..., :3] if frames.shape[-1] > 2 else frames[..., :1].expand(*frames.shape[:3], 3)
    first, *others = (Image.fromarray(frame.numpy()) for frame in frames)
    first.save(folder / VIDEO, save_all=True, append_images=others, duration=80, loop=0)
