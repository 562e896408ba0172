"""Rows packed from a stream: read on from a state, and by more readers than there are files."""

import json

import pytest
from datasets import load_dataset

from hf_replearn.data.packed import PackedShards
from hf_replearn.data.text import HOLD_OUT_MOST, load_corpus
from hf_replearn.errors import InputError


def pack(batch):
    """Rows of three documents."""
    texts = batch["text"]
    return {"texts": [texts[first : first + 3] for first in range(0, len(texts), 3)]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two files of documents, some of them empty; the first documents are held out."""
    folder = tmp_path_factory.mktemp("texts")
    for file, count in (("a", 5_000), ("b", 2_500)):
        lines = [json.dumps({"text": f"{file}{n}" if n % 10 else " "}) for n in range(count)]
        (folder / f"{file}.jsonl").write_text("\n".join(lines) + "\n")
    return load_corpus(str(folder), streaming=True)


def of(shards: PackedShards, piece: int) -> list[str]:
    return [text for row in shards.open(piece) for text in row["texts"]]


def test_every_document_is_in_one_piece_but_those_held_out(corpus):
    held_out = {row["text"] for row in corpus.test}
    assert len(held_out) == HOLD_OUT_MOST
    every = {f"{file}{n}" for file, count in (("a", 5_000), ("b", 2_500)) for n in range(count) if n % 10}
    shards = PackedShards(corpus.shards, pack)
    assert len(shards) == 2 and shards.names == ["a.jsonl", "b.jsonl"]
    for readers, pieces in ((2, 2), (3, 4), (5, 6)):
        found = shards.for_readers(readers)
        assert len(found) == len(set(found.names)) == pieces
        texts = [text for piece in range(pieces) for text in of(found, piece)]
        assert len(texts) == len(set(texts)) and set(texts) == every - held_out
        counts = [len(of(found, piece)) for piece in range(pieces)]
        assert max(counts) - min(counts) <= 500 / (pieces // 2)  # a part has its share of each file


@pytest.mark.parametrize("readers", [1, 4])
@pytest.mark.parametrize("row", [1, 333, 334, 700])  # 2,000 documents are packed together
def test_a_piece_is_read_on_from_a_state(corpus, readers, row):
    shards = PackedShards(corpus.shards, pack).for_readers(readers)
    for piece in range(len(shards)):
        begun, rows = shards.open(piece), []
        for content in begun:
            rows.append(content)
            if len(rows) == row:
                state = json.loads(json.dumps(begun.state()))
        if len(rows) >= row:
            assert list(shards.open(piece, state)) == rows[row:]


def test_a_damaged_shard_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' * 3_000)
    corpus = load_corpus(str(tmp_path), streaming=True)
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\n' * 2_900 + '{"te')
    with pytest.raises(InputError, match="the shard is damaged"):
        list(PackedShards(corpus.shards, pack).open(0))
    rows = load_dataset("json", data_files=str(tmp_path / "a.jsonl"), split="train", streaming=True)
    assert rows.num_shards == 1
