"""Vectors of words: how a text is cut into words, which word is near which, and the formats that others load.

A folder is a StaticEmbedding of sentence-transformers, which model2vec reads as well: `tokenizer.json`, and a table in
`model.safetensors`. Beside it lie the same vectors in word2vec's text format and, of a run with subwords, those of
n-grams, from which words have a vector that the others know none of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from hf_replearn.encoders.subwords import FILE as SUBWORDS
from hf_replearn.encoders.subwords import NgramVectors
from hf_replearn.errors import InputError

UNKNOWN = "[UNK]"
WORD = r"[\p{L}\p{M}]+(?:'[\p{L}\p{M}]+)*"  # letters, with apostrophes between them
TEXT = "words.txt"  # of word2vec's format
EPSILON = 1e-3  # of 3CosMul (Levy & Goldberg 2014)


@dataclass(frozen=True)
class WordVectors:
    """Words, the most frequent first, and a vector of each.

    vectors: (V, D) float32. tokenizer: how a text is cut into these words; None where only a list of words is known.
    ngrams: of which other words are composed; None where those have no vector.
    """

    words: list[str]
    vectors: np.ndarray
    tokenizer: Tokenizer | None = None
    ngrams: NgramVectors | None = None

    @cached_property
    def places(self) -> dict[str, int]:
        """Word -> its row."""
        return {word: place for place, word in enumerate(self.words)}

    @cached_property
    def directions(self) -> np.ndarray:
        """(V, D): the vectors at length 1; one of length 0 stays 0."""
        return self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=1, keepdims=True), 1e-12)

    def place(self, word: str) -> int | None:
        """The row of a word, which may be written with other capitals; None of one without a vector of its own."""
        return self.places.get(word, self.places.get(word.lower()))

    def compose(self, word: str) -> np.ndarray | None:
        """The vector (D,) of a word without one of its own, by its n-grams; None where nothing is known of them."""
        if self.ngrams is None:
            return None
        return self.ngrams.compose(word if self.tokenizer is None else self.tokenizer.normalizer.normalize_str(word))

    def direction(self, word: str) -> np.ndarray:
        """(D,): the vector of a word, its own or composed, at length 1. Raises InputError for one that has none."""
        if (place := self.place(word)) is not None:
            return self.directions[place]
        composed = self.compose(word)
        if composed is None:
            more = "" if self.ngrams is None else ", and none of its parts is known"
            raise InputError(f"the word {word[:60]!r} is not among the {len(self.words):,} that have a vector{more}")
        return composed / max(np.linalg.norm(composed), 1e-12)

    def nearest(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """The words whose vectors have the largest cosine with that of `word`, and this cosine. Raises InputError."""
        return self._largest(self.directions @ self.direction(word), count, without=[word])

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> list[tuple[str, float]]:
        """What is to c as b is to a, such as queen for man, king, woman: words by the cosine of their vector with
        b - a + c, each at length 1 (3CosAdd); the three words are left out. Raises InputError."""
        x, y, z = map(self.direction, (a, b, c))
        wanted = y - x + z
        return self._largest(self.directions @ (wanted / max(np.linalg.norm(wanted), 1e-12)), count, without=[a, b, c])

    def cut(self, text: str) -> list[str]:
        """The words of a text, known or not; of a tokenizer that knows parts of words, these."""
        if self.tokenizer is not None and self.ngrams is None:
            return self.tokenizer.encode(text, add_special_tokens=False).tokens
        tokenizer = self.tokenizer or word_tokenizer(lowercase=False)
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        return [piece for piece, _ in pieces]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D): the mean of the vectors of the words of each text, their own or composed; words without one are left
        out, and a text of such words alone has the vector 0."""
        found = np.zeros((len(texts), self.vectors.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors = []
            for word in self.cut(text):
                place = self.place(word)
                vectors.append(self.compose(word) if place is None else self.vectors[place])
            vectors = [vector for vector in vectors if vector is not None]
            if vectors:
                found[row] = np.mean(vectors, axis=0)
        return found

    def _largest(self, similar: np.ndarray, count: int, *, without: Sequence[str]) -> list[tuple[str, float]]:
        given = {self.place(word) for word in without} - {None}
        similar[list(given)] = -np.inf
        best = np.argsort(-similar, kind="stable")[: min(count, len(similar) - len(given))]
        return [(self.words[place], float(similar[place])) for place in best]


def word_tokenizer(*, lowercase: bool) -> Tokenizer:
    """Cuts a text into its words; what is no letter divides them. It knows no word yet."""
    tokenizer = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    steps = [normalizers.NFC(), normalizers.Replace("\u2019", "'"), *([normalizers.Lowercase()] * lowercase)]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    return tokenizer


def learn_words(texts: Iterable[str], *, lowercase: bool, min_count: int, most: int | None) -> Tokenizer:
    """The words that are in the texts so often, the most frequent first, as a tokenizer; number 0 is `[UNK]`."""
    tokenizer = word_tokenizer(lowercase=lowercase)
    trainer = trainers.WordLevelTrainer(
        vocab_size=10**9 if most is None else most + 1,
        min_frequency=min_count,
        special_tokens=[UNKNOWN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def words_of(tokenizer: Tokenizer) -> list[str]:
    """All but `[UNK]`, by their numbers."""
    return [word for word, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]) if number]


def write_words(words: WordVectors, folder: Path, *, recipe: str, text: bool = True) -> None:
    """The vectors for sentence-transformers and model2vec and, with `text`, in word2vec's text format.

    The vector of `[UNK]` is 0: without the token sentence-transformers refuses texts with other words, and with it
    counts them in its mean; model2vec leaves them out. The directions are the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    width = words.vectors.shape[1]
    table = np.concatenate([np.zeros((1, width), dtype=np.float32), words.vectors])
    save_file({"embeddings": table}, folder / "model.safetensors")
    words.tokenizer.save(str(folder / "tokenizer.json"))
    about = {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": width, "normalize": False}
    modules = [{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}]
    files = {"config.json": about | {"recipe": recipe}, "modules.json": modules}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # safetensors makes it 600
    if words.ngrams is not None:
        words.ngrams.save(folder)
        (folder / SUBWORDS).chmod((folder / "config.json").stat().st_mode)
    if text:
        write_text(words.words, words.vectors, folder / TEXT)


def write_text(words: Sequence[str], vectors: np.ndarray, path: Path) -> None:
    """word2vec's text format: their number and width, then a line for each word."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(words, vectors.tolist(), strict=True):
            file.write(f"{word} {' '.join(f'{number:.9g}' for number in vector)}\n")


def read_words(place: str | Path) -> WordVectors:
    """The vectors of a folder that `write_words` wrote or that is laid out as such, or of a file in word2vec's or
    GloVe's text format. Raises InputError."""
    path = Path(place)
    if path.is_file():
        return _read_text(path)
    if not is_words(path):
        raise InputError(f"{place} holds no vectors of words: give the folder of a run of word2vec, or a file of them")
    try:
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        table = load_file(path / "model.safetensors")
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(f"{place} cannot be read: {' '.join(str(error).split())[:200]}") from error
    table = table.get("embeddings", table.get("embedding.weight"))
    numbers = tokenizer.get_vocab()
    if table is None or table.ndim != 2 or len(table) <= max(numbers.values()):
        raise InputError(f"{path / 'model.safetensors'} holds no vector for each word of tokenizer.json")
    words = sorted((word for word in numbers if word != UNKNOWN), key=numbers.get)
    ngrams = NgramVectors.read(path)
    if ngrams is not None and ngrams.vectors.shape[1] != table.shape[1]:
        widths = ngrams.vectors.shape[1], table.shape[1]
        raise InputError(f"{path / SUBWORDS} has vectors of {widths[0]} numbers, model.safetensors of {widths[1]}")
    return WordVectors(words, table[[numbers[word] for word in words]].astype(np.float32), tokenizer, ngrams)


def is_words(place: str | Path) -> bool:
    """Whether this is a folder of vectors of words, whose first module is a StaticEmbedding, or a text file of them."""
    path = Path(place, "modules.json")
    if not path.is_file():
        return Path(place).suffix in (".txt", ".vec") and Path(place).is_file()
    try:
        return json.loads(path.read_text(encoding="utf-8"))[0]["type"].endswith(".StaticEmbedding")
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _read_text(path: Path) -> WordVectors:
    words: dict[str, None] = {}
    vectors: list[np.ndarray] = []
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline().split()
            if len(first) > 2:  # GloVe has no header
                file.seek(0)
            for number, line in enumerate(file, start=1):
                word, *vector = line.rstrip().split(" ")
                if vectors and len(vector) != len(vectors[0]):
                    raise ValueError(f"a line of {len(vector)} numbers after one of {len(vectors[0])}, line {number}")
                if word not in words:  # the first one counts
                    words[word] = None
                    vectors.append(np.array(vector, dtype=np.float32))
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no file of word vectors, a word and its numbers a line: {error}") from error
    if not vectors or not len(vectors[0]):
        raise InputError(f"{path} is no file of word vectors: it has no line of a word and its numbers")
    return WordVectors(list(words), np.stack(vectors))


def analogy(model: str | Path, a: str, b: str, c: str, count: int = 10) -> list[tuple[str, float]]:
    """What is to c as b is to a, by the vectors in a folder or file, and the cosines. Raises InputError."""
    return read_words(model).analogy(a, b, c, count)
