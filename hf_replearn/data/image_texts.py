"""Images with their captions from anywhere: found good before training starts, and those to test on set apart.

N pairs
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import datasets
import numpy as np
from datasets import Dataset, Value
from datasets.fingerprint import Hasher

from hf_replearn.data.captioned_scenes import COUNTS, captioned_scenes
from hf_replearn.data.images import Skipped, check_levels, find_image_column, leave_out
from hf_replearn.data.inventory import LeftOut, kind_of
from hf_replearn.data.labels import is_image
from hf_replearn.data.scan import scan
from hf_replearn.data.sources import Source, counted, is_string, load_source, local_path, tells_of_rows
from hf_replearn.data.toy import is_made_here
from hf_replearn.errors import InputError

CAPTIONS = ("text", "texts", "caption", "captions", "txt", "sentence", "sentences", "title", "description", "alt_text")
FILES = ("image", "images", "img", "file_name", "filename", "file", "path", "filepath", "image_path", "image_file")
TEST_SPLITS = ("test", "validation")  # the first that is there is tested on
HOLD_OUT_SHARE, HOLD_OUT_MOST, HOLD_OUT_SEED = 0.1, 1000, 0  # of the images, where there is no such split
UNSEEN = "unseen"  # a further split to test on: what no training image shows
FEATURES = datasets.Features(
    image=datasets.Image(decode=False), text=Value("string"), image_id=Value("int64"), text_id=Value("int64")
)


@dataclass(frozen=True)
class PairData:
    """Images that all decode, each with a caption that has words; an image with several captions is several pairs.

    name, hub_id, skipped, fingerprint, taken, left_out, notes: as of `ImageData`.
    train, test: columns `image`, `text`, `image_id` and `text_id`: equal numbers are byte-identical images, or captions
                 of the same words, in any capitals and spaces; they count over all splits.
    unseen:      a further split to test on, of what no training image shows; None where there is none.
    test_source: where test comes from, in words.
    sizes:       how many images of each (H, W).
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset
    unseen: Dataset | None
    test_source: str
    sizes: Counter[tuple[int, int]]
    skipped: list[Skipped]
    fingerprint: str
    taken: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    UNIT: ClassVar[str] = "pair"
    stream: ClassVar[None] = None
    label_names: ClassVar[None] = None

    def canvas(self, image_size: int) -> int | None:
        """The `canvas` of `stack_images`, as of `ImageData`."""
        largest = max(map(max, self.sizes))
        return None if len(self.sizes) == 1 and largest <= 2 * image_size else min(2 * image_size, largest)


def load_pairs(
    dataset: str | Source,
    *,
    files: Sequence[str] = (),
    config: str | None = None,
    image_column: str | None = None,
    text_column: str | None = None,
    max_undecodable: float = 0.01,
) -> PairData:
    """Loads images with captions, decodes each image once, leaves out the bad ones and sets some pairs apart.

    dataset: `captioned-scenes` or `toy` (few of these); parquet, arrow or webdataset (.tar) with a column of images and
             one of texts, or of lists of texts; a folder of images with a metadata.csv or .jsonl (file_name, text), or
             with a .txt beside each image; a .csv, .tsv or .jsonl of captions and of paths of images, relative to it; a
             Hub id. Or what was found of one.
    files, config, max_undecodable: as of `load_images` and `load_corpus`.
    image_column, text_column: needed only where types and names of the columns leave a choice.

    Test is the split `test`, else `validation`, else a tenth of the images, at most 1,000, with all their captions.
    Rows without a caption are left out and listed. Raises InputError for whatever the user has to mend.
    """
    source = dataset if isinstance(dataset, Source) else find_pairs(dataset, files=files, config=config)
    dataset = source.name
    if "train" not in source.splits:
        raise InputError(f"the data has no split 'train', only {', '.join(source.splits)}")
    test = next((split for split in TEST_SPLITS if len(source.splits.get(split, []))), None)
    chosen = {split: source.splits[split] for split in ("train", test, UNSEEN) if split in source.splits}
    parts, without = {}, []
    for split, rows in chosen.items():
        parts[split], texts = with_captions(rows, split, image_column, text_column)
        parts[split], more = only_captioned(dataset, split, parts[split], texts)
        without += more
    found = {split: scan(rows) for split, rows in parts.items()}
    notes = check_levels(found, None, max_undecodable)
    parts, found, skipped = leave_out(dataset, parts, found, max_undecodable)
    sizes = Counter()
    for arrays in found.values():
        sizes.update(zip(arrays["height"].tolist(), arrays["width"].tolist(), strict=True))
    fingerprint = Hasher.hash([(found[split]["checksum"].tolist(), rows["texts"][:]) for split, rows in parts.items()])
    pairs = numbered(parts, {split: arrays["digest"] for split, arrays in found.items()})
    if test is None:
        pairs["train"], pairs["test"], test_source = hold_out(pairs["train"], dataset)
    else:
        pairs["test"], test_source = pairs.pop(test), f"the split {test!r}"
    if len(pairs["train"]) < 2 or not len(pairs["test"]):
        raise InputError(f"{dataset!r} has {len(pairs['train'])} pair(s) to train on, {len(pairs['test'])} to test on")
    known = set(pairs["train"]["image_id"][:])
    if copies := sum(image in known for image in pairs["test"]["image_id"][:]):
        test_source += f"; the images of {copies:,} of its pairs are byte-identical to training images"
    words = {"train": counted(len(pairs["train"]), "pair"), test or "held out": counted(len(pairs["test"]), "pair")}
    words |= {UNSEEN: counted(len(pairs[UNSEEN]), "pair")} if UNSEEN in pairs else {}
    return PairData(
        name=source.name,
        hub_id=source.hub_id,
        train=pairs["train"],
        test=pairs["test"],
        unseen=pairs.get(UNSEEN),
        test_source=test_source,
        sizes=sizes,
        skipped=skipped,
        fingerprint=fingerprint,
        taken=source.taken(words, left_out=without),
        left_out=[*source.left_out, *without],
        notes=notes + told_of_copies(pairs["train"]),
    )


# ---- sources


def find_pairs(dataset: str, *, files: Sequence[str] = (), config: str | None = None) -> Source:
    """The splits of a dataset of images with captions, with all their columns. Raises InputError."""
    if is_made_here(dataset, COUNTS):
        return Source(dataset, None, "toy", dict(captioned_scenes(dataset)))
    path = local_path(dataset)
    if path is not None and os.path.isfile(path) and kind_of(path)[0] in ("csv", "json"):
        return with_files(load_source(dataset, purpose="texts"), os.path.dirname(os.path.abspath(path)))
    return load_source(dataset, purpose="pairs", files=files, config=config)


def with_files(source: Source, folder: str) -> Source:
    """A table of captions, whose column of paths, relative to `folder`, becomes images."""
    splits = {}
    for split, rows in source.splits.items():
        named = [name for name in rows.features if name.lower() in FILES and is_string(rows.features[name])]
        if len(named) != 1:
            what = f"several columns may be the paths of the images: {', '.join(named)}" if named else (
                f"no column of {source.name!r} is called as paths of images are ({', '.join(FILES)}); the columns are "
                f"{', '.join(rows.features)}"
            )  # fmt: skip
            raise InputError(f"{what}: rename one")
        paths = [None if name is None else os.path.join(folder, name) for name in rows[named[0]][:]]
        images = [{"bytes": None, "path": path} for path in paths]
        others = rows.remove_columns(named)
        features = datasets.Features(image=datasets.Image(decode=False), **others.features)
        splits[split] = Dataset.from_dict({"image": images, **others.to_dict()}, features=features)
    return Source(source.name, source.hub_id, source.kind, splits, source.files, source.left_out)


# ---- columns and rows


def with_captions(
    rows: Dataset, split: str, image_column: str | None, text_column: str | None
) -> tuple[Dataset, list[list[str] | str | None]]:
    """The images alone, in a column `image`, and their captions: of a column, or of a .txt beside each image."""
    image = find_image_column(rows.features, image_column)
    column = find_text_column(rows.features, text_column)
    texts = beside(rows, image) if column is None else rows[column][:]
    if column is None and not any(texts):
        others = ", ".join(name for name in rows.features if name != image) or "none"
        raise InputError(
            f"the images of {split!r} have no captions: no column holds texts (others than the image: {others}), no "
            ".txt lies beside an image, and there is no metadata.csv with file_name and text; a table with paths of "
            "images is given itself: --dataset captions.csv"
        )
    rows = rows.select_columns(image).rename_columns({image: "image"})
    if rows.features["image"] == Value("binary_view"):  # which datasets cannot take for images
        rows = rows.cast_column("image", Value("large_binary"))
    return rows.cast_column("image", datasets.Image(decode=False)), texts


def find_text_column(features: datasets.Features, asked: str | None) -> str | None:
    """The column asked for, or that is called as captions are, or the only one of texts; None where there is none.
    Raises InputError where several may be meant."""
    texts = [name for name, kind in features.items() if is_string(getattr(kind, "feature", kind))]
    texts = [name for name in texts if not name.startswith("__") and not is_image(features[name])]  # of webdataset
    if asked is not None and asked not in texts:
        raise InputError(f"--text_column {asked!r} holds no texts; the columns are {', '.join(features)}")
    usual = [name for name in texts if name.lower() in CAPTIONS]
    found = [asked] if asked else usual or [name for name in texts if not tells_of_rows(name)]
    if len(found) > 1:
        raise InputError(f"several columns may be the captions: {', '.join(found)}; choose with --text_column")
    return next(iter(found), None)


def beside(rows: Dataset, image: str) -> list[str | None]:
    """What is written in the .txt beside each image; None where there is none. Raises InputError for no text."""
    texts = []
    for cell in rows.cast_column(image, datasets.Image(decode=False))[image][:]:
        file = Path(cell["path"]).with_suffix(".txt") if cell and cell["bytes"] is None and cell["path"] else None
        try:
            texts.append(file.read_text(encoding="utf-8-sig") if file is not None and file.is_file() else None)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the caption {str(file)!r} cannot be read: {' '.join(str(error).split())}") from error
    return texts


def only_captioned(dataset: str, split: str, rows: Dataset, texts: list) -> tuple[Dataset, list[LeftOut]]:
    """The rows that have a caption with words, in a column `texts`, (n,) strings each; and the others.

    Raises InputError where most have none.
    """
    lists = [cell if isinstance(cell, list) else [cell] for cell in texts]
    lists = [[" ".join(text.split()) for text in cell if text and not text.isspace()] for cell in lists]
    good = [row for row, cell in enumerate(lists) if cell]
    bad = [row for row, cell in enumerate(lists) if not cell]
    if len(bad) > len(good):
        raise InputError(
            f"{len(bad):,} of {len(lists):,} images of {split!r} in {dataset!r} have no caption, or an empty one, the "
            f"first in row {bad[0]}: is that the column of the captions (--text_column)?"
        )
    left_out = [LeftOut(f"{split} row {row}", "an image without a caption") for row in bad]
    rows = rows.select(good) if bad else rows
    return rows.add_column("texts", [lists[row] for row in good], feature=datasets.List(Value("string"))), left_out


def numbered(parts: dict[str, Dataset], digests: dict[str, np.ndarray]) -> dict[str, Dataset]:
    """A row for each caption, with the numbers of image and caption: columns of FEATURES."""
    images: dict[int, int] = {}
    captions: dict[str, int] = {}
    found = {}
    for split, rows in parts.items():
        texts = rows["texts"][:]
        of = np.repeat(np.arange(len(rows)), [len(cell) for cell in texts])
        flat = [text for cell in texts for text in cell]
        image_ids = [images.setdefault(digest, len(images)) for digest in digests[split][of].tolist()]
        text_ids = [captions.setdefault(text.casefold(), len(captions)) for text in flat]
        rows = rows.select_columns("image")
        rows = rows.select(of) if len(of) > len(rows) else rows
        for name, values in (("text", flat), ("image_id", image_ids), ("text_id", text_ids)):
            rows = rows.add_column(name, values, feature=FEATURES[name])
        found[split] = rows
    return found


def hold_out(rows: Dataset, dataset: str) -> tuple[Dataset, Dataset, str]:
    """Pairs to train on, pairs to test on, whose images are others, and these in words."""
    ids = np.array(rows["image_id"][:])
    images = np.unique(ids)
    count = min(max(1, round(HOLD_OUT_SHARE * len(images))), HOLD_OUT_MOST)
    if len(images) < 3:
        raise InputError(f"{dataset!r} has {len(images)} different image(s): at least 3 are needed, one to evaluate")
    held = np.isin(ids, np.random.default_rng(HOLD_OUT_SEED).permutation(images)[:count])
    told = (
        f"{count:,} of the {len(images):,} images of `train`, drawn at random (seed {HOLD_OUT_SEED}), never trained on"
    )
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held)), told


def told_of_copies(train: Dataset) -> list[str]:
    """What the user should know of captions and images that occur several times."""
    notes = []
    for name, what in (("image_id", "images"), ("text_id", "captions")):
        different = len(set(train[name][:]))
        if different < len(train):
            notes.append(
                f"{different:,} different {what} in {len(train):,} pairs: equal ones in a batch are all right answers"
            )
    return notes
