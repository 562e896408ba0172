"""Images to augmented views (Chen et al. 2020, section 3 and appendix A).

B images, V views, C channels, H x W pixels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from hf_replearn import augmentation
from hf_replearn.data.decoding import stack_images
from hf_replearn.errors import InputError
from hf_replearn.randomness import Place

OVERSHOOT = 0.5  # of floats beyond 0 and 1, as sharp resizing makes it; more are of another scale, or normalised
POLICIES = {"imagenet": augmentation.simclr_imagenet, "cifar": augmentation.simclr_cifar}
CROPS = augmentation.crop_and_flip


@dataclass(frozen=True)
class DataCollatorForViews:
    """The worker's half decodes and stacks, as uint8; the training device's half draws and applies the augmentation.

    policy:    of hf_replearn.augmentation, with its settings; or `own_policy` of the user's own function.
    mean, std: of the encoder's input, per channel.
    canvas:    pixels of the square that images of different sizes are brought to; None when all have one size.
    labels:    whether the batch has the `labels` of the rows, for a method that uses them.
    compiled:  whether the policy's work on a GPU is compiled, once for each size of a batch.
    """

    policy: Callable[..., Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    canvas: int | None = None
    labels: bool = False
    compiled: bool = False

    def __call__(self, examples: list[dict]) -> dict[str, Tensor]:
        """Rows with an `image` -> pixel_values: (B, C, H, W) uint8; with a canvas also aspect: (B,) width / height;
        with labels also labels: (B,)."""
        pixels, aspect = stack_images(examples, canvas=self.canvas)
        batch = {"pixel_values": pixels} | ({"aspect": aspect} if self.canvas else {})
        return batch | ({"labels": torch.tensor([row["label"] for row in examples])} if self.labels else {})

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """pixel_values: (B, V, C, size, size), normalised; all their randomness is a function of `place`."""
        made = {"pixel_values": self.normalized(self.policy, batch, place.generator(), count=2)}
        return made | ({"labels": batch["labels"]} if self.labels else {})

    def normalized(self, policy, batch: dict[str, Tensor], generator: torch.Generator, *, count: int) -> Tensor:
        """(B, count, C, size, size): so many views of each image."""
        images, aspect = batch["pixel_values"], batch.get("aspect")
        views = policy(images, views=count, generator=generator, aspect=aspect, compiled=self.compiled)
        views = augmentation.normalize(views, self.mean, self.std).to(memory_format=torch.channels_last)
        return views.unflatten(0, (count, len(images))).transpose(0, 1)

    def draw_views(self, images: Tensor, aspect: Tensor | None, place: Place, *, count: int) -> Tensor:
        """For a picture, not normalised: (count * B, C, size, size), all first views before all second ones."""
        return self.policy(images, views=count, generator=place.generator(), aspect=aspect)

    def draw(self, rows, path: Path) -> None:
        """A picture of what the network sees: some images of the data, and views of each as this run draws them."""
        shown = min(6, len(rows))
        batch = self([rows[place * len(rows) // shown] for place in range(shown)])  # neighbours are often of one class
        images, aspect = batch["pixel_values"], batch.get("aspect")
        views = self.draw_views(images, aspect, Place(0, 0, 0, 0, 1), count=6)
        augmentation.draw_views(images, views, path, aspect=aspect)


def own_policy(augment: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A user's function of a batch of images, (B, C, H, W) uint8 -> (B, C, size, size) uint8 or float in 0...1, as a
    policy: it is called once for each view, never compiled. Its random numbers are torch's, which are set by the place
    in the run."""
    return partial(_own_views, augment)


def _own_views(augment: Callable, images: Tensor, *, views: int, generator: torch.Generator, **_) -> Tensor:
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        try:
            made = [augment(images) for _ in range(views)]
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise InputError(f"the augmentation fails on uint8 images {tuple(images.shape)}: {said}") from error
    for view in made:
        if not isinstance(view, Tensor) or view.ndim != 4 or len(view) != len(images):
            what = tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__
            raise InputError(f"the augmentation makes {what} of {len(images)} images, not ({len(images)}, C, H, W)")
        if view.dtype != torch.uint8 and not (view.min() > -OVERSHOOT and view.max() < 1 + OVERSHOOT):
            raise InputError(
                f"the augmentation makes levels from {view.min():.3g} to {view.max():.3g}: give uint8, or floats from "
                "0 to 1 that are not normalised, which is done afterwards with the encoder's mean and deviation"
            )
    return torch.cat([view / 255 if view.dtype == torch.uint8 else view.float() for view in made])
