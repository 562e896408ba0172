"""Rows lose no token, keep documents apart where asked, and say how much of them is padding."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from hf_replearn.data.rows import cut_rows, pack_rows, padding
from hf_replearn.data.tokenization import ends, train_tokenizer
from hf_replearn.errors import InputError

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "many",
    "birds",
    "fly",
    "over",
    "old",
    "houses",
    "near",
    "water",
]
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 60))).capitalize() + "." for _ in range(300)] + ["", "  "]
TEXTS += ["One. Two words here! Three? " + " ".join(RNG.choice(WORDS, 200)) + ". The end."]
CORPUS = datasets.Dataset.from_dict({"text": TEXTS})
T = 32


@pytest.fixture(scope="module", params=["bert", "roberta", "gpt"])
def tokenizer(request):
    return train_tokenizer(request.param, TEXTS, vocab_size=300)


def words_of(tokenizer, texts) -> list[int]:
    return [t for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] for t in ids]


def content(tokenizer, rows) -> list[int]:
    special = set(tokenizer.all_special_ids)
    return [t for row in rows for t in row["input_ids"][: row["length"]] if t not in special]


@pytest.mark.parametrize("packing", ["stream", "documents", "sentences"])
def test_no_token_is_lost_and_all_rows_have_one_length(tokenizer, packing):
    rows = pack_rows(CORPUS, tokenizer, length=T, packing=packing)
    assert content(tokenizer, rows) == words_of(tokenizer, [text for text in TEXTS if text.strip()])
    start, end = ends(tokenizer)
    for row in rows:
        assert len(row["input_ids"]) == T
        filled = row["input_ids"][: row["length"]]
        assert filled[: len(start)] == start and filled[len(filled) - len(end) :] == end
        assert set(row["input_ids"][row["length"] :]) <= {tokenizer.pad_token_id}
    if packing == "stream":
        assert all(row["length"] == T for row in rows.select(range(len(rows) - 1)))
        assert padding(rows) < 0.02
    lengths = sum(rows["length"][:])
    assert padding(rows) == pytest.approx(1 - lengths / (T * len(rows)))


def test_documents_are_numbered_and_each_has_its_own_ends(tokenizer):
    rows = pack_rows(CORPUS, tokenizer, length=T, packing="documents")
    start, end = ends(tokenizer)
    end = end or [tokenizer.eos_token_id]
    for row in rows:
        tokens, documents = np.array(row["input_ids"]), np.array(row["documents"])
        assert (documents[row["length"] :] == -1).all()
        for number in range(documents.max() + 1):
            part = tokens[documents == number].tolist()
            assert part[: len(start)] == start and part[-len(end) :] == end
            inside = part[len(start) : len(part) - len(end)]
            assert inside and not set(inside) & set(tokenizer.all_special_ids)
    assert padding(rows) < 0.05


def test_sentences_are_not_cut_unless_they_must():
    tokenizer = train_tokenizer("bert", TEXTS, vocab_size=300)
    texts = [". ".join("abcdefgh") + "." for _ in range(20)]
    rows = pack_rows(datasets.Dataset.from_dict({"text": texts}), tokenizer, length=11, packing="sentences")
    stop = tokenizer.convert_tokens_to_ids(".")
    assert all(row["input_ids"][row["length"] - 2] in (stop, tokenizer.sep_token_id) for row in rows)


def test_rows_are_cached_and_another_tokenizer_makes_others(tokenizer, capfd):
    first = pack_rows(CORPUS, tokenizer, length=T)
    capfd.readouterr()
    again = pack_rows(CORPUS, tokenizer, length=T)
    assert again._fingerprint == first._fingerprint
    other = train_tokenizer("bert", TEXTS[:50], vocab_size=280)
    assert pack_rows(CORPUS, other, length=T)._fingerprint != first._fingerprint


def test_a_stream_gives_the_same_rows(tokenizer):
    rows, stream = pack_rows(CORPUS, tokenizer, length=T), pack_rows(CORPUS.to_iterable_dataset(), tokenizer, length=T)
    assert [row["input_ids"] for row in rows] == [list(row["input_ids"]) for row in stream]


def test_bad_input(tokenizer):
    with pytest.raises(InputError, match="every document is empty"):
        pack_rows(datasets.Dataset.from_dict({"text": ["", " "]}), tokenizer, length=T)
    if ends(tokenizer)[0]:
        with pytest.raises(InputError, match="leaves no room"):
            pack_rows(CORPUS, tokenizer, length=2)


def test_cut_rows():
    batch = {
        "input_ids": torch.arange(16).view(2, 8),
        "documents": torch.arange(16).view(2, 8) // 3,
        "length": torch.tensor([8, 5]),
    }
    cut = cut_rows(batch, 4)
    assert cut["input_ids"].tolist() == [[i, i + 1] for i in range(0, 16, 2)]
    assert cut["length"].tolist() == [2, 2, 2, 2, 2, 2, 1, 0]
    assert cut["documents"].shape == (8, 2)


def test_cut_rows_begin_and_end_as_rows_do():
    batch = {"input_ids": torch.arange(100, 116).view(2, 8), "length": torch.tensor([8, 5])}
    cut = cut_rows(batch, 2, start=[1], end=[2])
    assert cut["input_ids"].tolist() == [[1, 101, 102, 2], [1, 105, 106, 2], [1, 109, 110, 2], [112, 113, 114, 115]]
    assert cut["length"].tolist() == [4, 4, 4, 1]
    assert batch["input_ids"].flatten().tolist() == list(range(100, 116))


def test_damaged_rows_in_the_cache_are_made_again(tokenizer, tmp_path):
    CORPUS.to_parquet(tmp_path / "text.parquet")
    corpus = datasets.Dataset.from_parquet(str(tmp_path / "text.parquet"), cache_dir=str(tmp_path / "cache"))
    first = pack_rows(corpus, tokenizer, length=T)
    expected, file = first["input_ids"][:], Path(first.cache_files[0]["filename"])
    whole = file.read_bytes()
    del first
    for damaged in (whole[: len(whole) // 2], b"", bytes(len(whole)), whole.replace(whole[2000:4000], bytes(2000))):
        file.unlink()
        file.write_bytes(damaged)
        assert pack_rows(corpus, tokenizer, length=T)["input_ids"][:] == expected


def test_rows_are_kept_in_memory_where_there_can_be_no_cache(tmp_path, monkeypatch):
    tokenizer = train_tokenizer("gpt", TEXTS, vocab_size=300)
    CORPUS.to_parquet(tmp_path / "text.parquet")
    corpus = datasets.Dataset.from_parquet(str(tmp_path / "text.parquet"), cache_dir=str(tmp_path / "cache"))
    writer = datasets.arrow_dataset.ArrowWriter

    def full(*args, **kwargs):
        if kwargs.get("path") is not None:
            raise OSError(28, "No space left on device")
        return writer(*args, **kwargs)

    monkeypatch.setattr("datasets.arrow_dataset.ArrowWriter", full)
    with pytest.warns(UserWarning, match="rows are kept in memory, as they cannot be cached: No space left"):
        rows = pack_rows(corpus, tokenizer, length=T)
    assert rows["input_ids"][:] == pack_rows(CORPUS, tokenizer, length=T)["input_ids"][:]
