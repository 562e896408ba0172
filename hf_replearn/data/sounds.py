"""Sounds from a folder: found good before training starts, of one rate, and those to test on set apart.

T samples of a sound
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from datasets import ClassLabel, Dataset, Value
from datasets.fingerprint import Hasher

from hf_replearn.data.images import Skipped, refuse_folders_that_need_not_be_classes, set_test_apart, with_label
from hf_replearn.data.inventory import LeftOut
from hf_replearn.data.labels import has_labels
from hf_replearn.data.sources import Source, counted, load_source, local_path
from hf_replearn.data.splits import some
from hf_replearn.errors import InputError

TOY = "toy-tones"
SCALES = {"uint8": 128, "int16": 2**15, "int32": 2**31}  # of whole numbers, as files of 8, 16, and 24 or 32 bits give


def are_sounds(dataset: str) -> bool:
    """Whether a name stands for sounds and for nothing else: toy-tones, a .wav file, a folder that holds one."""
    if dataset == TOY or Path(dataset).suffix.lower() == ".wav":
        return True
    return any(name.lower().endswith(".wav") for *_, names in os.walk(os.path.expanduser(dataset)) for name in names)


class UnreadableSound(Exception):
    """Why a file is not used, in words."""


@dataclass(frozen=True)
class SoundData:
    """Sounds that can all be used.

    name:          what a card may show. hub_id: None, as all are local.
    train, test:   columns `audio` ({"bytes", "path"} of a file), `samples` (T), and `label` where there are classes.
                   test is None for sounds without classes that have no test split.
    test_source:   where test comes from, in words. label_names: by number, or None.
    sampling_rate: samples a second, of all. skipped: the sounds that cannot be used.
    fingerprint, taken, left_out, notes: as of ImageData.
    """

    name: str
    train: Dataset
    test: Dataset | None
    test_source: str
    label_names: list[str] | None
    sampling_rate: int
    skipped: list[Skipped]
    fingerprint: str
    taken: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    UNIT: ClassVar[str] = "sound"
    hub_id: ClassVar[None] = None
    stream: ClassVar[None] = None
    single_label: ClassVar[bool] = True

    @cached_property
    def labelled(self) -> Dataset:
        """The sounds of train that have a label."""
        return with_label(self.train)


def load_sounds(
    dataset: str | Source,
    *,
    files: Sequence[str] = (),
    label_type: Literal["classes", "ignored"] | None = None,
    sampling_rate: int | None = None,
    stereo: Literal["refuse", "mean"] = "refuse",
    shortest: int = 1,
    max_unusable: float = 0.01,
) -> SoundData:
    """Loads sounds, reads each once, leaves out what cannot be used and sets the sounds to test on apart.

    dataset:       `toy-tones`; a folder of .wav or of .npy, flat or in class folders, or these in train/, test/ or
                   validation/; or one such file: see data.inventory. Or what was found of one.
    sampling_rate: samples a second, which .npy files do not tell; None: that of the .wav files.
    stereo:        sounds of several channels are refused, or become the mean of these.
    shortest:      samples that a sound has at least. max_unusable: the largest share that may be left out.
    Test is set apart as by `load_images`. Raises InputError for whatever the user has to mend.
    """
    source = dataset if isinstance(dataset, Source) else find_sounds(dataset, files)
    if source.kind == "sounds" and label_type is None:
        refuse_folders_that_need_not_be_classes(source, column="audio", noun="sound")
    splits = source.splits
    if label_type == "ignored":
        splits = {split: rows.select_columns("audio") for split, rows in splits.items()}
    classes = "label" in splits["train"].features
    tests = [split for split in ("test", "validation") if split in splits]
    tests = [split for split in tests if not classes or has_labels(splits[split], "label")]
    parts = {split: splits[split] for split in ("train", *tests[:1])}
    found = {split: scan(rows, sampling_rate, shortest) for split, rows in parts.items()}
    rate = _one_rate(source.name, parts, found, sampling_rate)
    notes = _channels(source.name, parts, found, stereo)
    parts, found, skipped = _leave_out(source.name, parts, found, max_unusable)
    labels = parts["train"].features.get("label")
    contents = [
        (found[split]["digest"].tolist(), rows["label"][:] if labels else None) for split, rows in parts.items()
    ]
    train, test, test_source, more = set_test_apart(source.name, parts, found, noun="sound")
    if not len(train):
        raise InputError(f"{source.name!r} has no sound to train on")
    held_out = {tests[0]: counted(len(test), "sound")} if len(parts) > 1 else {}
    return SoundData(
        name=source.name,
        train=train,
        test=test,
        test_source=test_source,
        label_names=labels.names if isinstance(labels, ClassLabel) else None,
        sampling_rate=rate,
        skipped=skipped,
        fingerprint=Hasher.hash((contents, rate, labels and labels.names)),
        taken=source.taken({"train": counted(len(train), "sound"), **held_out}),
        left_out=source.left_out,
        notes=notes + more,
    )


def find_sounds(dataset: str, files: Sequence[str] = ()) -> Source:
    """The source of a path, or toy-tones. Raises InputError."""
    if dataset != TOY and local_path(dataset) is None:
        raise InputError(f"--dataset {dataset}: sounds are read from a folder of .wav or .npy files, or {TOY}")
    return load_source(dataset, purpose="sounds", files=files)


# ---- one file


def open_sound(audio: dict) -> tuple[int | None, np.ndarray]:
    """Samples a second, None where the file does not tell, and the samples as the file has them, (T,) or (T, channels),
    which are read from the disk when they are needed. Raises UnreadableSound."""
    from scipy.io import wavfile

    path, content = audio["path"], audio["bytes"]
    try:
        if path is not None and path.lower().endswith(".npy"):
            return None, np.load(path, mmap_mode="r", allow_pickle=False)
        if path is None and content.startswith(np.lib.format.MAGIC_PREFIX):
            return None, np.load(io.BytesIO(content), allow_pickle=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)  # a file that was cut off
            warnings.filterwarnings("ignore", message="Chunk .* not understood", category=wavfile.WavFileWarning)
            return _read_wav(path, content)
    except (OSError, ValueError, EOFError, struct.error, wavfile.WavFileWarning) as error:
        raise UnreadableSound(" ".join(str(error).split())[:100] or "it cannot be read") from error


def _read_wav(path: str | None, content: bytes | None) -> tuple[int, np.ndarray]:
    from scipy.io import wavfile

    if path is None:
        return wavfile.read(io.BytesIO(content))
    try:
        return wavfile.read(path, mmap=True)
    except ValueError:  # samples of 24 bits lie in no array, and are read whole; what is wrong else is said again
        return wavfile.read(path)


def wave(samples: np.ndarray) -> np.ndarray:
    """Samples of a file, (T,) or (T, channels), as (T,) float32 in -1...1: the mean of the channels."""
    kind = samples.dtype.name
    numbers = samples.astype(np.float64 if kind == "int32" else np.float32)
    if kind in SCALES:
        numbers = (numbers - (128 if kind == "uint8" else 0)) / SCALES[kind]
    return (numbers if numbers.ndim == 1 else numbers.mean(1)).astype(np.float32)


def read_wave(audio: dict, start: int = 0, count: int | None = None) -> np.ndarray:
    """`count` samples of a file from `start` on, or all, as float32 in -1...1."""
    _, samples = open_sound(audio)
    return wave(samples[start : None if count is None else start + count])


# ---- all files


def scan(rows: Dataset, sampling_rate: int | None, shortest: int) -> dict[str, np.ndarray]:
    """Reads each sound once: (N,) `reason` why it cannot be used, else ""; `rate`; `channels`; `samples`; `digest`."""
    found = defaultdict(list)
    for audio in rows["audio"]:
        facts = {"reason": "", "rate": 0, "channels": 1, "samples": 0, "digest": ""}
        try:
            facts |= _facts(audio, sampling_rate, shortest)
        except UnreadableSound as error:
            facts["reason"] = str(error)
        for name, value in facts.items():
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def _facts(audio: dict, sampling_rate: int | None, shortest: int) -> dict:
    rate, samples = open_sound(audio)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and rate is None):
        raise UnreadableSound(f"an array of shape {samples.shape}, and a sound is (T,)")
    if samples.dtype.name not in SCALES and samples.dtype.kind != "f":
        raise UnreadableSound(f"{samples.dtype} is not read: 8, 16 or 32 bits or floats in -1...1 are")
    if rate is None and samples.dtype.name not in ("int16", "float16", "float32", "float64"):
        raise UnreadableSound(f"an array of {samples.dtype}: int16 or floats in -1...1 are read")
    if len(samples) < shortest:
        raise UnreadableSound(f"{len(samples):,} samples, and {shortest:,} are needed: say a smaller --window")
    if samples.dtype.kind == "f":
        largest = float(np.abs(samples).max())  # NaN if there is one
        if not np.isfinite(largest):
            raise UnreadableSound("NaN or infinite samples")
        if largest > 1:
            raise UnreadableSound(f"samples up to {largest:.4g}, beyond -1...1")
    digest = hashlib.blake2b(np.ascontiguousarray(samples), digest_size=8).hexdigest()
    if rate is None:
        rate = sampling_rate or 0
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    return {"rate": rate, "channels": channels, "samples": len(samples), "digest": digest}


def _one_rate(dataset: str, parts: dict[str, Dataset], found: dict[str, dict], asked: int | None) -> int:
    """The rate of all sounds that can be read. Raises InputError where there are several, or none is told."""
    rates = Counter(rate for arrays in found.values() for rate in arrays["rate"][arrays["reason"] == ""].tolist())
    if rates.pop(0, 0):
        raise InputError(f".npy files of {dataset!r} do not tell their rate: say it with --sampling_rate, in Hz")
    strange = Counter({rate: count for rate, count in rates.items() if rate != asked})
    if asked is not None and strange:
        rate = next(iter(strange))
        raise InputError(
            f"sounds of {asked:,} Hz are wanted, and {counted(strange.total(), 'sound')} of {dataset!r} of other rates"
            f", such as {_first(parts, found, 'rate', rate)} of {rate:,} Hz: resample them, or choose with --files"
        )
    if len(rates) > 1:
        told = ", ".join(
            f"{count:,} of {rate:,} Hz (such as {_first(parts, found, 'rate', rate)})"
            for rate, count in rates.most_common()
        )
        raise InputError(f"the sounds of {dataset!r} have several rates, {told}: resample them, or choose with --files")
    return next(iter(rates), asked or 0)


def _first(parts: dict[str, Dataset], found: dict[str, dict], name: str, value: int) -> str:
    """The first file of such a sound."""
    for split, arrays in found.items():
        rows = np.flatnonzero((arrays[name] == value) & (arrays["reason"] == ""))
        if len(rows):
            return some([Path(parts[split][int(rows[0])]["audio"]["path"] or "sound").name])
    raise ValueError(f"no sound has {name} {value}")


def _channels(dataset: str, parts: dict[str, Dataset], found: dict[str, dict], stereo: str) -> list[str]:
    """A note of channels that become their mean. Raises InputError where nothing is said of them."""
    counts = Counter(c for arrays in found.values() for c in arrays["channels"][arrays["reason"] == ""].tolist())
    counts.pop(1, None)
    if not counts:
        return []
    several, channels = counted(counts.total(), "sound"), next(iter(counts))
    if stereo == "mean":
        return [f"{several} of several channels: their mean is taken"]
    raise InputError(
        f"{several} of {dataset!r} with several channels, such as {_first(parts, found, 'channels', channels)} with "
        f"{channels}: say --stereo mean to take the mean of the channels, or write the one that is meant"
    )


def _leave_out(
    dataset: str, parts: dict[str, Dataset], found: dict[str, dict], max_unusable: float
) -> tuple[dict[str, Dataset], dict[str, dict], list[Skipped]]:
    """The sounds that can be used, with `samples`, and what was found of them; and the others."""
    kept, measured, skipped = {}, {}, []
    for split, rows in parts.items():
        reasons, names = found[split]["reason"], rows["audio"]
        good, bad = np.flatnonzero(reasons == ""), np.flatnonzero(reasons != "").tolist()
        skipped += [Skipped(split, row, names[row]["path"], reasons[row]) for row in bad]
        measured[split] = {name: values[good] for name, values in found[split].items()}
        samples = measured[split]["samples"].tolist()
        kept[split] = rows.select(good).add_column("samples", samples, feature=Value("int64"))
    total = sum(map(len, parts.values()))
    if len(skipped) > max_unusable * total:
        raise InputError(
            f"{len(skipped)} of {total} sounds ({len(skipped) / total:.1%}) in {dataset!r} cannot be used, more than "
            f"--max_unusable {max_unusable:g}: {', '.join(map(str, skipped[:3]))}{', …' * (len(skipped) > 3)}"
        )
    return kept, measured, skipped
