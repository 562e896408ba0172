"""Text from anywhere: documents in the column `text`, with some of them set apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import datasets
from datasets import Dataset, IterableDataset, concatenate_datasets

from hf_replearn.data import toy
from hf_replearn.data.sources import TEXTS, load_tables
from hf_replearn.errors import InputError

HOLD_OUT_SHARE, HOLD_OUT_MOST = 0.02, 2_000  # of the documents, where the data has no validation split


@dataclass(frozen=True)
class Corpus:
    """Documents to learn from.

    name:        what a card may show: the Hub id, or the last part of the path.
    hub_id:      None for local data.
    train, test: column `text`. Both IterableDataset when streamed.
    test_source: where test comes from, in words.
    """

    name: str
    hub_id: str | None
    train: Dataset | IterableDataset
    test: Dataset | IterableDataset
    test_source: str

    def texts(self, characters: int) -> Iterator[str]:
        """Documents of train from its beginning, until there are about so many characters of them."""
        for row in self.train:
            if characters <= 0:
                return
            yield row["text"] or ""
            characters -= len(row["text"] or "")


def load_corpora(
    names: Sequence[str], *, text_column: str | None = None, config: str | None = None, streaming: bool = False
) -> Corpus:
    """One corpus of several (BERT's is Wikipedia and BookCorpus), their documents shuffled; see `load_corpus`.

    Raises InputError for whatever the user has to mend, and for several streams.
    """
    if streaming and len(names) > 1:
        raise InputError(f"--streaming reads one dataset, got {', '.join(names)}: put their files into one folder")
    parts = [load_corpus(name, text_column=text_column, config=config, streaming=streaming) for name in names]
    if len(parts) == 1:
        return parts[0]
    return Corpus(
        name=" + ".join(part.name for part in parts),
        hub_id=None,
        train=_shuffled([part.train for part in parts]),
        test=_shuffled([part.test for part in parts]),
        test_source="; ".join(f"{part.test_source} of {part.name}" for part in parts),
    )


def load_corpus(
    dataset: str, *, text_column: str | None = None, config: str | None = None, streaming: bool = False
) -> Corpus:
    """Loads documents and sets some apart.

    dataset: `toy` (the prose of Python's documentation); a .parquet, .arrow, .jsonl, .json, .csv or .txt file, or a
        folder of {train,validation,test}.* of them (a paragraph of .txt is a document); a `save_to_disk` folder; or a
        Hub id.
    text_column: needed where there is no column `text` and several columns hold strings.
    config: of a Hub dataset that has several.
    streaming: read the documents when they are needed, for corpora larger than the memory or the disk.

    Test is the split `validation`, else `test`, else 2 % of the documents, at most 2,000: drawn at random, or the first
    ones of a stream. Raises InputError for whatever the user has to mend.
    """
    splits = toy.prose() if dataset == "toy" else load_tables(dataset, TEXTS, config=config, streaming=streaming)
    if splits is None:
        suffixes = ", ".join(suffix for suffixes in TEXTS.values() for suffix in suffixes)
        raise InputError(f"there is no text in {dataset!r}: needs files ending in {suffixes}")
    if "train" not in splits:
        raise InputError(f"the data has no split 'train', only {', '.join(splits)}")
    local = dataset == "toy" or Path(dataset).exists()
    train = _only_text(splits["train"], text_column, dataset)
    held_out = next((split for split in ("validation", "test") if split in splits), None)
    if held_out:
        test, source = _only_text(splits[held_out], text_column, dataset), f"the split {held_out!r}"
    elif isinstance(train, IterableDataset):
        test, train, source = train.take(HOLD_OUT_MOST), train.skip(HOLD_OUT_MOST), "the first documents of the stream"
    else:
        size = min(max(1, round(HOLD_OUT_SHARE * len(train))), HOLD_OUT_MOST)
        if len(train) < 2:
            raise InputError(f"{dataset!r} has {len(train)} document(s): at least 2 are needed, one to evaluate")
        parts = train.train_test_split(test_size=size, seed=0)
        train, test, source = parts["train"], parts["test"], f"{size} documents at random"
    return Corpus(
        name=Path(dataset).resolve().name if local and dataset != "toy" else dataset,
        hub_id=None if local else dataset,
        train=train,
        test=test,
        test_source=source,
    )


def _shuffled(parts: list[Dataset]) -> Dataset:
    strings = [part.cast_column("text", datasets.Value("string")) for part in parts]  # files may hold large_string
    return concatenate_datasets(strings).shuffle(seed=0)


def _only_text(rows: Dataset | IterableDataset, asked: str | None, dataset: str) -> Dataset | IterableDataset:
    """The column of the documents alone, called `text`. Raises InputError where there is none, or no text in it."""
    features = rows.features or rows._resolve_features().features  # a stream may have to look at its first rows
    strings = [name for name, kind in features.items() if _is_string(kind)]
    columns = ", ".join(features)
    if asked is not None and asked not in strings:
        problem = f"is {_name(features[asked])}, not one text a row" if asked in features else "does not exist"
        raise InputError(f"--text_column {asked!r} {problem}; the columns are {columns}")
    if asked is None and "text" not in strings and len(strings) != 1:
        if "text" in features:
            raise InputError(f"the column 'text' holds {_name(features['text'])}, not one text a row (--text_column)")
        problem = f"several columns hold text: {', '.join(strings)}" if strings else f"no column holds text: {columns}"
        raise InputError(f"{problem}; choose with --text_column")
    name = asked or ("text" if "text" in strings else strings[0])
    rows = rows.select_columns([name])
    rows = rows if name == "text" else rows.rename_column(name, "text")
    if not any(row["text"] and not row["text"].isspace() for row in islice(rows, 10_000)):
        raise InputError(f"{dataset!r} has no text: its first documents are all empty")
    return rows


def _is_string(kind) -> bool:
    return isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string")


def _name(kind) -> str:
    return kind.dtype if isinstance(kind, datasets.Value) else type(kind).__name__
