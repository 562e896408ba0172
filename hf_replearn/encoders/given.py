"""Encoders that are handed over as objects: a module with its preprocessing, or a function of images, texts or
sounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm.data
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BatchFeature

from hf_replearn.data.decoding import picture_as
from hf_replearn.data.sounds import read_wave


class Examples(list):
    """Images, texts or sounds as they are: what a function gets that does its own preprocessing."""

    def to(self, device: torch.device) -> Examples:
        return self


@dataclass(frozen=True)
class ImagesGiven:
    """Rows with an `image` -> the transforms of their PIL images, stacked; without a transform a list of the images.

    Images of other than 1 or 3 channels are arrays (H, W, C), uint8.
    """

    transform: Callable[[Image.Image], Tensor] | None = None

    def __call__(self, examples: Sequence[dict]) -> Any:
        images = [picture_as(row) for row in examples]
        if self.transform is None:
            return Examples(images)
        return _batch([self.transform(image) for image in images])


@dataclass(frozen=True)
class TextsGiven:
    """Rows with a `text` -> what the user's function makes of the list of them; without one that list."""

    transform: Callable[[list[str]], Any] | None = None

    def __call__(self, examples: Sequence[dict]) -> Any:
        if "text_pair" in examples[0]:
            raise TypeError("it takes single texts, and these are pairs")
        texts = Examples(row["text"] for row in examples)
        if self.transform is None:
            return texts
        made = self.transform(list(texts))
        return BatchFeature(made) if isinstance(made, dict) else made  # which can be moved to a device


@dataclass(frozen=True)
class SoundsGiven:
    """Rows with an `audio` -> what the user's function makes of the list of their samples, arrays (T,) of float32 in
    -1...1; without one that list."""

    transform: Callable[[list[np.ndarray]], Any] | None = None

    def __call__(self, examples: Sequence[dict]) -> Any:
        waves = Examples(read_wave(row["audio"]) for row in examples)
        if self.transform is None:
            return waves
        made = self.transform(list(waves))
        return BatchFeature(made) if isinstance(made, dict) else made


def _batch(made: list[Any]) -> Any:
    """Tensors (C, H, W), or mappings of such, as a batch."""
    if isinstance(made[0], Mapping):
        return BatchFeature({name: torch.stack([one[name] for one in made]) for name in made[0]})
    if not isinstance(made[0], Tensor):
        raise TypeError(f"its preprocessing makes a {type(made[0]).__name__} of an image, not a tensor (C, H, W)")
    return torch.stack(made)


class _Given(nn.Module):
    """The user's module or function: mappings are its keywords, and what it gives becomes a tensor."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function
        self.training = getattr(function, "training", False)  # as it was found: who evaluates it sets it back to this

    def forward(self, batch: Any) -> Any:
        found = self.function(**batch) if isinstance(batch, Mapping) else self.function(batch)
        if isinstance(found, Tensor) or not isinstance(found, np.ndarray | list | tuple):
            return found
        return torch.from_numpy(np.asarray(found, dtype=np.float32))


def as_network(function: Callable[..., Any]) -> nn.Module:
    """A module that takes what ImagesGiven and TextsGiven make of rows."""
    return _Given(function)


def timm_transform(module: nn.Module) -> Callable[[Image.Image], Tensor] | None:
    """The preprocessing that timm knows for the weights of a network of its own; None of others."""
    if not isinstance(getattr(module, "pretrained_cfg", None), dict):
        return None
    return timm.data.create_transform(**timm.data.resolve_model_data_config(module))
