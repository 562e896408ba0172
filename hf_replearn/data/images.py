"""Images from anywhere: found good before training starts, and those to test on set apart.

H height, W width
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value
from datasets.fingerprint import Hasher

from hf_replearn.data.channels import NO_TIFFFILE
from hf_replearn.data.decoding import UndecodableImage, centre_crop, decode_rgb, stack_images
from hf_replearn.data.inventory import LeftOut
from hf_replearn.data.labels import Labels, choose_label, has_labels, is_image, read_labels
from hf_replearn.data.scan import COLOUR16, GREY16, GREY32, MANY16, WITH_A_RANGE, scan
from hf_replearn.data.sources import Source, counted, load_source
from hf_replearn.data.splits import some
from hf_replearn.errors import InputError

if TYPE_CHECKING:
    from hf_replearn.data.streams import Shards

__all__ = [
    "ImageData", "Skipped", "UndecodableImage", "centre_crop", "decode_rgb", "load_images", "stack_images",
]  # fmt: skip

# Names of a piece of a download: images_part_1, images_001, batch2.
PART = re.compile(r"(.*[_\-. ])?(images?|imgs?|part|shard|chunk|batch|volume)[_\-. ]?\d+", re.IGNORECASE)
TEST_SPLITS = ("test", "validation")  # the first that will do is tested on
HOLD_OUT_SHARE, HOLD_OUT_MOST, HOLD_OUT_SEED = 0.2, 10_000, 0
UNCOUNTED = 2**40  # images
DARK = 2**14  # levels; 16-bit images that use fewer hold 14, 12 or 10 bits, and would be nearly black


class Skipped(NamedTuple):
    """An image left out. `row` counts from 0 in the split as loaded; `file` is None where the data records no name."""

    split: str
    row: int
    file: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file or 'image'} ({self.split} row {self.row}: {self.reason})"


@dataclass(frozen=True)
class ImageData:
    """Images that all decode.

    name:        what a card may show: the Hub id, or the last part of the path.
    hub_id:      None for local data.
    train, test: columns `image` (datasets.Image(decode=False): {"bytes", "path"}) and, with labels, `label` (an int, or
                 a list of ints for multi-label data; null for an image of train that has none); `value_range` where
                 one was given. test is None for unlabelled data without a test split.
    test_source: where test comes from, in words, and what is to be known about it.
    label_names: class names by number, or None without labels.
    sizes:       how many images of each (H, W) in train and test together.
    skipped:     the images that did not decode.
    fingerprint: of the bytes and labels of all kept images in order, whatever container they came in.
    taken:       one line of what was used of the source, and what was not.
    left_out:    the files of the source that are not used.
    notes:       what the user should know of the data, a sentence each.
    stream:      all images to train on, where `train` are but those that were looked at: see data.streams.
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset | None
    test_source: str
    label_names: list[str] | None
    sizes: Counter[tuple[int, int]]
    skipped: list[Skipped]
    fingerprint: str
    taken: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stream: Shards | None = None

    UNIT: ClassVar[str] = "image"

    @property
    def images(self) -> int:
        """How many there are to train on; of a stream that nobody has counted, more than any batch."""
        return len(self.train) if self.stream is None else self.stream.known or UNCOUNTED

    @cached_property
    def labelled(self) -> Dataset:
        """The images of train that have a label."""
        return with_label(self.train)

    @property
    def single_label(self) -> bool:
        """Whether each image has just one class."""
        return isinstance(self.train.features.get("label"), ClassLabel)

    @property
    def common_size(self) -> tuple[int, int] | None:
        """(H, W) if all images share it, else None."""
        return next(iter(self.sizes)) if len(self.sizes) == 1 else None

    def canvas(self, image_size: int) -> int | None:
        """The `canvas` of `stack_images` for views of image_size pixels; None where images stack as they are.

        Twice image_size: a crop of a quarter of the area keeps its sharpness, and a batch fits into memory. Of a stream
        nobody knows whether all images have one size.
        """
        largest = max(map(max, self.sizes))
        if self.stream is not None:
            return min(2 * image_size, largest)
        return None if self.common_size and largest <= 2 * image_size else min(2 * image_size, largest)


def load_images(
    dataset: str | Source,
    *,
    files: Sequence[str] = (),
    image_column: str | None = None,
    label_column: str | None = None,
    label_type: Literal["classes", "ignored"] | None = None,
    max_undecodable: float = 0.01,
    value_range: Sequence[float] | None = None,
    channels: int | None = None,
) -> ImageData:
    """Loads images, decodes each once, leaves out the bad ones and sets the test images apart.

    dataset: `toy`; a folder of images, flat or in class folders, or these in train/, test/ or validation/; a parquet or
             arrow file, or {train,test,validation}.* of them in a folder; a `save_to_disk` folder; or a Hub id: see
             data.inventory. Or what was found of one.
    files:   patterns of the files of a folder that are meant.
    image_column, label_column: needed only where the types of the columns leave a choice.
    label_type: what the labels are where data.labels finds two readings; "ignored": there are none.
    max_undecodable: the largest share of images that may be left out.
    value_range: the levels of images of more than 8 bits that become black and white; none: 0 and 65,535 for 16 bits.
    channels: how many each image must have; none: RGB is made of all.

    Test is the split `test`, else `validation`: the first that has labels if train has; its unlabelled images are left
    out. Labelled data with neither gives up a stratified 20 % of what has labels in train, at most 10,000 images.
    InputError for whatever the user has to mend.
    """
    check_range(value_range)
    source = dataset
    if not isinstance(source, Source):
        source = load_source(dataset, purpose="images", files=files, arrays=channels is not None)
    dataset = source.name
    if source.kind == "images" and label_type is None:
        refuse_folders_that_need_not_be_classes(source)
    parts, labels, notes = _read_columns(source.splits, image_column, label_column, label_type)
    found = {split: scan(rows, channels=channels) for split, rows in parts.items()}
    if any(NO_TIFFFILE in arrays["reason"] for arrays in found.values()):
        raise InputError(NO_TIFFFILE)
    notes += check_levels(found, value_range, max_undecodable)
    parts, found, skipped = leave_out(dataset, parts, found, max_undecodable)
    sizes = Counter()
    for arrays in found.values():
        sizes.update(zip(arrays["height"].tolist(), arrays["width"].tolist(), strict=True))
    names = None if labels is None else labels.names
    contents = [
        (found[split]["checksum"].tolist(), rows["label"][:] if "label" in rows.features else None)
        for split, rows in parts.items()
    ]
    fingerprint = Hasher.hash((contents, names))
    if value_range is not None:
        kind = datasets.List(Value("float64"))
        parts = {split: _with_column(rows, "value_range", list(value_range), kind) for split, rows in parts.items()}
    if channels is not None:
        parts = {split: _with_column(rows, "channels", channels, Value("int64")) for split, rows in parts.items()}
    train, test, test_source, more = set_test_apart(dataset, parts, found)
    if len(train) < 2:
        raise InputError(f"{dataset!r} has {len(train) or 'no'} image to train on: at least 2 are needed")
    return ImageData(
        name=source.name,
        hub_id=source.hub_id,
        train=train,
        test=test,
        test_source=test_source,
        label_names=names,
        sizes=sizes,
        skipped=skipped,
        fingerprint=fingerprint,
        taken=source.taken(_in_words(list(parts), train, test)),
        left_out=source.left_out,
        notes=notes + more,
    )


def _with_column(rows: Dataset, name: str, value, kind) -> Dataset:
    """The rows with a column that has one value in all."""
    return rows.add_column(name, [value] * len(rows), feature=kind)


def _in_words(splits: list[str], train: Dataset, test: Dataset | None) -> dict[str, str]:
    """What is taken of each split."""
    held_out = 0 if test is None else len(test)
    if len(splits) > 1:
        return {"train": counted(len(train), "image"), splits[1]: counted(held_out, "image")}
    return {"train": counted(len(train), "image") + f", and {held_out:,} held out" * bool(held_out)}


# ---- columns


def _read_columns(
    splits: dict[str, Dataset], image_column: str | None, label_column: str | None, label_type: str | None
) -> tuple[dict[str, Dataset], Labels | None, list[str]]:
    """`train` and the split to test on, if any, with `image` and, if train has labels, `label`; and notes."""
    if "train" not in splits:
        raise InputError(f"the data has no split 'train', only {', '.join(splits)}")
    features, notes = splits["train"].features, []
    image = find_image_column(features, image_column)
    others = datasets.Features({name: kind for name, kind in features.items() if name != image})
    label = None if label_type == "ignored" else choose_label(others, label_column)
    if label is None and others and label_type != "ignored":
        notes.append(f"no labels: --label_column could name one of the columns {', '.join(others)}")
    if label is not None and not has_labels(splits["train"], label):
        notes.append(f"no labels: no image of 'train' has one in the column {label!r}")
        label = None
    tests = [split for split in TEST_SPLITS if len(splits.get(split, []))]
    fit = [split for split in tests if label is None or has_labels(splits[split], label)]
    notes += [f"no image of {split!r} has a label: it is not used" for split in tests if split not in fit]
    chosen = {split: splits[split] for split in ("train", *fit[:1])}
    labels = None
    if label is not None:
        try:
            labels = read_labels(chosen, label, label_type=label_type, scores=False)
        except InputError as error:
            raise InputError(f"{error}; to pretrain without labels, say --label_type ignored") from None
        present = {name for cell in labels.values["train"] if cell is not None for name in np.atleast_1d(cell).tolist()}
        notes += labels.notes
        if len(present) < 2 - labels.several:
            shown = ", ".join(repr(labels.names[number]) for number in present)
            notes.append(f"no labels: all images of 'train' have the same, {shown}, in the column {label!r}")
            labels = None
    parts = {}
    for split, rows in chosen.items():
        rows = rows.select_columns(image).rename_columns({image: "image"})
        if rows.features["image"] == Value("binary_view"):  # which datasets cannot take for images
            rows = rows.cast_column("image", Value("large_binary"))
        rows = rows.cast_column("image", datasets.Image(decode=False))
        parts[split] = rows if labels is None else labels.add_to(split, rows)
    return parts, labels, notes


def refuse_folders_that_need_not_be_classes(source: Source, *, column: str = "image", noun: str = "image") -> None:
    """images_1, images_2, … are more likely parts of a large download; and of amazon/mug, amazon/pen, webcam/mug,
    webcam/pen either level may be that of the classes. column: of the files."""
    classes = getattr(source.splits["train"].features.get("label"), "names", [])
    if len(classes) < 2:
        return
    if all(PART.fullmatch(name) for name in classes):
        raise InputError(
            f"are the folders {some(classes)} of {source.name!r} classes, or parts of one set of {noun}s? Say "
            f"--label_type classes if they are classes; if not, put the {noun}s into folders of their classes, or, to "
            "pretrain without labels, say --label_type ignored"
        )
    paths = [file["path"] for file in source.splits["train"][column]]
    root, inner = os.path.commonpath(paths), {name: set() for name in classes}
    for path in paths:
        label, *folders = os.path.relpath(path, root).split(os.sep)[:-1] or [""]
        inner.setdefault(label, set()).update(enumerate(folders))
    levels = defaultdict(list)
    for level, name in sorted(set.intersection(*inner.values())):
        levels[level].append(name)
    if alike := next((names for names in levels.values() if len(names) > 1), None):
        raise InputError(
            f"what are the classes of {source.name!r}: {some(classes)}, or {some(alike)}, which lie in each of them? "
            "Say --label_type classes for the former; for the latter, let their folders be the first"
        )


def find_image_column(features: datasets.Features, asked: str | None) -> str:
    """The column asked for, or the only one of images. Raises InputError where there is none, or several."""
    pictures = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    packed = [name for name, kind in features.items() if is_image(kind) and name not in pictures]
    found = pictures or packed
    if asked is not None and asked not in pictures + packed:
        raise InputError(f"--image_column {asked!r} holds no images; the columns are {', '.join(features)}")
    if asked is None and len(found) > 1:
        raise InputError(f"several columns may be the image: {', '.join(found)}; choose with --image_column")
    if not found:
        raise InputError(f"no column holds images; the columns are {', '.join(features)} (see --image_column)")
    return asked or found[0]


# ---- which images


def check_range(value_range: Sequence[float] | None) -> None:
    """Raises InputError for what is no range of levels."""
    if value_range is None:
        return
    if len(value_range) != 2 or not all(map(math.isfinite, value_range)) or value_range[0] >= value_range[1]:
        shown = ",".join(f"{level:g}" for level in value_range)
        raise InputError(f"--value_range must be LOW,HIGH, such as 0,4095, got {shown}")


def check_levels(found: dict[str, dict], value_range: Sequence[float] | None, max_undecodable: float) -> list[str]:
    """Refuses images that would be nearly black, or have no scale, and a range that no image has a use for; and notes
    of the range that levels of more than 8 bits have, and of what of the files is not shown."""
    depth, low, high, partly, reason = (
        np.concatenate([arrays[name] for arrays in found.values()])
        for name in ("depth", "low", "high", "partly", "reason")
    )
    notes = []
    if (reason != "").sum() > max_undecodable * len(reason):
        return notes  # there are worse things to say
    if partly.any():
        notes.append(
            f"{partly.sum():,} images are TIFFs of several pages, or of more than 4 bands, of which RGB shows the "
            "first: --channels N takes N pages or bands for channels"
        )
    deep = np.isin(depth, ("", COLOUR16), invert=True)
    if value_range is not None:
        if not deep.any() and (COLOUR16 not in depth or tuple(value_range) != (0, 65535)):
            raise InputError("--value_range is of images of more than 8 bits a channel, and there are none")
        beyond = deep & ((low < value_range[0]) | (high > value_range[1]))
        cut = f"; {beyond.sum():,} images have levels beyond, which are cut off" * bool(beyond.any())
        return [*notes, f"levels from {value_range[0]:g} to {value_range[1]:g} become black to white{cut}"]
    plain = np.isin(depth, WITH_A_RANGE, invert=True)
    for arrays in found.values():
        without = [f"{kind} without --value_range" for kind in arrays["depth"]]
        arrays["reason"] = np.where(np.isin(arrays["depth"], WITH_A_RANGE), arrays["reason"], without)
    if plain.sum() > max_undecodable * len(depth):
        kinds = ", ".join("32-bit greys" if kind == GREY32 else f"of {kind}" for kind in np.unique(depth[plain]))
        raise InputError(
            f"{plain.sum():,} of {len(depth):,} images are {kinds}, of levels {low[plain].min():g} to "
            f"{high[plain].max():g}: say which levels become black and white, such as --value_range "
            f"{_likely_range(low[plain].min(), high[plain].max())}"
        )
    for kind in (GREY16, COLOUR16, MANY16):
        rows = depth == kind
        if rows.any() and np.median(high[rows] - low[rows]) < DARK:
            raise InputError(darkness(kind, low[rows], high[rows]))
    return [*notes, "levels from 0 to 65,535, the range of 16 bits, become black to white"] if deep.any() else notes


def darkness(kind: str, low: np.ndarray, high: np.ndarray) -> str:
    """What to say of images of 16 bits that use a small part of their range. low, high: (N,), of each."""
    few = high - low < DARK
    least, most = int(low[few].min()), int(high[few].max())
    said = f"{few.sum():,} {kind} images have levels from {least:,} to {most:,} only, of 0 to 65,535"
    whole = "--value_range 0,65535 to take them as they are"
    if kind == COLOUR16:
        return f"{said}, and would lose most of them: convert them to 8 bits, or say {whole}"
    if least == most:
        return f"{said}: say {whole}"
    likely = f"--value_range {_likely_range(least, most)} to use that range"
    return f"{said}, and would be nearly of one grey: say {likely}, or {whole}"


def _likely_range(least: float, most: float) -> str:
    """From 0 to what so many bits can hold where levels begin near 0, else what there is."""
    if least >= 0 and most <= 1:
        return "0,1"
    if float(most).is_integer() and 0 <= 4 * least <= most:
        return f"0,{2 ** int(most).bit_length() - 1}"
    return f"{least:g},{most:g}"


def leave_out(
    dataset: str, parts: dict[str, Dataset], found: dict[str, dict], max_undecodable: float
) -> tuple[dict[str, Dataset], dict[str, dict], list[Skipped]]:
    """The images that decode, and what was found of them; those that do not."""
    kept, measured, skipped = {}, {}, []
    for split, rows in parts.items():
        reasons = found[split]["reason"]
        good, bad = np.flatnonzero(reasons == ""), np.flatnonzero(reasons != "").tolist()
        skipped += [Skipped(split, row, (rows[row]["image"] or {}).get("path"), reasons[row]) for row in bad]
        kept[split] = rows.select(good) if bad else rows
        measured[split] = {name: values[good] for name, values in found[split].items()}
    total = sum(map(len, parts.values()))
    if len(skipped) > max_undecodable * total:
        raise InputError(
            f"{len(skipped)} of {total} images ({len(skipped) / total:.1%}) in {dataset!r} do not decode, more than "
            f"--max_undecodable {max_undecodable:g}: {', '.join(map(str, skipped[:3]))}{', …' * (len(skipped) > 3)}"
        )
    return kept, measured, skipped


# ---- what is tested on


def set_test_apart(
    dataset: str, parts: dict[str, Dataset], found: dict[str, dict], *, noun: str = "image"
) -> tuple[Dataset, Dataset | None, str, list[str]]:
    """Images, or what `noun` says, to train on, those to test on, these in words, and notes.

    parts: `train`, and maybe one split more. found: of each the `digest` (N,) of every row.
    """
    train, [*names] = parts["train"], [split for split in parts if split != "train"]
    digests, test, facts, notes = found["train"]["digest"], None, [], []
    missing = len(train) - len(with_label(train))
    if missing:
        notes.append(f"{missing:,} of the {len(train):,} {noun}s of 'train' have no label, and count in no score")
    if names:
        [split] = names
        source, test, tested = f"split `{split}`", with_label(parts[split]), found[split]["digest"]
        if not len(test):
            raise InputError(f"no {noun} in the split {split!r} of {dataset!r} decodes")
        if len(test) < len(tested):
            facts.append(f"{len(tested) - len(test):,} of its {len(tested):,} {noun}s have no label and are left out")
            tested = tested[[cell is not None for cell in parts[split]["label"][:]]]
    elif "label" in train.features:
        rows, held, source = _hold_out(
            train["label"][:], multi_label=isinstance(train.features["label"], datasets.List), noun=noun
        )
        if held is not None:
            test, tested = train.select(held), digests[held]
            train, digests = train.select(rows), digests[rows]
    else:
        source = "none"
    if test is not None and (copies := int(np.isin(tested, digests).sum())):
        facts.append(f"{copies:,} of {len(test):,} test {noun}s are byte-identical to training {noun}s")
    if copies := len(digests) - len(np.unique(digests)):
        notes.append(f"{copies:,} of {len(train):,} training {noun}s are byte-identical copies of others")
    return train, test, source + f" ({'; '.join(facts)})" * bool(facts), [*notes, *facts]


def _hold_out(labels: list, *, multi_label: bool, noun: str) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Rows to train on, rows to test on, and these in words, for labels (N,) of which some may be None.

    Every fifth of the rows sorted by class is a stratified sample. The only row of a class stays for training, and the
    rows of multi-label data are drawn at random.
    """
    rows = np.flatnonzero([label is not None for label in labels])
    classes = np.zeros(len(rows), int) if multi_label else np.array([labels[row] for row in rows])
    order = np.random.default_rng(HOLD_OUT_SEED).permutation(len(rows))
    order = order[np.argsort(classes[order], kind="stable")]
    order = order[np.bincount(classes)[classes[order]] > 1]
    count = min(math.ceil(len(order) * HOLD_OUT_SHARE), HOLD_OUT_MOST)
    if count == 0:
        return np.arange(len(labels)), None, "none"
    test = np.sort(rows[order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]])
    how = "drawn at random" if multi_label else "in proportion to the classes"
    what = f"{noun}s" if len(rows) == len(labels) else f"labelled {noun}s"
    source = f"{count:,} of the {len(rows):,} {what} of `train`, {how} (seed {HOLD_OUT_SEED}), never trained on"
    return np.setdiff1d(np.arange(len(labels)), test), test, source


def with_label(rows: Dataset) -> Dataset:
    """The rows that have a label; all where there are none."""
    if "label" not in rows.features:
        return rows
    labelled = [row for row, label in enumerate(rows["label"][:]) if label is not None]
    return rows if len(labelled) == len(rows) else rows.select(labelled)
