"""Documents to rows of one length: tokenised once, packed without losing a token, cached.

T tokens a row
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset
from datasets.fingerprint import Hasher
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_replearn.data.fingerprint import rows_fingerprint
from hf_replearn.data.tokenization import ends, separator
from hf_replearn.errors import InputError

Packing = Literal["stream", "documents", "sentences"]
TOGETHER = 2_000  # documents packed together; at the end of each such batch one row may be partly empty


def pack_rows(
    texts: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    packing: Packing = "stream",
    ended: bool = True,
    progress: str | None = None,
) -> Dataset | IterableDataset:
    """Rows of exactly `length` tokens from the column `text`.

    Every row begins and ends with the special tokens that the tokenizer puts around a text ([CLS] and [SEP]; none for
    GPT), and between two documents stands its separator ([SEP], </s> or <|endoftext|>). Padding is at the end. The name
    of a special token that stands in a document is read as plain text.

    stream:    the documents are one stream of tokens, cut every T: no padding but in the last row of a batch.
    documents: as stream, but each document, and each part of one that is cut by the end of a row, has its own special
               tokens, and the column `documents` numbers them within a row, so that none need see another.
    sentences: RoBERTa's FULL-SENTENCES: as many whole sentences as fit, one document after the other; the rest is
               padding. Sentences longer than a row are cut.

    ended: whether a row of a stream or of sentences ends as a text does. A decoder would learn from it that texts end
        in the middle: there only documents do.

    Returns the columns `input_ids` (T) int32, `length`: tokens that are not padding, and with "documents" `documents`
    (T) int32, 0, 1, … and -1 for padding. A Dataset is cached under a fingerprint of texts, tokenizer and settings.
    Raises InputError where there is no text at all.
    """
    pack = packing_of(tokenizer, length=length, packing=packing, ended=ended)
    arguments = {"batched": True, "batch_size": TOGETHER, "remove_columns": ["text"]}
    if isinstance(texts, IterableDataset):
        return texts.map(pack, **arguments)
    start, end, between = (pack.keywords[name] for name in ("start", "end", "between"))
    columns = {"input_ids": datasets.List(datasets.Value("int32"), length=length), "length": datasets.Value("int32")}
    if packing == "documents":
        columns["documents"] = datasets.List(datasets.Value("int32"), length=length)
    vocabulary = (
        [tokenizer.backend_tokenizer.to_str()] if tokenizer.is_fast else [repr(tokenizer), tokenizer.get_vocab()]
    )
    fingerprint = Hasher.hash(
        [texts._fingerprint, vocabulary, start, end, between, length, packing, TOGETHER, "rows-2"]
    )
    arguments |= {"new_fingerprint": fingerprint, "features": datasets.Features(columns), "desc": progress}
    rows = _map_cached(texts, pack, **arguments)
    if len(rows) == 0:
        raise InputError("there is no text: every document is empty")
    return rows


def packing_of(tokenizer: PreTrainedTokenizerBase, *, length: int, packing: Packing, ended: bool) -> partial:
    """Documents -> rows, see `pack_rows`."""
    start, end = ends(tokenizer)
    end = end if ended or packing == "documents" else []
    between = separator(tokenizer)
    if length < len(start) + len(end or between) + 1:
        raise InputError(f"--sequence_length {length} leaves no room for text between the tokenizer's special tokens")
    about = {"tokenizer": tokenizer, "length": length, "packing": packing}
    return partial(_pack_batch, **about, start=start, end=end, between=between)


def _map_cached(texts: Dataset, pack, **arguments) -> Dataset:
    """Rows from the cache where they are as they were written, made again where they are not, and kept in memory where
    there can be no cache."""
    try:
        rows = texts.map(pack, **arguments)
        if _as_written(rows):
            return rows
    except pa.ArrowInvalid:
        pass  # a file that was cut short
    except OSError as error:
        if error.errno is not None:  # Arrow's own, of a file it cannot read, has none
            warnings.warn(f"rows are kept in memory, as they cannot be cached: {error.strerror}", stacklevel=3)
            return texts.map(pack, **arguments, keep_in_memory=True, load_from_cache_file=False)
    rows = texts.map(pack, **arguments, load_from_cache_file=False)
    for mark in _marks(rows):
        mark.unlink(missing_ok=True)
    _as_written(rows)
    return rows


def _as_written(rows: Dataset) -> bool:
    """Whether cached rows have the fingerprint that was noted beside them. Where none is, these are new: it is."""
    if len(rows) == 0:
        return True
    found = rows_fingerprint(rows)
    for mark in _marks(rows):
        if not mark.exists():
            with contextlib.suppress(OSError):  # only the note is lost
                mark.write_text(found)
        elif mark.read_text(errors="replace") != found:
            return False
    return True


def _marks(rows: Dataset) -> list[Path]:
    return [Path(f"{file['filename']}.fingerprint") for file in rows.cache_files]


def padding(rows: Dataset) -> float:
    """The share of padding among all tokens of `rows`."""
    return 1 - sum(rows["length"][:]) / (len(rows) * len(rows[0]["input_ids"]))


def cut_rows(batch: dict[str, Tensor], parts: int, *, start: list[int] = (), end: list[int] = ()) -> dict[str, Tensor]:
    """Each row of a batch as `parts` rows: input_ids (B, T) -> (B parts, T / parts), and its other columns alike.

    start, end: the special tokens around a text. The new rows get them too, as every text will have them that the
    network is used on; the tokens that stood there are not seen then. Documents that are kept apart have theirs.
    """
    size = batch["input_ids"].shape[1] // parts
    cut = {name: column.reshape(-1, size) for name, column in batch.items() if column.ndim == 2}
    before = size * torch.arange(parts, device=batch["length"].device)
    cut["length"] = (batch["length"][:, None] - before).clamp(0, size).flatten()
    if "documents" not in batch:
        tokens = cut["input_ids"] = cut["input_ids"].clone()
        full = cut["length"] == size
        for place, token in [*enumerate(start), *enumerate(end, size - len(end))]:
            tokens[:, place] = tokens[:, place].masked_fill(full, token)
    return cut


def _pack_batch(
    batch: dict[str, list],
    *,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    packing: Packing,
    start: list[int],
    end: list[int],
    between: list[int],
) -> dict[str, list]:
    texts = [text for text in batch["text"] if text and not text.isspace()]
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else between[0]

    def tokens(texts: list[str]) -> list[list[int]]:
        # no length is too long here: the tokenizer's warning of model_max_length would be wrong
        return tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
        )["input_ids"]

    if packing == "stream":
        rows = _cut([[*document, *between] for document in tokens(texts)] if texts else [], length, start, end)
    elif packing == "documents":
        rows = _fill_with_parts(tokens(texts) if texts else [], length, start, end or between)
    else:
        sentences = [re.split(r"(?<=[.!?])(?=\s)", text) for text in texts]
        flat = iter(tokens([sentence for document in sentences for sentence in document]) if texts else [])
        documents = [[next(flat) for _ in document] for document in sentences]
        rows = _fill_with_sentences(documents, length - len(start) - len(end), between)
        rows = ([[*start, *row, *end]] for row in rows)
    columns = {"input_ids": [], "length": []} | ({"documents": []} if packing == "documents" else {})
    for parts in rows:
        filled = sum(map(len, parts))
        row = np.full(length, filler, "i4")
        row[:filled] = [token for part in parts for token in part]
        columns["input_ids"].append(row)
        columns["length"].append(filled)
        if packing == "documents":
            numbers = np.repeat([*range(len(parts)), -1], [*map(len, parts), length - filled])
            columns["documents"].append(numbers.astype("i4"))
    return columns


def _cut(documents: list[list[int]], length: int, start: list[int], end: list[int]) -> Iterator[list[list[int]]]:
    """The stream of all documents, a row's worth at a time."""
    stream = np.concatenate([np.array(document, "i4") for document in documents]) if documents else np.zeros(0, "i4")
    room = length - len(start) - len(end)
    for place in range(0, len(stream), room):
        yield [start, stream[place : place + room].tolist(), end]


def _fill_with_parts(
    documents: list[list[int]], length: int, start: list[int], end: list[int]
) -> Iterator[list[list[int]]]:
    """Documents one after the other, cut where a row ends; each part between `start` and `end`."""
    around = len(start) + len(end)
    row, free = [], length
    for document in documents:
        place = 0  # documents may be long: they are not copied for each of their parts
        while place < len(document):
            if free <= around:
                yield row
                row, free = [], length
            part = document[place : place + free - around]
            place += len(part)
            row.append([*start, *part, *end])
            free -= len(row[-1])
    if row:
        yield row


def _fill_with_sentences(documents: list[list[list[int]]], room: int, between: list[int]) -> Iterator[list[int]]:
    """Whole sentences while they fit into `room`, a separator between documents."""
    row: list[int] = []
    for document in documents:
        for sentence in document:
            for place in range(0, len(sentence), room):
                part = sentence[place : place + room]
                if len(row) + len(part) > room:
                    yield row
                    row = []
                row = row + part
        if row and len(row) < room:
            row = row + between
    if row:
        yield row
