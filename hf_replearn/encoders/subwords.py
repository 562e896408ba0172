"""Vectors of the parts of words, by which a word has one that was never met (Bojanowski et al. 2017, arXiv:1607.04606).

A word is cut, as by fastText, into all its n-grams of characters between a beginning and an end: of `<her>` these are,
for n = 3, `<he`, `her` and `er>`. Each has a row by its hash, which it may share with others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hf_replearn.errors import InputError

FILE = "subwords.safetensors"
BUCKETS = 2_000_000  # of fastText
LONGEST = 100  # characters of an n-gram
FNV_OFFSET, FNV_PRIME = 2_166_136_261, 16_777_619  # of 32 bits


def fnv1a(data: bytes) -> int:
    """FNV-1a of 32 bits as fastText has it, which takes bytes for numbers with a sign: those of 128 and more, which
    letters outside ASCII have, change the upper bits as well."""
    found = FNV_OFFSET
    for byte in data:
        found = ((found ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * FNV_PRIME) & 0xFFFFFFFF
    return found


@dataclass(frozen=True)
class Subwords:
    """n-grams of so many characters, by their hash in one of so many buckets."""

    shortest: int
    longest: int
    buckets: int = BUCKETS

    @classmethod
    def of(cls, asked: str, buckets: int | None) -> Subwords:
        """Of a setting such as "3-6". Raises InputError."""
        found = re.fullmatch(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*", asked)
        shortest, longest = map(int, found.groups()) if found else (0, 0)
        if not 1 <= shortest <= longest <= LONGEST:
            raise InputError(
                f"--subwords {asked[:40]!r}: give the fewest and the most characters of a part of a word, such as 3-6 "
                f"(from 1, at most {LONGEST})"
            )
        return cls(shortest, longest, buckets or BUCKETS)

    def ngrams(self, word: str) -> list[str]:
        """Those of `<word>`, but not the marks by themselves; one that is there twice is named twice."""
        marked = f"<{word}>"
        return [
            marked[first:last]
            for first in range(len(marked))
            for last in range(first + self.shortest, min(first + self.longest, len(marked)) + 1)
            if last - first > 1 or 0 < first < len(marked) - 1
        ]

    def buckets_of(self, word: str) -> list[int]:
        """The bucket of each of its n-grams."""
        return [fnv1a(ngram.encode("utf-8", "surrogatepass")) % self.buckets for ngram in self.ngrams(word)]

    def __str__(self) -> str:
        return f"{self.shortest}-{self.longest}"


@dataclass(frozen=True)
class Cut:
    """Words as the rows of a table that they are the mean of: their own, then those of n-grams.

    pointers: (V + 1,) int64. rows: (n,) int64, of word v from pointers[v] to pointers[v + 1]: v first, then for each of
    its n-grams V + the place of its bucket. buckets: (K,) int64, ascending: those that some word has.
    """

    pointers: np.ndarray
    rows: np.ndarray
    buckets: np.ndarray


def cut_words(words: Iterable[str], subwords: Subwords) -> Cut:
    """Only buckets that some word has get a row. Raises InputError where no word has an n-gram."""
    found = [subwords.buckets_of(word) for word in words]
    buckets = np.unique(np.fromiter((bucket for some in found for bucket in some), dtype=np.int64))
    if not len(buckets):
        raise InputError(
            f"--subwords {subwords}: none of the {len(found):,} words has a part of so many characters, with a mark "
            "before and after it: ask for shorter ones"
        )
    lengths = np.array([1 + len(some) for some in found])
    pointers = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.empty(pointers[-1], dtype=np.int64)
    own = np.zeros(len(rows), dtype=bool)
    own[pointers[:-1]] = True
    rows[own] = np.arange(len(found))
    flat = np.fromiter((bucket for some in found for bucket in some), dtype=np.int64)
    rows[~own] = len(found) + np.searchsorted(buckets, flat)
    return Cut(pointers, rows, buckets)


@dataclass(frozen=True)
class NgramVectors:
    """What is known of n-grams. buckets: (K,) int64, ascending. vectors: (K, D) float32, row by row."""

    subwords: Subwords
    buckets: np.ndarray
    vectors: np.ndarray

    def compose(self, word: str) -> np.ndarray | None:
        """The mean (D,) of the vectors of a word's n-grams, those left out whose bucket no word had that was learnt
        from; None where that is all of them."""
        asked = np.array(self.subwords.buckets_of(word), dtype=np.int64)
        places = np.searchsorted(self.buckets, asked).clip(max=len(self.buckets) - 1)
        places = places[self.buckets[places] == asked]
        return self.vectors[places].mean(axis=0) if len(places) else None

    def save(self, folder: Path) -> None:
        """Into `FILE`."""
        about = {"subwords": json.dumps(asdict(self.subwords))}  # of several, safetensors would change the order
        tensors = {"ngrams": np.ascontiguousarray(self.vectors, dtype=np.float32), "buckets": self.buckets}
        save_file(tensors, folder / FILE, metadata=about)

    @classmethod
    def read(cls, folder: Path) -> NgramVectors | None:
        """Those of a folder; None where it has none. Raises InputError for what cannot be read."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "np") as file:
                subwords = Subwords(**json.loads((file.metadata() or {})["subwords"]))
                found = cls(subwords, file.get_tensor("buckets"), file.get_tensor("ngrams"))
            if found.vectors.ndim != 2 or not 0 < len(found.vectors) == len(found.buckets):
                raise ValueError(f"{found.vectors.shape} vectors of {found.buckets.shape} buckets")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
        return found
