"""Sentences of documents, and pairs of texts that belong together, from anywhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict, Value

from hf_replearn.data import toy
from hf_replearn.data.inventory import LeftOut
from hf_replearn.data.sources import Source, counted, is_string, load_source, tells_of_rows
from hf_replearn.data.text import HOLD_OUT_MOST, HOLD_OUT_SHARE, Corpus
from hf_replearn.errors import InputError

Unit = Literal["sentence", "row"]
COLUMNS = ("text", "partner", "negative")  # of pairs, and of triples
# What such columns are called where there are others too; the last four with a column of hard negatives.
USUAL = (
    ("sentence1", "sentence2"), ("question1", "question2"), ("premise", "hypothesis"), ("query", "passage"),
    ("question", "answer"), ("anchor", "positive"), ("anchor", "positive", "negative"),
    ("query", "positive", "negative"), ("sent0", "sent1", "hard_neg"), ("sent0", "sent1"),
)  # fmt: skip
JUDGES = ("label", "labels", "gold_label", "score", "similarity", "similarity_score", "is_duplicate", "class", "target")
CONDITION = re.compile(r"\s*([\w .-]*?\w)\s*(>=|<=|!=|=|>|<)\s*(.+?)\s*")
# The end of a sentence: a mark, maybe quotes, white space, and then no small letter; in Chinese and Japanese the mark.
END = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+(?=[^\sa-z])|(?<=[。！？])(?=\S)")
SHORTENED = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|vs|etc|e\.g|i\.e|cf|No|Fig)|(?:^|\s)[A-Z])\.$")


@dataclass(frozen=True)
class Sentences:
    """What a sentence encoder learns from.

    name, hub_id, test_source, taken, left_out: as of `Corpus`.
    train, test: rows of `text`; or of `text`, `partner` and maybe `negative`, see COLUMNS.
    columns:     these.
    fingerprint: of the rows of train.
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset
    test_source: str
    taken: str
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for column in COLUMNS if column in self.train.column_names)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for column in self.columns:
            for text in self.train[column][:]:
                digest.update(hashlib.blake2b(text.encode("utf-8", "surrogatepass")).digest())
        return f"{digest.hexdigest()[:16]} ({len(self.train)} rows)"

    def corpus(self) -> Corpus:
        """All its texts as documents, of which a tokenizer can be learnt."""
        texts = [text for column in self.columns for text in self.train[column][:]]
        rows = Dataset.from_dict({"text": texts})
        return Corpus(self.name, self.hub_id, rows, rows, self.test_source)


def sentences_of(corpus: Corpus, unit: Unit) -> Sentences:
    """The sentences of documents, by their marks, or each document as it is. Raises InputError where there are too few
    of them."""
    parts = {"train": corpus.train, "test": corpus.test}
    if unit == "sentence":
        parts = {name: rows.map(_cut, batched=True, remove_columns=rows.column_names) for name, rows in parts.items()}
    if min(map(len, parts.values())) < 2:
        raise InputError(f"{corpus.name!r} has {counted(len(parts['train']), 'text')}: give more text")
    taken = corpus.taken
    if unit == "sentence":
        taken += f"; cut into {len(parts['train']):,} sentences, held out {len(parts['test']):,}"
    return Sentences(corpus.name, corpus.hub_id, **parts, test_source=corpus.test_source, taken=taken,
                     left_out=corpus.left_out)  # fmt: skip


def _cut(batch: dict[str, list[str]]) -> dict[str, list[str]]:
    return {"text": [sentence for text in batch["text"] for sentence in cut(text)]}


def cut(text: str) -> list[str]:
    """The sentences of a text, in its order, each with a letter or digit: a mark ends one where no small letter comes
    after it, and not after a title or an initial."""
    found: list[str] = []
    for part in END.split(text):
        part = " ".join(part.split())
        if found and SHORTENED.search(found[-1]):
            found[-1] += f" {part}"
        elif part:
            found.append(part)
    return [part for part in found if re.search(r"\w", part)]


def toy_pairs() -> DatasetDict:
    """Sentences that stand one after the other in the prose of Python's documentation."""
    splits = {}
    for split, rows in toy.prose().items():
        documents = [cut(text) for text in rows["text"][:]]
        pairs = [pair for found in documents for pair in zip(found, found[1:], strict=False)]
        splits[split] = Dataset.from_dict(
            dict(zip(("text", "partner"), map(list, zip(*pairs, strict=True)), strict=True))
        )
    return DatasetDict(splits)


def load_pairs(
    dataset: str | Source,
    *,
    text_columns: str | None = None,
    where: str | None = None,
    files: Sequence[str] = (),
    config: str | None = None,
) -> Sentences:
    """Pairs of texts that belong together, or triples with one that does not, from a table.

    dataset:      `toy` (sentences of Python's documentation and the next ones), or a table as of `load_corpus`.
    text_columns: two names, or three, with commas between; needed where names and types leave a choice.
    where:        the rows that are pairs, such as "label=1" or "score>=4"; "all". Needed where a column may say that
                  the texts of a row do not belong together.

    Test is the split validation, else test, else 2 % of the rows, at most 2,000, at random. Rows with an empty text
    are left out. Raises InputError for whatever the user has to mend.
    """
    if toy.is_made_here(dataset, ["toy"]):
        source = Source("toy", None, "toy", dict(toy_pairs()))
    elif isinstance(dataset, Source):
        source = dataset
    else:
        source = load_source(dataset, purpose="texts", files=files, config=config)
    if "train" not in source.splits:
        raise InputError(f"the data has no split 'train', only {', '.join(source.splits)}")
    held_out = next((split for split in ("validation", "test") if split in source.splits), None)
    columns = _columns(source, text_columns)
    found, left_out = {}, []
    for split in filter(None, ("train", held_out)):
        rows = _where(source.splits[split], columns, where, split)
        found[split], more = _full(rows, columns, split)
        left_out += more
    if held_out is None:
        if len(found["train"]) < 4:
            raise InputError(f"{source.name!r} has {counted(len(found['train']), 'pair')} of texts: give more")
        size = min(max(2, round(HOLD_OUT_SHARE * len(found["train"]))), HOLD_OUT_MOST)
        halves = found["train"].train_test_split(test_size=size, seed=0)
        train, test, test_source = halves["train"], halves["test"], f"{counted(size, 'pair')} at random"
    else:
        train, test, test_source = found["train"], found[held_out], f"the split {held_out!r}"
    if min(len(train), len(test)) < 2:
        raise InputError(f"{source.name!r} has {len(train):,} pairs to train on and {len(test):,} held out: give more")
    told = f"{counted(len(train), 'row')} of the columns {', '.join(f'`{column}`' for column in columns)}"
    parts = {"train": told, held_out: f"held out, {counted(len(test), 'row')}"} if held_out else {
        "train": f"{told}, held out: {test_source}"}  # fmt: skip
    return Sentences(
        source.name, source.hub_id, train, test, test_source + _copies(train, test),
        source.taken(parts, left_out=left_out), [*source.left_out, *left_out],
    )  # fmt: skip


def _columns(source: Source, asked: str | None) -> list[str]:
    """The two or three columns of texts."""
    features = source.splits["train"].features
    strings, there = [name for name, kind in features.items() if is_string(kind)], ", ".join(features)
    if asked is not None:
        chosen = [name.strip() for name in asked.split(",")]
        if len(chosen) not in (2, 3) or len(set(chosen)) < len(chosen):
            raise InputError(f"--text_columns {asked!r}: name two columns, or three with that of texts that do not fit")
        if missing := [name for name in chosen if name not in strings]:
            problem = "holds no texts" if missing[0] in features else "does not exist"
            raise InputError(f"--text_columns: {missing[0]!r} {problem}; the columns are {there}")
        return chosen
    usual = [names for names in USUAL if set(names) <= set(strings)]
    if usual:
        return list(max(usual, key=len))
    texts = [name for name in strings if not tells_of_rows(name) and name.lower() not in JUDGES]
    if len(texts) == 2:
        return texts
    what = "one column of texts" if len(texts) == 1 else f"{len(texts)} columns of texts"
    raise InputError(
        f"{source.name!r} has {what}, and pairs are two: choose them with --text_columns a,b (or a,b,c with a column "
        f"of texts that do not fit); the columns are {there}"
    )


def _where(rows: Dataset, columns: list[str], where: str | None, split: str) -> Dataset:
    """The rows whose texts belong together."""
    judges = [name for name, kind in rows.features.items() if name not in columns and _judges(name, kind)]
    if where is None and judges:
        kind = rows.features[judges[0]]
        some = kind.names if isinstance(kind, ClassLabel) else sorted(set(rows[judges[0]][:1000]) - {None})[:3]
        raise InputError(
            f"the column {judges[0]!r} ({', '.join(map(str, some))}, …) may say which rows are pairs that belong "
            f"together: say --where '{judges[0]}={some[-1] if some else 1}', with >= or <= of numbers, or --where all"
        )
    if where in (None, "all"):
        return rows
    condition = CONDITION.fullmatch(where)
    if condition is None:
        raise InputError(f"--where {where!r}: say a column, one of = != >= <= > <, and a value, or all")
    name, sign, value = condition.groups()
    if name not in rows.features:
        raise InputError(
            f"--where: there is no column {name!r} in {split!r}; the columns are {', '.join(rows.features)}"
        )
    kept = np.flatnonzero(_fulfils(rows.features[name], rows[name][:], sign, value))
    if not len(kept):
        some = ", ".join(map(str, sorted(set(rows[name][:1000]) - {None}, key=str)[:5]))
        raise InputError(f"--where {where!r}: no row of {split!r} is so; {name!r} has {some}")
    return rows.select(kept)


def _judges(name: str, kind) -> bool:
    """Whether a column may say how the texts of a row belong together."""
    if name.lower() in JUDGES:
        return True
    number = isinstance(kind, Value) and not is_string(kind) and kind.dtype.startswith(("int", "uint", "float", "bool"))
    return (number or isinstance(kind, ClassLabel)) and not tells_of_rows(name)


def _fulfils(kind, values: list, sign: str, value: str) -> np.ndarray:
    """Which of the values compare so with what the user wrote. Raises InputError for words compared by size."""
    if isinstance(kind, ClassLabel) and value in kind.names:
        value = str(kind.names.index(value))
    numbers = [_number(cell) for cell in values]
    wanted = _number(value)
    if wanted is None or all(number is None for number in numbers):
        if sign not in ("=", "!="):
            raise InputError(f"--where: {sign} compares numbers, and {value!r} or the column's values are none")
        same = np.array([str(cell) == value for cell in values])
        return same if sign == "=" else ~same & np.array([cell is not None for cell in values])
    array = np.array([np.nan if number is None else number for number in numbers])
    compare = {"=": np.equal, "!=": np.not_equal, ">=": np.greater_equal, "<=": np.less_equal, ">": np.greater,
               "<": np.less}[sign]  # fmt: skip
    return compare(array, wanted) & ~np.isnan(array)


def _number(cell) -> float | None:
    if isinstance(cell, str) and cell.lower() in ("true", "false"):
        return float(cell.lower() == "true")
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _full(rows: Dataset, columns: list[str], split: str) -> tuple[Dataset, list[LeftOut]]:
    """The columns by our names, and the rows with an empty text, which are left out."""
    rows = rows.select_columns(columns)
    names = dict(zip(columns, COLUMNS, strict=False))
    table = rows.with_format("arrow")[:]
    full = np.ones(len(rows), dtype=bool)
    for column in columns:
        full &= pc.fill_null(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(table[column])), 0), False).to_numpy()
    empty = np.flatnonzero(~full)
    if 2 * len(empty) > len(rows):
        raise InputError(
            f"{len(empty):,} of {len(rows):,} rows of {split!r} have an empty text in {', '.join(columns)}: are these "
            "the columns of the texts (--text_columns)?"
        )
    texts = {names[column]: [text for text, use in zip(table[column].to_pylist(), full, strict=True) if use]
             for column in columns}  # fmt: skip
    return Dataset.from_dict(texts), [LeftOut(f"{split} row {row}", "an empty text") for row in empty.tolist()]


def _copies(train: Dataset, test: Dataset) -> str:
    """How many of the held-out pairs are in train too, in words."""
    known = set(zip(train["text"][:], train["partner"][:], strict=True))
    count = sum(pair in known for pair in zip(test["text"][:], test["partner"][:], strict=True))
    return f"; {count:,} of the {len(test):,} held-out pairs are in train too, word for word" if count else ""
