"""Documents from files of every kind, and what is held out."""

import json

import datasets
import pytest
from torch.utils.data import DataLoader

from hf_replearn.data import text
from hf_replearn.data.text import load_corpora, load_corpus
from hf_replearn.errors import InputError

TEXTS = [f"Document number {i} with a few words." for i in range(50)]


@pytest.fixture
def put(tmp_path):
    def write(suffix: str, name: str = "train", texts: list[str] = TEXTS):
        path = tmp_path / f"{name}{suffix}"
        rows = datasets.Dataset.from_dict({"text": texts, "number": list(range(len(texts)))})
        if suffix == ".parquet":
            rows.to_parquet(path)
        elif suffix == ".csv":
            rows.to_csv(path)
        elif suffix == ".txt":
            path.write_text("\n\n".join(texts))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return write


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".txt", ".jsonl"])
@pytest.mark.parametrize("streaming", [False, True])
def test_files_of_every_kind(put, suffix, streaming):
    put(suffix)
    corpus = load_corpus(str(put(suffix, "validation", ["held out"] * 3)), streaming=streaming)
    assert [row["text"] for row in corpus.train] == TEXTS
    assert [row["text"] for row in corpus.test] == ["held out"] * 3
    assert corpus.test_source == "the split 'validation'"
    assert isinstance(corpus.train, datasets.IterableDataset) is streaming


def test_without_a_validation_split_some_documents_are_held_out(put):
    folder = put(".parquet")
    corpus = load_corpus(str(folder))
    held_out = {row["text"] for row in corpus.test}
    assert len(held_out) == 1 and held_out.isdisjoint(row["text"] for row in corpus.train)
    assert corpus.train._fingerprint == load_corpus(str(folder)).train._fingerprint
    one_file = load_corpus(str(folder / "train.parquet"))
    assert len(one_file.train) == 49 and one_file.name == "train.parquet"


def test_several_are_one_corpus_in_random_order(put, tmp_path):
    put(".jsonl", "train", TEXTS[:30])
    put(".jsonl", "validation", ["held out"] * 3)
    more = tmp_path / "more"
    more.mkdir()
    rows = datasets.Dataset.from_dict({"body": [f"More {i}" for i in range(40)]})
    rows.cast_column("body", datasets.Value("large_string")).to_parquet(more / "train.parquet")
    names = [str(tmp_path / "train.jsonl"), str(more)]
    corpus = load_corpora(names)
    one, other = map(load_corpus, names)
    texts = [row["text"] for row in corpus.train]
    assert sorted(texts) == sorted(row["text"] for part in (one, other) for row in part.train)
    assert 3 < sum(text.startswith("More") for text in texts[:20]) < 19
    assert len(corpus.test) == len(one.test) + len(other.test)
    assert corpus.name == "train.jsonl + more" and "of more" in corpus.test_source
    assert load_corpora(names).train._fingerprint == corpus.train._fingerprint  # so that rows are found again
    assert load_corpora(names[:1]).train._fingerprint == one.train._fingerprint
    with pytest.raises(InputError, match="one dataset"):
        load_corpora(names, streaming=True)


def test_documents_of_one_corpus_that_another_holds_out_are_counted(put, tmp_path):
    whole = put(".jsonl", "train", TEXTS)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "a.txt").write_text("\n\n".join(TEXTS[::2]))
    corpus = load_corpora([f"{whole}/train.jsonl", str(tmp_path / "part" / "a.txt")])
    told = set(corpus.test["text"]) & set(corpus.train["text"])
    assert told and f"; {len(told)} of the {len(corpus.test)} held-out documents are in train too" in corpus.test_source
    assert f"of all: {len(told)} of the" in corpus.taken


def test_a_stream_that_would_be_held_out_as_a_whole(put):
    with pytest.raises(InputError, match="no text to train on, besides .* its first 2,000: read it without"):
        load_corpus(str(put(".jsonl", "train", TEXTS)), streaming=True)


def test_damage_at_the_beginning_of_a_stream_is_named_with_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two\n')
    with pytest.raises(InputError, match="line 2 of .*a.jsonl"):
        load_corpus(str(tmp_path), streaming=True)


def test_the_toy_is_prose_and_its_parts_are_disjoint():
    corpus = load_corpus("toy")
    train, test = ({row["text"] for row in part} for part in (corpus.train, corpus.test))
    assert sum(map(len, train)) > 200_000 and len(test) > 100
    assert not train & test


def test_a_column_by_another_name(tmp_path):
    datasets.Dataset.from_dict({"id": [1, 2], "body": ["one text", "another"]}).to_parquet(tmp_path / "train.parquet")
    assert load_corpus(str(tmp_path)).train.column_names == ["text"]


@pytest.mark.parametrize("name", ["id", "reviewerID", "url", "image", "file_name", "Lang"])
def test_a_column_of_numbers_or_names_is_no_text(tmp_path, name):
    rows = {name: ["a1", "a2", "a3"], "turns": [["one text"], ["another"], ["a third"]]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=f"no column holds text: {name}, turns; choose with --text_column"):
        load_corpus(str(tmp_path))
    assert len(load_corpus(str(tmp_path), text_column=name).train) == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_a_line_of_spaces_divides_documents_too(tmp_path, streaming):
    for split in ("train", "valid"):
        (tmp_path / f"wiki.{split}.txt").write_text(" \n = Title = \n \n Two \n lines \n \n\t\n\n The end\n \n")
    corpus = load_corpus(str(tmp_path), streaming=streaming)
    assert [row["text"].strip() for row in corpus.train] == ["= Title =", "Two \n lines", "The end"]


def test_shards_that_are_missing_are_told(tmp_path):
    for shard in ("train-00000-of-00003", "train-00002-of-00003", "test-00000-of-00001-8a3f"):
        datasets.Dataset.from_dict({"text": [shard, "b"]}).to_parquet(tmp_path / f"{shard}.parquet")
    taken = load_corpus(str(tmp_path)).taken
    assert "train: 2 files of the 3 that the names speak of (train-0" in taken and "test: 1 file (" in taken


def test_a_single_document_cannot_be_split(tmp_path):
    datasets.Dataset.from_dict({"text": ["only one"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="has 1 document"):
        load_corpus(str(tmp_path))


def test_rows_without_text_are_left_out_and_counted(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "word\n" * 6 + '""\n" "\nNone\n')
    corpus = load_corpus(str(tmp_path / "a.csv"))
    texts = [row["text"] for part in (corpus.train, corpus.test) for row in part]
    assert sorted(texts) == ["None", *["word"] * 6]
    assert [str(item) for item in corpus.left_out] == ["train row 6 (no text)", "train row 7 (no text)"]
    assert "7 documents of column `text`" in corpus.taken and "left out: 2" in corpus.taken
    (tmp_path / "a.csv").rename(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("text\nheld out\n")
    stream = load_corpus(str(tmp_path), streaming=True)
    assert all(row["text"].strip() for row in stream.train) and len(list(stream.train)) == 7


def test_a_column_that_is_mostly_empty_is_not_the_text(tmp_path):
    (tmp_path / "a.csv").write_text("text,note\n" + ",a\n" * 9 + "word,b\n")
    with pytest.raises(InputError, match="9 of 10 rows.*--text_column"):
        load_corpus(str(tmp_path / "a.csv"))


def test_documents_that_are_in_train_and_held_out_are_counted(put):
    put(".txt", "train")
    corpus = load_corpus(str(put(".txt", "test", [TEXTS[0], "another", TEXTS[1]])))
    assert "2 of the 3 held-out documents are in train too" in corpus.taken
    assert "2 of the 3" in corpus.test_source


def test_what_is_taken_of_a_folder_is_said(put, tmp_path):
    put(".jsonl", "train", TEXTS[:5])
    put(".jsonl", "unsupervised", TEXTS[5:9])
    (tmp_path / "notes.docx").write_text("x")
    corpus = load_corpus(str(put(".jsonl", "test", ["held out"])))
    assert corpus.taken == (
        "train: 1 file (train.jsonl), 5 documents of column `text`; test: 1 file (test.jsonl), held out, 1 document of "
        "column `text`; not used: the split 'unlabeled' (4 rows); left out: 1 (notes.docx (.docx is not read))"
    )


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_the_encoding_of_a_stream_is_looked_at_before_the_training(tmp_path, name):
    content = {"a.txt": "caf\xe9", "a.jsonl": '{"text": "\xe9"}\n', "a.csv": "text\n\xe9\n"}[name]
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="byte 0xe9"):
        load_corpus(str(tmp_path), streaming=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_held_out_of_a_stream_is_trained_on_by_no_worker(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(text, "HOLD_OUT_MOST", 20)
    for shard in range(4):
        lines = [json.dumps({"text": f"document {number} of shard {shard}"}) for number in range(30)]
        (tmp_path / f"train-{shard}.jsonl").write_text("\n".join(lines))
    corpus = load_corpus(str(tmp_path), streaming=True)
    held_out = [row["text"] for row in corpus.test]
    trained = [row for batch in DataLoader(corpus.train, 5, num_workers=workers) for row in batch["text"]]
    assert held_out == [f"document {number} of shard 0" for number in range(20)]
    assert len(trained) == 100 and not set(trained) & set(held_out)
