"""Who is judged side by side: encoders by folder, Hub id or as objects, features of the user's own, and the baselines
that they must beat."""

from __future__ import annotations

import glob
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from torch import nn
from transformers import set_seed

from hf_replearn.data.decoding import RGB
from hf_replearn.data.scan import scan
from hf_replearn.encoders.encoder import Encoder, find_encoder, name_of
from hf_replearn.encoders.inputs import SoundInputs, feature_extractor, sounds_at_once
from hf_replearn.encoders.words import is_words, read_words
from hf_replearn.errors import InputError
from hf_replearn.evaluation.examples import Examples
from hf_replearn.evaluation.own_features import OwnFeatures, read_features
from hf_replearn.evaluation.sentences import directions, weighted_mean_of_words, whitening, word_overlap
from hf_replearn.evaluation.spectra import SPECTRA, MelSpectrum
from hf_replearn.representation import (
    Features,
    ImagePreprocessor,
    extract,
    extract_once,
    labels_of,
    pca,
    split_layers,
    tfidf,
)

CONFIG = "config.json"  # of a folder that holds an encoder
WHITENED_ON, WHITENED_WIDTH = 20_000, 256  # sentences, and numbers of a vector, at most
Layers = list[tuple[Features, Features]]  # of each layer those of both parts


@dataclass(frozen=True)
class Contestant:
    """One row of the report.

    represent: both parts of the examples -> ([their features] of each layer, facts for the report).
    asked:     whether the user named it; else it is a baseline.
    shared:    whether every process computes its part; else the first computes all.
    checkpoint, pretrained: of a network that can be fine-tuned, and whether it starts from the checkpoint's weights.
    """

    represent: Callable[..., tuple[Layers, dict[str, str]]]
    asked: bool = False
    shared: bool = False
    checkpoint: str | None = None
    pretrained: bool = True


@dataclass
class Asked:
    """Whom the user wants judged.

    given:    row of the report -> `OwnFeatures`, or whatever `find_encoder` takes.
    optional: rows of --runs: one that cannot be judged on these examples is left out.
    left_out: what is not judged and why, a line each.
    """

    given: dict[str, Any]
    optional: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def asked_for(settings: Any) -> Asked:
    """Those that --model, --features and --runs name. Raises InputError where there is none, or one is named twice."""
    if not (settings.model or settings.features or settings.runs):
        raise InputError("--model is required: a folder or Hub id of an encoder; or give --runs or --features")
    asked = Asked({})
    for name, several in (("model", settings.model), ("features", settings.features)):
        for path in several:
            if several.count(path) > 1:
                raise InputError(f"--{name} {path} is given twice")
    for model in settings.model:
        asked.given[_free(name_of(model), model, asked.given)] = model
    for run in _runs(settings, asked.left_out):
        if run not in settings.model:
            row = _free(name_of(run), run, asked.given)
            asked.given[row] = run
            asked.optional.add(row)
    for path in settings.features:
        row = _free(Path(path).stem, path, asked.given)
        asked.given[row] = read_features(path, named=f"--features {path}")
    return asked


def _free(name: str, whole: str, taken: Container[str]) -> str:
    """The short name of an encoder, or the whole one where another has it."""
    return whole if name in taken else name


def _runs(settings: Any, left_out: list[str]) -> list[str]:
    """The folders that hold an encoder: those of --runs, which may be patterns, or, of one that holds none, in it."""
    places, found = settings.runs, []
    for place in places:
        paths = sorted(glob.glob(place)) if glob.has_magic(place) and not Path(place).exists() else [place]
        if not paths or not Path(paths[0]).exists():
            raise InputError(f"--runs {place}: there is no such folder")
        if len(places) == len(paths) == 1 and not Path(place, CONFIG).is_file():
            paths = sorted(map(str, Path(place).iterdir())) if Path(place).is_dir() else paths
        found += paths
    found = [path for path in dict.fromkeys(found) if Path(path).resolve() != Path(settings.output_dir).resolve()]
    runs = [path for path in found if Path(path, CONFIG).is_file()]
    left_out += [f"{path}: it holds no encoder ({CONFIG})" for path in found if path not in runs]
    if places and not runs:
        raise InputError(f"--runs {' '.join(places)[:80]}: no folder there holds an encoder ({CONFIG})")
    return runs


def find_contestants(settings: Any, examples: Examples, asked: Asked) -> dict[str, Contestant]:
    """Row of the report -> who is judged, the user's encoders first. Whatever is wrong with one is found out here.

    settings: of `evaluate`. Raises InputError; a run that is optional goes to `asked.left_out` instead.
    """
    found, checkpoints, encoders = {}, {}, {}
    for row, given in asked.given.items():
        if isinstance(given, OwnFeatures):
            given.check(examples)
            found[row] = Contestant(partial(_own, given, examples), asked=True)
            continue
        try:
            encoder = _tried(settings, given, examples, named=None if isinstance(given, str) else row)
        except InputError as error:
            if row not in asked.optional:
                raise
            asked.left_out.append(f"{given}: {error}")
            continue
        encoders[row] = encoder
        network = partial(represent, settings, encoder, origin=encoder.source or _kind(given))
        found[row] = Contestant(network, asked=True, shared=encoder.comparable, checkpoint=encoder.source)
        if encoder.source is not None:
            about = {key: value for key, value in encoder.config.to_dict().items() if key != "_name_or_path"}
            checkpoints.setdefault(str(about), (row, encoder))
    if not found:
        raise InputError(f"none of --runs can be judged on these examples: {asked.left_out[0]}")
    if settings.words is not None and examples.kind != "scores":
        raise InputError(f"--words {settings.words} is of pairs of sentences with scores: leave it out")
    if not settings.baselines:
        if settings.words is not None:
            raise InputError(f"--words {settings.words} is a baseline, and --baselines false leaves these out")
        return found
    found |= _baselines(settings, examples, checkpoints)
    return found | (_baselines_of_pairs(settings, examples, encoders) if examples.kind == "scores" else {})


def _baselines(
    settings: Any, examples: Examples, checkpoints: Mapping[str, tuple[str, Encoder]]
) -> dict[str, Contestant]:
    """What encoders must beat. checkpoints: row and encoder of each architecture."""
    found = {}
    for row, trained in checkpoints.values():
        set_seed(settings.seed)
        encoder = trained.untrained().try_on(examples.learn_from)
        network = partial(represent, settings, encoder, origin="random weights")
        name = "random weights" if len(checkpoints) == 1 else f"random weights of {row}"
        found[name] = Contestant(network, shared=True, checkpoint=encoder.source, pretrained=False)
    if examples.modality == "sound":
        rate = examples.data.sampling_rate
        return found | {row: Contestant(partial(spectra, rate, deviation)) for row, deviation in SPECTRA.items()}
    plain = "raw pixels" if examples.images else "TF-IDF"
    principal = "PCA of pixels" if examples.images else "PCA of TF-IDF"
    found[plain] = Contestant(partial(plain_features, examples.learn_from, components=None))
    found[principal] = Contestant(partial(plain_features, examples.learn_from, components=64))
    return found


def _baselines_of_pairs(settings: Any, examples: Examples, encoders: Mapping[str, Encoder]) -> dict[str, Contestant]:
    """What is to be had of sentences without training: whitened vectors of each encoder, common words, word vectors."""
    known = examples.learn_from
    found = {f"{row}, whitened": Contestant(partial(_whitened, settings, encoder, known), shared=encoder.comparable)
             for row, encoder in encoders.items() if "Dense" not in encoder.pooling}  # fmt: skip
    found["common words, the rarer the more"] = Contestant(partial(_of_words, partial(word_overlap, known)))
    if settings.words is not None:
        vectors = read_words(settings.words)
        mean = partial(weighted_mean_of_words, known, vectors)
        found["mean of word vectors, the rarer the more"] = Contestant(partial(_of_words, mean))
    return found


def _whitened(settings: Any, encoder: Encoder, known: Dataset, *parts: Dataset) -> tuple[Layers, dict[str, str]]:
    """Features of the last layer, whitened on at most `WHITENED_ON` training sentences."""
    known = known.select(range(min(len(known), WHITENED_ON)))
    layers, facts = represent(settings, encoder, known, *parts, origin="the data")
    first, *found = layers[-1]
    if (count := min(WHITENED_WIDTH, directions(first.x))) > 0:  # else all sentences are one point
        dense = whitening(first.x, count)
        found = [Features(dense(part.x), part.labels) for part in found]
    return [tuple(found)], facts | {"features": f"{found[0].x.shape[1]:,}"}


def _of_words(represent: Callable, *parts: Dataset) -> tuple[Layers, dict[str, str]]:
    """Features of texts that their words alone make."""
    found = [Features(features.x, labels_of(part)) for features, part in zip(represent(*parts), parts, strict=True)]
    facts = {"from": "the data", "parameters": "–", "features": f"{found[0].x.shape[1]:,}", "pooling": "–"}
    return [tuple(found)], facts


def _tried(settings: Any, given: Any, examples: Examples, *, named: str | None) -> Encoder:
    """The encoder, after one real batch."""
    encoder = find_encoder(
        given,
        modality=examples.modality,
        named=named,
        pooling=settings.pooling,
        all_layers=settings.layers != "last",
        max_length=settings.max_length,
    )
    if examples.images:
        _check_channels(encoder, examples)
    _check_rate(encoder, examples)
    if examples.kind == "scores" and isinstance(given, str) and is_words(given):
        _check_texts(encoder, examples)
    encoder.try_on(examples.learn_from)
    if settings.layers.isdigit() and int(settings.layers) >= len(encoder.widths):
        raise InputError(f"--layers {settings.layers}: {encoder.named} has the layers 0 to {len(encoder.widths) - 1}")
    return encoder


def _check_texts(encoder: Encoder, examples: Examples) -> None:
    """Raises InputError where vectors of words are to be judged by pairs that may be meant as words."""
    texts = examples.learn_from["text"][:]
    if all(len(text.split()) < 2 for text in texts):
        raise InputError(
            f"{encoder.named} holds vectors of words, and {examples.data.name!r} has pairs of single words, such as "
            f"{texts[0][:40]!r}: to judge words, give a .csv or .tsv with the columns word1, word2, score; to judge "
            "the means of words, give pairs of sentences"
        )


def _check_channels(encoder: Encoder, examples: Examples) -> None:
    """Raises InputError where an encoder takes another number of channels, and not all images can be read with it."""
    takes = getattr(encoder.preprocess, "channels", None)
    has = examples.train[0].get("channels") or RGB
    if takes in (None, has):
        return
    for part in examples.parts:
        reasons = scan(part, channels=None if takes == RGB else takes)["reason"]
        if (bad := np.flatnonzero(reasons != "")).size:
            file = (part[int(bad[0])]["image"] or {}).get("path") or "image"
            raise InputError(
                f"{encoder.named} takes images of {takes} channel(s), which {len(bad):,} of {len(part):,} have not: "
                f"{file}: {reasons[bad[0]]}"
            )


def _check_rate(encoder: Encoder, examples: Examples) -> None:
    """Raises InputError where an encoder hears sounds of another rate: played so, they would be higher or lower."""
    if not isinstance(encoder.preprocess, SoundInputs):
        return
    hears, rate = encoder.preprocess.processor.sampling_rate, examples.data.sampling_rate
    if hears != rate:
        raise InputError(f"{encoder.named} hears sounds of {hears:,} Hz, and these are of {rate:,} Hz: resample them")


def represent(settings: Any, encoder: Encoder, *parts: Dataset, origin: str) -> tuple[Layers, dict[str, str]]:
    """Features of each layer of a network, computed once. A module of the user's own stays on the device it is on."""
    network = encoder.network if encoder.source is None else encoder.network.to(PartialState().device).eval()
    how = {"preprocess": encoder.preprocess, "num_workers": settings.dataloader_num_workers}
    if encoder.comparable:
        compute = partial(extract_once, cache=Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn"), **how)
    else:
        compute = partial(extract, **how)
    at_once = [sounds_at_once(part) if encoder.modality == "sound" else 256 for part in parts]
    extracted = [
        compute(network, part, batch_size=size, progress=f"features of {len(part):,} examples")
        for part, size in zip(parts, at_once, strict=True)
    ]
    layers = list(zip(*(split_layers(part, encoder.widths) for part in extracted), strict=True))
    pooling = encoder.pooling
    if settings.layers.isdigit():
        layers = [layers[int(settings.layers)]]
        pooling = f"{getattr(network, 'how', pooling)} of layer {settings.layers}"
    facts = {"from": origin, "parameters": f"{encoder.parameters:,}" if encoder.parameters else "–"}
    if settings.layers == "all":
        facts["layers"] = encoder.layers_in_words()
    return layers, facts | {"features": f"{layers[-1][0].x.shape[1]:,}", "pooling": pooling}


def _kind(given: Any) -> str:
    """What an object is, in the report; vectors of words are those of their folder."""
    if isinstance(given, str):
        return given
    what = given[0] if isinstance(given, tuple) else given
    return f"{type(what).__name__} (an object)" if isinstance(what, nn.Module) else "a function"


def _own(features: OwnFeatures, examples: Examples, *_: Dataset) -> tuple[Layers, dict[str, str]]:
    return features.represent(examples)


def plain_features(learn_from: Dataset, *parts: Dataset, components: int | None) -> tuple[Layers, dict[str, str]]:
    """Pixels (32 x 32) or TF-IDF, or their principal components."""

    if "image" in learn_from.column_names:
        small = ImagePreprocessor(32, (0.5,), (0.5,))
        known, *found = (extract(torch.nn.Flatten(), part, preprocess=small) for part in (learn_from, *parts))
    else:
        known, *found = tfidf(learn_from, *parts)
    if components is not None:
        found = pca(known, *found, components=components)
    facts = {"from": "the data", "parameters": "–", "features": f"{found[0].x.shape[1]:,}", "pooling": "–"}
    return [tuple(found)], facts


def spectra(rate: int, deviation: bool, *parts: Dataset) -> tuple[Layers, dict[str, str]]:
    """What `MelSpectrum` makes of sounds of `rate`."""
    network, inputs = MelSpectrum(rate, deviation=deviation), SoundInputs(feature_extractor(rate))
    found = [extract(network, part, preprocess=inputs, batch_size=sounds_at_once(part)) for part in parts]
    facts = {"from": "the data", "parameters": "–", "features": f"{found[0].x.shape[1]:,}", "pooling": "over time"}
    return [tuple(found)], facts
