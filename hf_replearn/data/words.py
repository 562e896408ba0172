"""Words as data: documents as numbers of their words, pairs of words with people's scores, and analogies."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset

from hf_replearn.errors import InputError

AT_ONCE = 1000  # documents that are cut into words together
PAIR, QUESTION = ("word1", "word2", "score"), ("a", "b", "c", "d")  # columns of the files
TABLES = (".csv", ".tsv")
WANTED = (
    "a table (.csv, .tsv) with the columns word1, word2, score, or a, b, c, d and maybe category, or the text file of "
    "Google's analogies (`: category`, then four words a line)"
)


@dataclass(frozen=True)
class WordTask:
    """What vectors of words are judged by.

    words:  of each pair two, or of each analogy four: a is to b as c is to d.
    scores: of pairs, what people say; None of analogies. categories: of analogies, the name of each one's.
    """

    name: str
    words: list[tuple[str, ...]]
    scores: np.ndarray | None = None
    categories: list[str] | None = None


def word_tasks(place: str) -> list[WordTask]:
    """Those of a file, or of all files of a folder. Raises InputError, in one line, for what is none."""
    path = Path(place)
    if not path.exists():
        raise InputError(f"--dataset {place}: vectors of words are judged by files, and there is none: {WANTED}")
    kept = sorted(file for file in path.iterdir() if not file.name.startswith(".")) if path.is_dir() else [path]
    tasks = [_read(file) for file in kept]
    if not tasks:
        raise InputError(f"--dataset {place} is an empty folder: vectors of words are judged by {WANTED}")
    if twice := {task.name for task in tasks if [other.name for other in tasks].count(task.name) > 1}:
        raise InputError(f"--dataset {place} has two files called {min(twice)!r}: give one of them")
    return tasks


def is_of_words(place: str) -> bool:
    """Whether a dataset is such a file, or a folder of such; else it is of texts, or of whatever else.

    Raises InputError for a table with the columns of words whose cells are texts: it may be meant as either.
    """
    path = Path(place)
    if not path.exists():  # a Hub id, or the name of a file that `word_tasks` tells to be missing
        return path.suffix in (*TABLES, ".txt")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    tables = [file for file in files if file.suffix in TABLES and _has_words(file)]
    return bool(tables) or (any(file.suffix == ".txt" for file in files) and not any(map(_is_data, files)))


def _is_data(file: Path) -> bool:
    """Whether it is a table, or a folder of such, and not a text beside them."""
    return file.is_dir() or file.suffix in (*TABLES, ".parquet", ".json", ".jsonl", ".arrow")


def _has_words(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter=_separator(path))
            columns = {name.strip().lower(): name for name in table.fieldnames or [] if name}
            wanted = next((names for names in (PAIR, QUESTION) if set(names) <= set(columns)), ())
            cells = [row[columns[name]] or "" for row in table for name in wanted if name != "score"]
    except (OSError, UnicodeDecodeError, csv.Error):  # told by whoever reads it as what it is
        return False
    texts = [cell for cell in cells if len(cell.split()) > 1]
    if 2 * len(texts) > len(cells):
        raise InputError(
            f"{path} has the columns {', '.join(wanted)}, of words, and texts such as {texts[0][:40]!r} in them: "
            "for words, give one in each; for pairs of sentences, call the columns sentence1, sentence2, label"
        )
    return bool(wanted)


def _separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _read(path: Path) -> WordTask:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".txt":
                return _questions(path, file)
            table = csv.DictReader(file, delimiter=_separator(path))
            columns = {name.strip().lower(): name for name in table.fieldnames or [] if name}
            rows = [(table.line_num, row) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as {WANTED}: {error}") from error
    for wanted in (PAIR, QUESTION):
        if all(name in columns for name in wanted):
            break
    else:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or 'none'}; vectors of words are judged by {WANTED}"
        )
    found = [[str(row[columns[name]] or "").strip() for name in wanted] for _, row in rows]
    for (line, _), row in zip(rows, found, strict=True):
        if not all(row):
            raise InputError(f"{path}, line {line}: one of {', '.join(wanted)} is empty")
    if not found:
        raise InputError(f"{path} has no line below its columns")
    if wanted == QUESTION:
        kinds = [str(row.get(columns.get("category", ""), "all")) for _, row in rows]
        return WordTask(path.stem, [tuple(row) for row in found], categories=kinds)
    scores = [_number(row[2], path, line) for (line, _), row in zip(rows, found, strict=True)]
    return WordTask(path.stem, [(row[0], row[1]) for row in found], scores=np.array(scores))


def _number(text: str, path: Path, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(f"{path}, line {line}: the score {text[:40]!r} is no number")
    return number


def _questions(path: Path, lines: Iterator[str]) -> WordTask:
    category, found, kinds = "all", [], []
    for number, line in enumerate(lines, start=1):
        terms = line.split()
        if terms[:1] == [":"]:
            category = " ".join(terms[1:])
        elif len(terms) == 4:
            found.append(tuple(terms))
            kinds.append(category)
        elif terms:
            raise InputError(f"{path}, line {number}: {' '.join(terms)[:60]!r} is no analogy; wanted is {WANTED}")
    if not found:
        raise InputError(f"{path} has no analogy: wanted is {WANTED}")
    return WordTask(path.stem, found, categories=kinds)


def batches(documents: Dataset | IterableDataset) -> Iterator[list[str]]:
    """The texts of documents with a column `text`, some at a time."""
    for batch in documents.iter(batch_size=AT_ONCE):
        yield batch["text"]


def number(documents: Dataset | IterableDataset, tokenizer: Any, folder: str, digest: Any = None) -> np.ndarray:
    """The numbers of the known words of documents, from 0 on, and -1 after each document: int32, in a file without a
    name that goes with the process, so that they need not fit into memory.

    tokenizer: whose token 0 is that of unknown words. folder: where the file is. digest: of hashlib, to which the
    numbers are added.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for texts in batches(documents):
            for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                ids = np.array([*found.ids, 0], dtype=np.int32) - 1
                ids = ids[(ids >= 0) | (np.arange(len(ids)) == len(ids) - 1)]
                if digest is not None:
                    digest.update(ids)
                file.write(ids)
        file.flush()
        return np.memmap(file, dtype=np.int32, mode="r")  # there is at least one document
