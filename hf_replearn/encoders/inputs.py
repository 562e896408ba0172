"""Rows of a dataset -> the batch of a transformers model, by the processor of its own checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import Wav2Vec2FeatureExtractor

from hf_replearn.data.colours import lightness
from hf_replearn.data.decoding import centre_crop, picture_as, without_far_ends
from hf_replearn.data.sounds import read_wave

MOST = 2**19  # samples of a sound that it is judged by, at most: 33 s at 16 kHz
TOGETHER = 2**20  # samples that go through an encoder at a time, where nothing is trained


@dataclass(frozen=True)
class SoundInputs:
    """Rows with an `audio` -> what the feature extractor of a transformers model makes of the first `MOST` samples of
    each: input_values and attention_mask (B, T), padded to the longest."""

    processor: Any

    def __call__(self, rows: Sequence[dict]):
        waves = [read_wave(row["audio"], 0, MOST) for row in rows]
        about = {"sampling_rate": self.processor.sampling_rate, "return_attention_mask": True}
        return self.processor(waves, padding=True, return_tensors="pt", **about)


def feature_extractor(rate: int) -> Wav2Vec2FeatureExtractor:
    """What makes inputs of arrays of samples in -1...1: it pads, and leaves loudness as it is."""
    return Wav2Vec2FeatureExtractor(sampling_rate=rate, do_normalize=False, return_attention_mask=True)


def sounds_at_once(rows: Dataset) -> int:
    """How many of rows with `samples` go through an encoder at a time."""
    return max(1, min(256, TOGETHER // min(max(rows["samples"][:]), MOST)))


@dataclass(frozen=True)
class ProcessorInputs:
    """Rows of labelled texts or images -> the batch of a transformers model, by the processor of its checkpoint.

    processor:   a tokenizer or an image processor.
    max_length:  tokens kept of a text or pair; a batch is padded to its longest. token_types: whether the model knows
                 first and second texts apart; generic tokenizers would give these to models that misread them.
    channels:    of images, that the network takes.
    trained_at:  the `image_size` and `crop_pct` by which images are brought to their size before the processor, which
                 only repeats pixels, gets them: of a ResNet for small images (`sharing/export.py`). None: no such step.
    lightness:   whether pictures, of whose colours `channels` are read, become their lightness alone.
    lowercase:   whether capitals are lost. prompt: what stands before each (first) text.
    start:       the token that begins an image, of a network that reads colours by number and learnt to tell each from
                 those before it; the last colour, of which nothing was told, is then left out. None: of all others.
    Returns input_ids and attention_mask (B, T) or pixel_values (B, C, H, W), and `labels` (B,).
    """

    processor: Any
    max_length: int | None = None
    token_types: bool = False
    lowercase: bool = False
    prompt: str = ""
    channels: int = 3
    trained_at: dict | None = None
    start: int | None = None
    lightness: bool = False

    def __call__(self, examples: Sequence[dict]):
        if "image" in examples[0]:
            pictures = [picture_as(row, self.channels) for row in examples]
            pictures = list(map(lightness, pictures)) if self.lightness else pictures
            batch = self._pictures([at_size(picture, self.trained_at) for picture in pictures])
            if self.start is not None:
                batch["input_ids"] = torch.nn.functional.pad(batch["input_ids"][:, :-1], (1, 0), value=self.start)
        else:
            batch = self.processor(
                *self._segments(examples),
                truncation=True,
                max_length=self.max_length,
                padding=True,
                return_token_type_ids=self.token_types,
                return_tensors="pt",
            )
        if not isinstance(examples[0].get("label", []), list):  # several labels each are no target of these networks
            batch["labels"] = torch.tensor([row["label"] for row in examples])
        return batch

    def _pictures(self, pictures: list[Any]) -> Any:
        """pixel_values: (B, C, H, W) of RGB images, greys, or arrays of other channels."""
        if isinstance(pictures[0], Image.Image):
            return self.processor(list(map(without_far_ends, pictures)), return_tensors="pt")
        tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in pictures]
        if "timm" not in type(self.processor).__name__.lower():
            return self.processor(tensors, return_tensors="pt", input_data_format="channels_first")
        found = [self.processor(tensor.float() / 255, return_tensors="pt") for tensor in tensors]  # one at a time
        found[0]["pixel_values"] = torch.cat([batch["pixel_values"] for batch in found])
        return found[0]

    def contents(self) -> str:
        """All that the batches depend on besides the rows: two tokenizers of one name, or size, may differ."""
        if hasattr(self.processor, "backend_tokenizer"):
            known = json.loads(self.processor.backend_tokenizer.to_str())
            known |= {"truncation": None, "padding": None}  # of the last call
        elif hasattr(self.processor, "get_vocab"):
            known = sorted(self.processor.get_vocab().items())
        else:
            known = self.processor.to_dict()
        about = (self.max_length, self.token_types, self.lowercase, self.prompt, self.channels, self.trained_at)
        about += (self.start,) if self.start is not None else ()
        return f"{known} {self.processor!r} {about}" + " of their lightness" * self.lightness

    def _segments(self, examples: Sequence[dict]) -> list[list[str]]:
        """The texts, or the first and the second ones.

        Where the tokenizer adds nothing, end-of-text stands between the two, and in the place of a text without words.
        """
        columns = [[row[name] for row in examples] for name in ("text", "text_pair") if name in examples[0]]
        columns[0] = [self.prompt + text for text in columns[0]]
        if self.lowercase:
            columns = [[text.lower() for text in texts] for texts in columns]
        end = self.processor.eos_token
        if end is None or self.processor.num_special_tokens_to_add(pair=False):
            return columns
        return [[end.join(texts).strip() or end for texts in zip(*columns, strict=True)]]


def at_size(picture: Image.Image | np.ndarray, trained_at: dict | None) -> Image.Image | np.ndarray:
    """The middle of a picture, or of an array (H, W, C), at the size of training; as it is where none is told."""
    if trained_at is None:
        return picture
    crop = partial(centre_crop, size=trained_at["image_size"], crop_pct=trained_at["crop_pct"])
    if isinstance(picture, Image.Image):
        return Image.fromarray(crop(picture).permute(1, 2, 0).numpy().squeeze())
    return np.dstack([crop(Image.fromarray(band))[0].numpy() for band in picture.transpose(2, 0, 1)])
