"""Anybody's encoder as one object: what the rest of the house asks of it.

B examples, D features, N rows
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModel

from hf_replearn.encoders.given import ImagesGiven, SoundsGiven, TextsGiven, as_network, timm_transform
from hf_replearn.encoders.inputs import ProcessorInputs, SoundInputs
from hf_replearn.encoders.load import (
    channels_read,
    choose_length,
    load_extractor,
    load_network,
    load_processor,
    uses_token_types,
)
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.encoders.sentence_modules import read_sentence_modules
from hf_replearn.encoders.trial import try_encoder
from hf_replearn.encoders.words import is_words, read_words
from hf_replearn.errors import InputError

SHOWN = 8  # layers that are named one by one
Modality = Literal["image", "text", "sound"]
Pooled = Literal["mean", "cls", "last"]


@dataclass
class Encoder:
    """Rows with an `image`, a `text` or an `audio` -> one vector each: `network(preprocess(rows))` is (B, D), in
    evaluation mode.

    named:      what messages begin with, such as "--model out/bert".
    source:     the folder or Hub id it is from; None of what was handed over as an object.
    pooling:    in words: "mean", "cls, Dense", "its own".
    config:     of the transformers network; None of other objects.
    max_length: tokens kept of a text.
    comparable: whether weights, configuration and preprocessing say all that its features depend on, so that these may
                be kept and found again; of a function, or a module of the user's own, they do not.
    After `try_on`, `layers` names those that the network gives beside one another, the last one last, `widths` has
    the D of each, and `input_shape` is (C, H, W) of the images as the network gets them.
    """

    named: str
    modality: Modality
    network: nn.Module
    preprocess: Callable[[Sequence[dict]], Any]
    pooling: str = "its own"
    source: str | None = None
    config: Any = None
    max_length: int | None = None
    comparable: bool = True
    layers: list[str] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    input_shape: tuple[int, int, int] | None = None

    def try_on(self, rows: Any) -> Encoder:
        """Itself, after one real batch: see `try_encoder`, whose InputError says what is wrong with the encoder."""
        training = self.network.training
        features = try_encoder(self.network, rows, preprocess=self.preprocess, named=self.named)
        self.network.train(training and self.source is None)  # the user's own module is left as it was found
        self.layers = list(getattr(self.network, "names", [])) or ["last"]
        self.widths = list(getattr(self.network, "widths", [])) or [features.shape[1]]
        if self.modality == "image":
            batch = self.preprocess([rows[0]])
            pixels = batch.get("pixel_values") if isinstance(batch, Mapping) else batch
            self.input_shape = tuple(pixels.shape[1:]) if isinstance(pixels, torch.Tensor) else None
        return self

    def find_layer(self, asked: int | str) -> int:
        """The place of a layer among `layers`, by its number (from 0) or name, or "last". Raises InputError."""
        if asked in ("last", *self.layers):
            return len(self.layers) - 1 if asked == "last" else self.layers.index(asked)
        if str(asked).isdecimal() and int(asked) < len(self.layers):
            return int(asked)
        raise InputError(f"{self.named} has no layer {asked!r}: there are {self.layers_in_words()}")

    def layers_in_words(self) -> str:
        """Which number is which layer."""
        told = [f"{number} {name}" for number, name in enumerate(self.layers)]
        return ", ".join(told if len(told) <= SHOWN else [*told[:2], "…", told[-1]])

    def untrained(self) -> Encoder:
        """The same network from random weights, under the same preprocessing. Only of a checkpoint."""
        network = load_network(AutoModel, self.source, self.config, pretrained=False)
        pooling = Pooling(network, how=self.network.how, all_layers=self.network.all_layers)
        return replace(self, named=f"{self.source} from random weights", network=pooling, layers=[], widths=[])

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def find_encoder(
    given: Any,
    *,
    modality: Modality,
    named: str | None = None,
    pooling: Pooled | None = None,
    all_layers: bool = False,
    max_length: int | None = None,
) -> Encoder:
    """The encoder that somebody means by `given`; it has not been tried.

    given: - a folder or Hub id: transformers (an encoder of images, texts or sounds, the encoder of an encoder-decoder,
             one of two towers), timm, sentence-transformers; or vectors of words, a folder or a text file, whose mean
             is that of a text;
           - a module and its preprocessing, (module, preprocess): of images the transform of one PIL image, which gives
             a tensor (C, H, W), as torchvision and timm have it; of texts a function of a list of them that gives the
             module's input, a tensor or a mapping of keywords, and of sounds one of a list of arrays (T,), float32 in
             -1...1. It gives (B, D);
           - a timm network by itself, whose preprocessing is timm's for its weights;
           - a function of a list of PIL images, texts or sounds that gives (B, D): a tensor, an array or lists.
    named: what messages begin with.
    pooling: of the tokens of a text; None: as a folder for sentence-transformers says, else "mean". One that is given
             takes the place of all that the folder says.
    max_length: tokens kept of a text; None: as such a folder says, else 128, or what the network takes.

    Raises InputError for all else, and for modules without parameters: there is nothing in them that was learnt.
    """
    if isinstance(given, str | os.PathLike):
        about = {"pooling": pooling, "all_layers": all_layers, "max_length": max_length}
        if is_words(given):
            return mean_of_words(os.fspath(given), modality=modality, named=named, **about)
        return read_checkpoint(os.fspath(given), modality=modality, named=named, **about)
    named = named or f"the encoder {type(given[0] if isinstance(given, tuple) and given else given).__name__}"
    function, transform = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if not callable(function) or not (transform is None or callable(transform)):
        raise InputError(
            f"{named} is no encoder: give a folder, a Hub id, (module, preprocess), or a function of a list of "
            f"{modality}s"
        )
    if isinstance(function, nn.Module):
        if not any(True for _ in function.parameters()):
            raise InputError(
                f"{named} is a module without parameters: nothing in it was learnt; what only computes is given as a "
                f"function of a list of {modality}s"
            )
        if transform is None and modality == "image":
            transform = timm_transform(function)
        if transform is None:
            raise InputError(
                f"{named} is a module without its preprocessing: give (module, preprocess), or a function of a list of "
                f"{modality}s that gives one vector each"
            )
    inputs = {"image": ImagesGiven, "text": TextsGiven, "sound": SoundsGiven}[modality](transform)
    return Encoder(named, modality, as_network(function), inputs, comparable=False)


def mean_of_words(place: str, *, modality: Modality, named: str | None = None, **asked: Any) -> Encoder:
    """Vectors of words as an encoder of texts, see `WordVectors.encode`."""
    named = named or f"--model {place}"
    if modality != "text":
        raise InputError(f"{named} holds vectors of words, and these are {modality}s")
    if given := [name for name, value in asked.items() if value]:
        what = "all_layers" if given[0] == "all_layers" else f"{given[0]} {asked[given[0]]}"
        raise InputError(f"{named} holds vectors of words, whose mean is that of a text: it has no {what}")
    words = read_words(place)
    pooling = "mean of words"
    if words.ngrams is not None:
        pooling += f", unknown ones by their parts of {words.ngrams.subwords} characters"
    return Encoder(named, "text", as_network(words.encode), TextsGiven(None), pooling=pooling, comparable=False)


def read_inputs(
    checkpoint: str, *, modality: Modality, max_length: int | None = None, **changes: Any
) -> tuple[Any, ProcessorInputs | SoundInputs]:
    """The configuration of the encoder in a checkpoint, with changes, and what makes its batches of rows."""
    if modality == "sound":
        config, extractor = load_extractor(checkpoint, **changes)
        return config, SoundInputs(extractor)
    config, processor = load_processor(checkpoint, images=modality == "image", **changes)
    if modality == "image":
        about = {name: getattr(config, name, default) for name, default in (("trained_at", None), ("lightness", False))}
        about["start"] = config.vocab_size - 1 if config.model_type == "imagegpt" else None
        return config, ProcessorInputs(processor, channels=channels_read(config), **about)
    length = choose_length(max_length, config, processor)
    return config, ProcessorInputs(processor, length, token_types=uses_token_types(config))


def read_checkpoint(
    checkpoint: str,
    *,
    modality: Modality,
    named: str | None = None,
    pooling: Pooled | None = None,
    all_layers: bool = False,
    max_length: int | None = None,
) -> Encoder:
    """`find_encoder` of a folder or Hub id."""
    named = named or f"--model {checkpoint}"
    config, inputs = read_inputs(checkpoint, modality=modality, max_length=max_length)
    if modality != "text":
        network = Pooling(load_network(AutoModel, checkpoint, config), all_layers=all_layers)
        return Encoder(named, modality, network, inputs, source=checkpoint, config=config)
    modules = read_sentence_modules(checkpoint) if pooling is None else None
    how, after = pooling or "mean", None
    if modules is not None:
        how, after, processor = modules.pooling, modules.after, inputs.processor
        length = choose_length(max_length, config, processor, usual=modules.max_length or processor.model_max_length)
        inputs = replace(inputs, max_length=length, lowercase=modules.lowercase, prompt=modules.prompt)
    network = Pooling(load_network(AutoModel, checkpoint, config), how=how, all_layers=all_layers, after=after)
    told = "its own" if network.own else modules.in_words() if modules is not None else how
    about = {"source": checkpoint, "config": config, "max_length": inputs.max_length}
    return Encoder(named, "text", network, inputs, pooling=told, **about)


def name_of(given: Any) -> str:
    """What an encoder is called where its user has not said it: the last part of a folder, a Hub id, a class."""
    if isinstance(given, str | os.PathLike):
        return Path(given).resolve().name if Path(given).exists() else os.fspath(given)
    return type(given[0] if isinstance(given, tuple) else given).__name__
