"""Text from anywhere: documents in the column `text`, with some of them set apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import datasets
import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset, concatenate_datasets

from hf_replearn.data.inventory import LeftOut
from hf_replearn.data.sources import Source, counted, is_string, load_source, tells_of_rows
from hf_replearn.errors import InputError

HOLD_OUT_SHARE, HOLD_OUT_MOST = 0.02, 2_000  # of the documents, where the data has no validation split
FIRST = "the first documents of the stream"


@dataclass(frozen=True)
class Shards:
    """Documents of a stream, in the pieces that it is read in.

    rows:  column `text`, of all documents.
    apart: documents of the first piece that are held out, and not given.
    names: of the files, for whoever has to mend one.
    """

    rows: IterableDataset
    apart: int
    names: list[str]

    def __len__(self) -> int:
        return self.rows.num_shards

    def shard(self, number: int) -> IterableDataset:
        """The documents of one piece."""
        part = self.rows.shard(num_shards=len(self), index=number)
        return part.skip(self.apart) if number == 0 and self.apart else part


@dataclass(frozen=True)
class Corpus:
    """Documents to learn from.

    name:        what a card may show: the Hub id, or the last part of the path.
    hub_id:      None for local data.
    train, test: column `text`, every one with something in it. Both IterableDataset when streamed.
    test_source: where test comes from, in words.
    taken:       one line of what was used of the source, and what was not.
    left_out:    the files and rows that are not used.
    shards:      of train, when it is streamed.
    """

    name: str
    hub_id: str | None
    train: Dataset | IterableDataset
    test: Dataset | IterableDataset
    test_source: str
    taken: str = ""
    left_out: list[LeftOut] = field(default_factory=list)
    shards: Shards | None = None

    def texts(self, characters: int) -> Iterator[str]:
        """Documents of train from its beginning, until there are about so many characters of them."""
        for row in self.train:
            if characters <= 0:
                return
            yield row["text"]
            characters -= len(row["text"])


def load_corpora(
    names: Sequence[str | Source],
    *,
    text_column: str | None = None,
    config: str | None = None,
    streaming: bool = False,
    files: Sequence[str] = (),
) -> Corpus:
    """One corpus of several (BERT's is Wikipedia and BookCorpus), their documents shuffled; see `load_corpus`.

    Raises InputError for whatever the user has to mend, and for several streams.
    """
    if streaming and len(names) > 1:
        raise InputError(f"--streaming reads one dataset, got {', '.join(names)}: put their files into one folder")
    parts = [
        load_corpus(name, text_column=text_column, config=config, streaming=streaming, files=files) for name in names
    ]
    if len(parts) == 1:
        return parts[0]
    train, test = (_shuffled([getattr(part, name) for part in parts]) for name in ("train", "test"))
    copies = _copies(train, test)
    return Corpus(
        name=" + ".join(part.name for part in parts),
        hub_id=None,
        train=train,
        test=test,
        test_source="; ".join(f"{part.test_source} of {part.name}" for part in parts) + copies,
        taken="\n".join(f"{part.name}: {part.taken}" for part in parts) + copies.replace("; ", "\nof all: ", 1),
        left_out=[LeftOut(f"{part.name}/{file}", reason) for part in parts for file, reason in part.left_out],
    )


def load_corpus(
    dataset: str | Source,
    *,
    text_column: str | None = None,
    config: str | None = None,
    streaming: bool = False,
    files: Sequence[str] = (),
) -> Corpus:
    """Loads documents and sets some apart.

    dataset: `toy` (the prose of Python's documentation); a file or a folder of parquet, arrow, json, csv, tsv or txt
        files, packed or not (a paragraph of .txt is a document), see data.inventory; a `save_to_disk` folder; or a
        Hub id. Or what was found of one.
    text_column: needed where there is no column `text`, and not just one of strings, or that is called `id`, `url` or
    the like.
    config: of a Hub dataset that has several.
    streaming: read the documents when they are needed, for corpora larger than the memory or the disk.
    files: patterns of the files of a folder that are meant.

    Test is the split `validation`, else `test`, else 2 % of the documents, at most 2,000: drawn at random, or the first
    ones of a stream. Rows without text are left out. Raises InputError for whatever the user has to mend.
    """
    if isinstance(dataset, Source):
        source, dataset = dataset, dataset.name
    else:
        source = load_source(dataset, purpose="texts", files=files, config=config, streaming=streaming)
    if "train" not in source.splits:
        raise InputError(f"the data has no split 'train', only {', '.join(source.splits)}")
    train, column, empty = _only_text(source.splits["train"], text_column, dataset, "train")
    documents, whole = _documents(train, column), train
    held_out = next((split for split in ("validation", "test") if split in source.splits), None)
    if held_out:
        test, _, more = _only_text(source.splits[held_out], text_column, dataset, held_out)
        parts = {"train": documents, held_out: f"held out, {_documents(test, column)}"}
        empty, held_out = empty + more, f"the split {held_out!r}"
    elif isinstance(train, IterableDataset):
        test, train = _first_apart(train)
        held_out = FIRST
        if not any(True for _ in islice(train, 1)):
            raise InputError(
                f"the stream {dataset!r} has no text to train on, besides the documents that are held out, its first "
                f"{HOLD_OUT_MOST:,}: read it without --streaming, or give it a validation split"
            )
        parts = {"train": f"{documents}, held out: {held_out}"}
    else:
        size = min(max(1, round(HOLD_OUT_SHARE * len(train))), HOLD_OUT_MOST)
        if len(train) < 2:
            blank = " (a blank line divides those of .txt)" if source.kind == "text" else ""
            raise InputError(
                f"{dataset!r} has {counted(len(train), 'document')}{blank}: at least 2 are needed, one to evaluate"
            )
        halves = train.train_test_split(test_size=size, seed=0)
        train, test, held_out = halves["train"], halves["test"], f"{counted(size, 'document')} at random"
        parts = {"train": f"{documents}, held out: {held_out}"}
    copies = _copies(train, test)
    return Corpus(
        name=source.name,
        hub_id=source.hub_id,
        train=train,
        test=test,
        test_source=held_out + copies,
        taken=source.taken(parts, left_out=empty) + copies,
        left_out=[*source.left_out, *empty],
        shards=_shards(whole, source, apart=HOLD_OUT_MOST if held_out == FIRST else 0),
    )


def _shards(rows: Dataset | IterableDataset, source: Source, *, apart: int) -> Shards | None:
    """Of documents that are streamed."""
    if isinstance(rows, Dataset):
        return None
    names = source.files.get("train") or [source.name]
    if len(names) != rows.num_shards:  # of the Hub
        names = [f"shard {number} of {rows.num_shards}" for number in range(rows.num_shards)]
    return Shards(rows, apart, names)


def _first_apart(stream: IterableDataset) -> tuple[IterableDataset, IterableDataset]:
    """The first documents of a stream, of its first shard alone, and all others. Of a stream of several shards each
    process of a loader would skip a part of these documents in its own shard, and train on the rest."""
    first, *others = (stream.shard(num_shards=stream.num_shards, index=shard) for shard in range(stream.num_shards))
    return first.take(HOLD_OUT_MOST), concatenate_datasets([first.skip(HOLD_OUT_MOST), *others])


def _documents(rows: Dataset | IterableDataset, column: str) -> str:
    count = "a stream" if isinstance(rows, IterableDataset) else counted(len(rows), "document")
    return f"{count} of column `{column}`"


def _copies(train: Dataset | IterableDataset, test: Dataset | IterableDataset) -> str:
    """How many of the held-out documents are in train too, in words; a stream is not looked through."""
    if isinstance(train, IterableDataset) or isinstance(test, IterableDataset):
        return ""
    known, asked = (part.with_format("arrow")[:]["text"].cast("large_string") for part in (train, test))
    count = pc.sum(pc.is_in(asked, value_set=known)).as_py() or 0
    return f"; {count:,} of the {len(test):,} held-out documents are in train too, word for word" if count else ""


def _shuffled(parts: list[Dataset]) -> Dataset:
    strings = [part.cast_column("text", datasets.Value("string")) for part in parts]  # files may hold large_string
    return concatenate_datasets(strings).shuffle(seed=0)


def _only_text(
    rows: Dataset | IterableDataset, asked: str | None, dataset: str, split: str
) -> tuple[Dataset | IterableDataset, str, list[LeftOut]]:
    """The column of the documents alone, called `text`; its own name; the rows without text, which are left out.

    Raises InputError where there is none, or no text in it.
    """
    name = _text_column(rows.features, asked)
    rows = rows.select_columns([name])
    rows = rows if name == "text" else rows.rename_column(name, "text")
    if isinstance(rows, IterableDataset):
        rows = rows.filter(_has_text)
        if not any(True for _ in islice(rows, 1)):
            raise InputError(f"{dataset!r} has no text: its documents are all empty")
        return rows, name, []
    texts = rows.with_format("arrow")[:]["text"]
    full = pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), False).to_numpy()
    empty = np.flatnonzero(~full)
    if len(empty) == len(rows):
        raise InputError(f"{dataset!r} has no text: all {len(rows):,} documents of {split!r} are empty")
    if 2 * len(empty) > len(rows):
        raise InputError(
            f"{len(empty):,} of {len(rows):,} rows of {split!r} in {dataset!r} have nothing in the column {name!r}: is "
            "that the column of the texts (--text_column)?"
        )
    left_out = [LeftOut(f"{split} row {row}", "no text") for row in empty.tolist()]
    return (rows.select(np.flatnonzero(full)) if left_out else rows), name, left_out


def _has_text(row: dict) -> bool:
    return bool(row["text"] and row["text"].strip())


def _text_column(features: datasets.Features, asked: str | None) -> str:
    strings = [name for name, kind in features.items() if is_string(kind)]
    columns = ", ".join(features)
    if asked is not None and asked not in strings:
        problem = f"is {_name(features[asked])}, not one text a row" if asked in features else "does not exist"
        raise InputError(f"--text_column {asked!r} {problem}; the columns are {columns}")
    if asked is None and "text" not in strings and (len(strings) != 1 or tells_of_rows(strings[0])):
        if "text" in features:
            raise InputError(f"the column 'text' holds {_name(features['text'])}, not one text a row (--text_column)")
        several = len(strings) > 1
        problem = f"several columns hold text: {', '.join(strings)}" if several else f"no column holds text: {columns}"
        raise InputError(f"{problem}; choose with --text_column")
    return asked or ("text" if "text" in strings else strings[0])


def _name(kind) -> str:
    return kind.dtype if isinstance(kind, datasets.Value) else type(kind).__name__
