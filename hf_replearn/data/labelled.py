"""Labelled texts, images and sounds: what fine-tuning and probes are given, whatever the columns of the source are
called."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from hf_replearn.data.images import Skipped, load_images
from hf_replearn.data.inventory import LeftOut
from hf_replearn.data.labels import (
    Labels,
    LabelType,
    choose_label,
    has_labels,
    is_image,
    is_text,
    read_labels,
    shown_columns,
    shown_kind,
)
from hf_replearn.data.sounds import load_sounds
from hf_replearn.data.sources import Source, counted, load_source, tells_of_rows
from hf_replearn.errors import InputError

# The inputs of GLUE's tasks, a pair being one input of two segments, and the usual name elsewhere.
USUAL = (
    ("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"), ("premise", "hypothesis"),
    ("sentence",), ("text",),
)  # fmt: skip
HOLD_OUT_SHARE, HOLD_OUT_SEED = 0.2, 0


@dataclass(frozen=True)
class LabelledData:
    """Examples that all have a label.

    name:        what a card may show: the Hub id, or the last part of the path. hub_id: None for local data.
    train, test: columns `label` and either `text`, `text` and `text_pair`, `image` (datasets.Image(decode=False)), or
                 `audio` and `samples` as of SoundData.
    test_source: where test comes from, in words.
    label_names: class names by number; None where the labels are numbers to regress on (floats).
    notes:       what the user should know of the data, a sentence each.
    taken:       one line of what was used of the source, and what was not.
    skipped:     the files that are not used, and the images that did not decode.
    sampling_rate: samples a second of sounds; None of others.
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset
    test_source: str
    label_names: list[str] | None
    notes: list[str] = field(default_factory=list)
    taken: str = ""
    skipped: list[LeftOut | Skipped] = field(default_factory=list)
    sampling_rate: int | None = None

    @property
    def inputs(self) -> list[str]:
        """The columns that hold texts, images or sounds."""
        return [column for column in self.train.column_names if column in ("image", "audio", "text", "text_pair")]


def load_labelled(
    dataset: str | Source,
    *,
    files: Sequence[str] = (),
    config: str | None = None,
    text_columns: str | None = None,
    label_column: str | None = None,
    label_type: LabelType | None = None,
    evaluate_on: Sequence[str] = ("test", "validation"),
    several: bool = False,
    **images,
) -> LabelledData:
    """Loads a classification or regression set of texts, single or in pairs, or of images.

    dataset: a folder of {train,validation,test}.{parquet,arrow,json,csv,tsv}, one such file, a `save_to_disk` folder,
             a Hub id, or whatever `load_images` reads, see data.inventory; `toy` is scikit-learn's digits; or what
             was found of one, as by data.objects.
    files:   patterns of the files of a folder that are meant.
    config:  of a Hub dataset that has several.
    text_columns: one name, or two with a comma between; needed only where names and types leave a choice, as are
             image_column and label_column.
    label_type: what the labels are, where data.labels, which has the rules, finds two readings.
    evaluate_on: the first of these splits that has labels is test; without any, a stratified 20 % of train.
    several: examples may have several labels each: `label` is then a list of class numbers.
    images:  image_column, max_undecodable, value_range and channels of `load_images`.

    Examples without a label are left out. InputError for whatever the user has to mend.
    """
    source = dataset
    if not isinstance(dataset, Source):
        arrays = images.get("channels") is not None
        source = load_source(dataset, purpose="labels", files=files, config=config, arrays=arrays)
    dataset = source.name if isinstance(dataset, Source) else dataset
    splits = source.splits
    if source.kind == "images" or (text_columns is None and any(map(is_image, _train(splits).features.values()))):
        return _labelled_images(source, several=several, label_column=label_column, label_type=label_type, **images)
    features = _train(splits).features
    label = choose_label(features, label_column)
    if label is None:
        raise InputError(
            f"the label is not clear; the columns are {shown_columns(features)}: choose with --label_column"
        )
    texts = _text_columns(splits, text_columns, label)
    there = [split for split in evaluate_on if split in splits]
    without = list(itertools.takewhile(lambda split: not has_labels(splits[split], label), there))
    tested = next(iter(there[len(without) :]), "train")
    labels = read_labels({split: splits[split] for split in ("train", tested)}, label, label_type=label_type)
    if labels.several and not several:
        raise InputError(f"the label {label!r} of {dataset!r} has several classes an example: one is needed")
    train, left_out = _standard_columns("train", splits, texts, labels)
    _check_labels(dataset, train["label"][:], label, labels)
    notes, facts = labels.notes + left_out, []
    notes += [f"no row of {split!r} has a label: it is not used" for split in without]
    if tested == "train":
        train, test = _without_fifth(train, alike=labels.several or labels.names is None)
        test_source = f"a held-out {HOLD_OUT_SHARE:.0%} of train"
        if not len(test):
            raise InputError(f"{dataset!r} has no labelled split {' or '.join(evaluate_on)}, and too few examples")
    else:
        test, facts = _standard_columns(tested, splits, texts, labels)
        test_source = f"the split {tested!r}"
    facts += _copies(train, test)
    notes += _copies(train, None)
    test_source += f" ({'; '.join(facts)})" * bool(facts)
    name = "/".join(filter(None, (source.hub_id, config))) or source.name.partition(".")[0]
    taken = source.taken(_in_words(tested, train, test, [*texts, label]))
    return LabelledData(
        name, source.hub_id, train, test, test_source, labels.names, notes + facts, taken, source.left_out
    )


def labelled_sounds(dataset: str | Source, **choices) -> LabelledData:
    """Sounds in folders by class, a fifth of them held out where there is no test split. choices: of `load_sounds`,
    whose errors it raises, and InputError for sounds without classes."""
    data = load_sounds(dataset, **choices)
    if data.label_names is None or data.test is None:
        raise InputError(f"the sounds of {data.name!r} have no labels to learn: put them into folders by class")
    notes = data.notes + [f"{len(data.skipped)} sounds cannot be used and are left out"] * bool(data.skipped)
    skipped, rate = [*data.left_out, *data.skipped], data.sampling_rate
    about = {"notes": notes, "taken": data.taken, "skipped": skipped, "sampling_rate": rate}
    return LabelledData(data.name, None, data.labelled, data.test, data.test_source, data.label_names, **about)


def _in_words(tested: str, train: Dataset, test: Dataset, columns: list[str]) -> dict[str, str]:
    """What is taken of each split."""
    told = f"{counted(len(train), 'row')} of the columns {', '.join(f'`{column}`' for column in columns)}"
    if tested == "train":
        return {"train": f"{told}, and {len(test):,} held out"}
    return {"train": told, tested: counted(len(test), "row")}


def balanced_subset(labels: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """The rows, ascending, of a random round(fraction · N) of the labels (N,), as many of each class as there can be.

    As the 1 % and 10 % of labels in table 7 of SimCLR (Chen et al. 2020): classes have equal numbers, give or take one,
    but for those that have no more to give. Smaller fractions are subsets of larger ones with the same seed. Labels of
    one value only (give zeros for a regression) make it a plain random subset.

    Raises InputError when a class would be left without an example.
    """
    classes, count = len(np.unique(labels)), round(fraction * len(labels))
    if count < classes:
        raise InputError(
            f"a share of {fraction:g} of {len(labels):,} labels is {count}, too few for {classes} classes: use at "
            f"least {np.ceil(1000 * classes / len(labels)) / 1000:g}, or {classes} examples"
        )
    rng = np.random.default_rng(seed)
    return np.sort(np.lexsort((rng.random(len(labels)), _ranks(labels, rng)))[:count])


def hold_out(labels: np.ndarray, *, stratified: bool = True) -> np.ndarray:
    """(N,) bool: a random fifth of each class of labels (N,), rounded, or of all of them."""
    classes = labels if stratified else np.zeros(len(labels), int)
    values, inverse = np.unique(classes, return_inverse=True)
    held_of_class = np.round(HOLD_OUT_SHARE * np.bincount(inverse, minlength=len(values)))
    return _ranks(classes, np.random.default_rng(HOLD_OUT_SEED)) < held_of_class[inverse]


def by_length(rows: Dataset) -> np.ndarray:
    """The rows in the order of their texts' lengths, so that neighbours need little padding; images as is."""
    if "text" not in rows.column_names:
        return np.arange(len(rows))
    return np.argsort([len(text) for text in rows["text"][:]], kind="stable")


def _ranks(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The place of each row in a random order of its class: (N,)."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ranks = np.empty(len(labels), int)
    ranks[order] = np.arange(len(labels)) - np.repeat(first, counts)
    return ranks


# ---- columns


def _train(splits: dict[str, Dataset]) -> Dataset:
    if "train" not in splits:
        raise InputError(f"the data has no split 'train', only {', '.join(splits)}")
    if not len(splits["train"]):
        raise InputError("the split 'train' has no examples")
    return splits["train"]


def _text_columns(splits: dict[str, Dataset], asked: str | None, label: str) -> list[str]:
    features = splits["train"].features
    if asked is not None:
        columns = [name.strip() for name in asked.split(",")]
        for name in columns:
            if name not in features or not is_text(features[name]):
                what = f"holds {shown_kind(features[name])}, not texts" if name in features else "does not exist"
                raise InputError(f"--text_columns: {name!r} {what}; the columns are {shown_columns(features)}")
        if len(set(columns)) < len(columns) or len(columns) > 2 or label in columns:
            raise InputError(f"--text_columns takes one column or a pair, besides the label {label!r}, got {asked!r}")
        return columns
    texts = [name for name, kind in features.items() if is_text(kind) and name != label]
    for columns in USUAL:
        if set(columns) <= set(texts):
            return list(columns)
    if len(texts) != 1 or tells_of_rows(texts[0]):
        complaint = "no column holds texts" if len(texts) < 2 else "it is not clear which columns are the text"
        raise InputError(f"{complaint}; the columns are {shown_columns(features)}: choose with --text_columns A or A,B")
    return texts


def _standard_columns(split: str, splits: dict[str, Dataset], texts: list[str], labels: Labels) -> tuple[Dataset, list]:
    """The rows that have a label, with `text`, `text_pair` where there are two, and `label`; and how many have none.

    Every text is there, and not all are empty.
    """
    if missing := set(texts) - set(splits[split].column_names):
        raise InputError(f"the split {split!r} has no column {min(missing)!r}")
    rows = splits[split].select_columns(texts)
    for column in texts:
        values = rows[column][:]
        if None in values:
            raise InputError(f"row {values.index(None)} of {split!r} has no {column!r}: leave such rows out")
        if not any(value.strip() for value in values):
            raise InputError(f"all texts in the column {column!r} of {split!r} are empty")
    rows = rows.rename_columns(dict(zip(texts, ["text", "text_pair"][: len(texts)], strict=True)))
    rows = labels.add_to(split, rows)
    labelled = [row for row, value in enumerate(labels.values[split]) if value is not None]
    if len(labelled) == len(rows):
        return rows, []
    left_out = f"{len(rows) - len(labelled):,} of {len(rows):,} rows of {split!r} have no label and are left out"
    return rows.select(labelled), [left_out]


def _check_labels(dataset: str, labels: list, column: str, known: Labels) -> None:
    if known.several:
        return
    if len(set(labels)) < 2:
        shown = repr(labels[0] if known.names is None else known.names[labels[0]])
        raise InputError(f"all labels in the column {column!r} of {dataset!r} are {shown}: two classes are needed")


def _without_fifth(rows: Dataset, *, alike: bool) -> tuple[Dataset, Dataset]:
    """What is left of rows when a fifth is held out, and that fifth. alike: drawn at random, not by class."""
    held = hold_out(np.zeros(len(rows), int) if alike else np.array(rows["label"][:]), stratified=not alike)
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held))


def _copies(train: Dataset, test: Dataset | None) -> list[str]:
    """How many texts (pairs) to test on are to train on too, in words; without test, how many of train come again."""
    columns = [name for name in ("text", "text_pair") if name in train.column_names]
    known = set(zip(*(train[name][:] for name in columns), strict=True))
    if test is None:
        copies = len(train) - len(known)
        return [f"{copies:,} of {len(train):,} training texts repeat others, word for word"] if copies else []
    copies = sum(texts in known for texts in zip(*(test[name][:] for name in columns), strict=True))
    return [f"{copies:,} of {len(test):,} test texts are training texts too, word for word"] if copies else []


def _labelled_images(source: Source, *, several: bool, **choices):
    data, dataset = load_images(source, **choices), source.name
    if data.label_names is None or data.test is None:
        why = f" ({'; '.join(data.notes)})" if data.notes else ""
        raise InputError(
            f"the images of {dataset!r} have no labels to learn{why}: put them into class folders or give "
            "--label_column"
        )
    if not data.single_label and not several:
        raise InputError(f"the images of {dataset!r} have several labels each: one is needed")
    notes = data.notes + [f"{len(data.skipped)} images do not decode and are left out"] * bool(data.skipped)
    skipped = [*data.left_out, *data.skipped]
    return LabelledData(
        data.name, data.hub_id, data.labelled, data.test, data.test_source, data.label_names, notes, data.taken, skipped
    )
