"""Which split, and which class, a file belongs to, by the names of its folders or its own.

Words such as `train` count as whole words in any case. Where two readings are possible, the refusal names both.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from hf_replearn.errors import InputError

PACKED = (".gz", ".bz2", ".xz", ".zst")
ABOUT = re.compile(
    r"(readme|licen[cs]es?|notice|copying|changelog|changes|citation|authors|contributors|contributing|credits|metadata"
    r"|data_?sheet|dataset_?card|dataset_infos?|dataset_dict|state|croissant|classes|class_names|label_names|manifest"
    r"|(md5|sha1|sha256)sums?|checksums?|config|setup|pyproject|package|requirements)([-_ .].*)?",
    re.IGNORECASE,
)
NO_CLASSES = {"images", "imgs", "jpegimages", "annotations", "masks", "labels", "bboxes", "segmentations", "trimaps"}
TRAIN, TEST, VALIDATION = "train", "test", "validation"
WORDS = {"train": TRAIN, "training": TRAIN, "test": TEST, "testing": TEST, "eval": TEST, "evaluation": TEST}
WORDS |= dict.fromkeys(("validation", "validate", "valid", "val", "dev"), VALIDATION)
WORDS |= {word + end: split for word, split in WORDS.items() for end in ("set", "data")}
MORE = dict.fromkeys(("unlabeled", "unlabelled", "unsupervised", "unsup"), "unlabeled") | {"extra": "extra"}
PARTS = {"matched", "mismatched"}  # of MNLI: splits of their own
NEUTRAL = {"of", "set", "sets", "data", "dataset", "split", "part", "shard", "image", "images", "imgs", "img", "text"}


class Word(NamedTuple):
    """What a name says of a split: the word, the split it means, and what else the name says."""

    word: str
    split: str
    rest: tuple[str, ...]


def word_of(name: str) -> Word | None:
    """The split that a name speaks of, as a whole word in any case: `imdb_Train-00001` of train, `contest` of none."""
    name = re.sub(r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b", "", name.replace("_", "-"))  # the hash in a name of the Hub
    tokens = [token.lower() for token in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_a-zA-Z]+", name)]
    found = [token for token in tokens if token in WORDS]
    if len(set(found)) != 1:
        return None
    part = "".join(f"_{token}" for token in tokens if token in PARTS)
    neutral = NEUTRAL | PARTS | set(found)
    rest = tuple(token for token in tokens if token not in neutral and len(token) > 1)
    return Word(found[0] + part, WORDS[found[0]] + part, rest)


def _splits_of(path: str, names: dict[str, str], *, titles: bool) -> dict[str, str]:
    """Name -> split, for things that lie side by side; {} where they speak of none. InputError if it is not clear.

    names:  name -> the part of it that may name a split.
    titles: the names may be those of classes or books, in which such a word need not mean a split (`steam_train`).
    """
    words = {name: word for name, part in sorted(names.items()) if (word := word_of(part)) is not None}
    splits, rests = {word.split for word in words.values()}, {word.rest for word in words.values()}
    strict = [name for name, word in words.items() if not word.rest]
    apart = {name: MORE[part.lower()] for name, part in names.items() if part.lower() in MORE and TRAIN in splits}
    others = sorted(names.keys() - words.keys() - apart.keys())
    alike = any(len({word.split for word in words.values() if word.rest == rest}) > 1 for rest in rests)
    if not words or (titles and not strict and not alike and (others or len(rests) > 1 or TRAIN not in splits)):
        return {}
    if others:
        shown = ", ".join(map(printable, sorted(names)[:6]))
        raise InputError(
            f"are these in {path!r} splits, or classes and parts of one: {shown}{', …' * (len(names) > 6)}? "
            f"{some(strict or words)} would be splits, {some(others)} not: call splits train, test and validation, "
            "with nothing else beside them, call other things otherwise, or say with --files which files are meant"
        )
    if len(rests) > 1 and len(splits) > 1:
        raise InputError(
            f"are these in {path!r} splits of one dataset or of several: {some(words)}? Choose with --files"
        )
    for split in splits:
        several = sorted({word.word for word in words.values() if word.split == split})
        if len(several) > 1:
            raise InputError(f"which is the split {split!r} of {path!r}: {' or '.join(several)}? Choose with --files")
    if TRAIN not in splits:
        raise InputError(
            f"{path!r} has only {' and '.join(sorted(splits))} ({some(words)}), and no split to train on: to learn "
            f"from one of them, give it by itself, as --dataset {os.path.join(path, next(iter(words)))}"
        )
    return {name: word.split for name, word in words.items()} | apart


def _wrapping(paths: Iterable[tuple[str, ...]]) -> int:
    """How many folders, one in the other, only wrap the data."""
    paths, depth = list(paths), 0
    while len({parts[depth] for parts in paths}) == 1 and all(len(parts) > depth + 1 for parts in paths):
        word = word_of(paths[0][depth])
        if word is not None and not word.rest:
            return depth
        depth += 1
    return depth


def _split_paths(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(name.split("/")) for name in names}


def _in_folders(lost: list[str], depth: int) -> list[tuple[str, ...]]:
    return [parts for parts in _split_paths(lost).values() if len(parts) > depth + 1]


# ---- images


def image_places(path: str, used: list[str], lost: list[str]) -> dict[str, tuple[str, str | None]]:
    """Image -> its split and its class: the first folder, as for torchvision's ImageFolder.

    datasets' own "imagefolder" finds splits in file names (cat/test_1.png leaves train).
    """
    paths = _split_paths(used)
    level = _wrapping([*paths.values(), *_in_folders(lost, 0)])
    folders = [parts for parts in [*paths.values(), *_in_folders(lost, level)] if len(parts) > level + 1]
    splits = _splits_of(path, {parts[level]: parts[level] for parts in folders}, titles=True)
    if not splits:
        _refuse_splits_below(path, folders, level)
        _refuse_lost_folders(path, paths.values(), _in_folders(lost, level), levels=(level,))
        places = {name: (TRAIN, parts[level] if len(parts) > level + 1 else None) for name, parts in paths.items()}
        _refuse_classes_in_a_class(path, folders, level)
        _refuse_odd_classes(path, places)
        return places
    if loose := [name for name, parts in paths.items() if len(parts) == level + 1]:
        raise InputError(
            f"are these in {path!r} splits or classes: {some(splits)}? Files lie beside them, {some(loose)}: put "
            "them into a split, or leave them out with --files"
        )
    deep = level + 1
    while _wraps_splits(folders, splits, level, deep):
        deep += 1
    _refuse_lost_folders(path, paths.values(), _in_folders(lost, level), levels=(level,))
    _refuse_lost_folders(path, paths.values(), _in_folders(lost, deep), levels=(level, deep))
    places = {
        name: (splits[parts[level]], parts[deep] if len(parts) > deep + 1 else None) for name, parts in paths.items()
    }
    _refuse_classes_in_a_class(path, folders, deep)
    _refuse_odd_classes(path, places)
    return places


def _refuse_classes_in_a_class(path: str, folders: list[tuple[str, ...]], level: int) -> None:
    """Beside yes/ and no/, a folder with yes/ and no/ in it: a second copy, as some archives have, or all the data."""
    inner = defaultdict(set)
    for parts in folders:
        if len(parts) > level + 1:
            inner[parts[level]].update(parts[level + 1 : level + 2] if len(parts) > level + 2 else ())
    for label, names in sorted(inner.items()):
        if len(again := sorted(names & inner.keys())) > 1:
            raise InputError(
                f"is {label!r} in {path!r} a class, or the classes {some(again)}, which lie in it and beside it, once "
                "more? Give one of the folders as --dataset, or leave out with --files what is no class"
            )


def _refuse_odd_classes(path: str, places: dict[str, tuple[str, str | None]]) -> None:
    """Classes called `images` and `annotations`, and a class `test` in train/ alone, are more likely something else."""
    where = defaultdict(set)
    for split, label in places.values():
        where[label].add(split)
    splits = set().union(*where.values())
    for label in sorted(filter(None, where)):
        odd = label.lower() in NO_CLASSES and len(where) > 1 and TRAIN in where[label]
        nested = (word := word_of(label)) is not None and not word.rest and len(splits) > 1 and where[label] != splits
        if odd or nested:
            raise InputError(
                f"is {label!r} a class of {path!r}, beside {some(sorted(filter(None, where.keys() - {label})))}, or "
                "something else? Leave out with --files what is no class, or call the class otherwise"
            )


def _wraps_splits(folders: list[tuple[str, ...]], splits: dict[str, str], level: int, deep: int) -> bool:
    """Whether each split has one folder at `deep`, nothing beside it: of one name in all, or the split's own."""
    if any(len(parts) <= deep + 1 for parts in folders):
        return False
    inner = {(parts[level], parts[deep]) for parts in folders}
    if len(inner) > len(splits):
        return False
    own = all((word := word_of(name)) is not None and word.split == splits[split] for split, name in inner)
    return own or len({name for _, name in inner}) == 1


def _refuse_splits_below(path: str, folders: list[tuple[str, ...]], level: int) -> None:
    """cat/train and cat/test: neither classes nor splits are where they can be told."""
    found = {}
    for parts in folders:
        for depth in range(level + 1, len(parts) - 1):
            word = word_of(parts[depth])
            if word is not None and not word.rest:
                found.setdefault(word.split, "/".join(parts[: depth + 1]))
    if TRAIN in found and len(found) > 1:
        raise InputError(
            f"in {path!r}, are these splits of each class, or of several datasets: {some(found.values())}? Put the "
            "splits above the classes (train/…, test/…), or give one of the folders"
        )


def _refuse_lost_folders(
    path: str, used: Iterable[tuple[str, ...]], lost: list[tuple[str, ...]], *, levels: tuple[int, ...]
) -> None:
    kept = {tuple(parts[level] for level in levels) for parts in used if len(parts) > levels[-1] + 1}
    gone = defaultdict(list)
    for parts in lost:
        if (key := tuple(parts[level] for level in levels)) not in kept:
            gone[key].append(parts[-1])
    for key, files in gone.items():
        raise InputError(
            f"the folder {'/'.join(key)!r} in {path!r} would be lost, none of its files can be read ({counts(files)}): "
            "convert them, or leave the folder out with --files"
        )


# ---- tables and texts


def table_places(path: str, kind: str, used: list[str], lost: list[str], *, told: bool) -> dict[str, tuple[str, None]]:
    """File -> its split, from a folder (train/, data/train/) or from its own name (imdb_train.csv)."""
    paths = _split_paths(used)
    level = _wrapping([*paths.values(), *_in_folders(lost, 0)])
    rest = {name: parts for name, parts in paths.items() if not ABOUT.fullmatch(parts[-1])} or paths
    folders = {
        parts[level]: parts[level] for parts in [*rest.values(), *_in_folders(lost, level)] if len(parts) > level + 1
    }
    if all(len(parts) > level + 1 for parts in rest.values()):
        splits = _splits_of(path, folders, titles=True)
        if splits:
            _refuse_lost_folders(path, rest.values(), _in_folders(lost, level), levels=(level,))
            places = {name: splits[parts[level]] for name, parts in rest.items()}
            if kind != "text":
                _refuse_contradictions(path, places)
            return {name: (split, None) for name, split in places.items()}
    said = {name: _what_names_the_split(parts, level) for name, parts in rest.items()}
    splits = _splits_of(path, {name: text for name, (_, text) in said.items()}, titles=kind == "text")
    if not splits:
        return dict.fromkeys(paths, (TRAIN, None))
    if len(places := {place for name, (place, _) in said.items()}) > 1 and not told:
        raise InputError(
            f"{path!r} has splits in several folders, {some(sorted('/'.join(place) or '.' for place in places))}: are "
            "they one dataset or several? Give one of them as --dataset, or --files '*' for all"
        )
    for name in lost:
        word = word_of(_stem(os.path.basename(name)))
        if word is not None and word.split not in splits.values():
            raise InputError(
                f"{printable(name)!r} in {path!r} looks like the split {word.split!r} and is not read: convert it"
            )
    return {name: (split, None) for name, split in splits.items()}


def _what_names_the_split(parts: tuple[str, ...], level: int) -> tuple[tuple[str, ...], str]:
    """The folder that the split lies in, and the name that may speak of it: that of a folder, else the file's own."""
    for depth in range(level, len(parts) - 1):
        word = word_of(parts[depth])
        if word is not None and not word.rest:
            return parts[:depth], parts[depth]
    return parts[:-1], _stem(parts[-1])


def _stem(file: str) -> str:
    """A file's name without .csv, .csv.gz and the like."""
    stem, suffix = os.path.splitext(file)
    return os.path.splitext(stem)[0] if suffix.lower() in PACKED else stem


def _refuse_contradictions(path: str, places: dict[str, str]) -> None:
    for name, split in places.items():
        word = word_of(_stem(os.path.basename(name)))
        if word is not None and not word.rest and not word.split.startswith(split):
            raise InputError(
                f"is {name!r} in {path!r} of the split {split!r}, as its folder says, or of {word.split!r}?"
            )


# ---- names in messages


def printable(name: str) -> str:
    """A file name in one line of UTF-8, whatever it is made of."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def some(names: Iterable[str]) -> str:
    names = list(map(printable, names))
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)


def counts(names: Iterable[str]) -> str:
    suffixes = Counter(os.path.splitext(name)[1].lower() or "without a suffix" for name in names)
    return ", ".join(f"{suffix} ({count})" for suffix, count in suffixes.most_common(5))
