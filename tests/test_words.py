"""Vectors of words end to end: runs, what others load of them, runs that go on, neighbours and analogies, bad input."""

import hashlib
import importlib
import json
import os
import re
from functools import partial

import elsewhere
import forked
import numpy as np
import pytest

import hf_replearn as hr
from hf_replearn.encoders.subwords import Subwords
from hf_replearn.encoders.words import WordVectors, learn_words, read_words, words_of, write_text, write_words
from hf_replearn.errors import InputError
from hf_replearn.methods.skipgram import NeighbourFit
from hf_replearn.recipes.word2vec import Word2VecSettings, main
from hf_replearn.settings import run
from hf_replearn.training.passes import Passes

SHORT = ["--dim", "12", "--num_train_epochs", "3", "--save_steps", "1"]

LOAD = """
import json, sys
texts, *folders = json.loads(sys.argv[1])
from sentence_transformers import SentenceTransformer
for folder in folders:
    found = {"sentence_transformers": SentenceTransformer(folder, device="cpu").encode(texts).tolist()}
    try:
        from model2vec import StaticModel
        found["model2vec"] = StaticModel.from_pretrained(folder).encode(texts).tolist()
    except ImportError:
        pass
    try:
        from gensim.models import KeyedVectors
        vectors = KeyedVectors.load_word2vec_format(folder + "/words.txt")
        found["gensim"] = {word: vectors[word].tolist() for word in vectors.index_to_key}
        found["analogy"] = vectors.most_similar(positive=[texts[1], texts[2]], negative=[texts[0]], topn=5)
    except ImportError:
        pass
    print(json.dumps(found))
"""


def start(*arguments: str) -> int:
    """Runs it in this process; returns its exit code."""
    try:
        run(main, Word2VecSettings, [*SHORT, *arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr("hf_replearn.sharing.results.write_curves", lambda folder: False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on Python's documentation."""
    out = tmp_path_factory.mktemp("words") / "toy"
    assert start("--dataset", "toy", "--output_dir", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    """The same with vectors of parts of words."""
    out = tmp_path_factory.mktemp("words") / "parts"
    assert start("--dataset", "toy", "--output_dir", str(out), *WAYS["parts of words"]) == 0
    return out


def digest(out) -> str:
    """Of all vectors."""
    files = [out / name for name in ("model.safetensors", "subwords.safetensors") if (out / name).exists()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_a_run_leaves_what_others_load_without_this_package(made, composed, tmp_path):
    """sentence-transformers, model2vec and gensim: all give the vectors that we read, and means of them for texts; of a
    run with parts of words too."""
    texts = ["class", "method", "object", "The CLASS, the object\u2019s; object's!", "the object zzzzz"]
    given = json.dumps([texts, str(made), str(composed)])
    printed = elsewhere.run(LOAD, given, folder=tmp_path)
    for folder, line in zip((made, composed), printed.splitlines()[-2:], strict=True):
        is_what_we_read(read_words(folder), texts, json.loads(line))


def is_what_we_read(words: WordVectors, texts: list[str], found: dict) -> None:
    known = [[word] for word in texts[:3]] + [["the", "class", "the", "object's", "object's"], ["the", "object"]]
    wanted = np.stack([words.vectors[[words.places[word] for word in some]].mean(0) for some in known])
    theirs = np.array(found["sentence_transformers"], dtype=np.float32)
    np.testing.assert_allclose(theirs[:4], wanted[:4], rtol=1e-5, atol=1e-7)
    unit = [x / np.linalg.norm(x) for x in (theirs[4], wanted[4])]  # a word that is not known is counted, as 0
    np.testing.assert_allclose(*unit, rtol=1e-4, atol=1e-6)
    if "model2vec" in found:
        np.testing.assert_allclose(found["model2vec"], wanted, rtol=1e-5, atol=1e-7)
    if "gensim" in found:
        assert list(found["gensim"]) == words.words
        np.testing.assert_array_equal(np.array(list(found["gensim"].values()), dtype=np.float32), words.vectors)
        ours = words.analogy(*texts[:3], count=5)
        assert [word for word, _ in found["analogy"]] == [word for word, _ in ours]
        np.testing.assert_allclose([c for _, c in found["analogy"]], [c for _, c in ours], rtol=1e-4)


def test_what_the_report_shows(made):
    report = json.loads((made / "report.json").read_text())
    own = report["own_task"]["rows"]
    assert own["this run"]["loss of a pair (nats)"] < own["random vectors"]["loss of a pair (nats)"] - 0.2
    assert "nearest to frequent words" in report["samples"] and "nearest to rare words" in report["samples"]
    assert "map.png" in report["figures"] and (made / "map.png").exists()
    counts = read_words(made)
    assert report["encoder"]["parameters"] == counts.vectors.size and report["encoder"]["features"] == 12
    card = (made / "README.md").read_text()
    assert "SentenceTransformer(" in card and "library_name: sentence-transformers" in card and "map.png" in card
    assert "nearest to frequent words" in (made / "report.html").read_text()


WAYS = {
    "skipgram": [],
    "cbow of two threads": ["--model", "cbow", "--workers", "2"],
    "parts of words": ["--subwords", "3-4", "--buckets", "500"],
}

SETTINGS = {
    "skipgram": {},
    "cbow of two threads": {"model": "cbow", "workers": 2},
    "parts of words": {"subwords": "3-4", "buckets": 500},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("unshown")
def test_killed_it_goes_on_bit_for_bit(way, made, composed, tmp_path, monkeypatch, capsys):
    whole, again, more = tmp_path / "whole", tmp_path / "again", WAYS[way]
    if way == "cbow of two threads":
        assert start("--dataset", "toy", "--output_dir", str(whole), *more) == 0
    else:
        whole = made if way == "skipgram" else composed
    save = Passes._save

    def killed(self, state):
        if self.done == 2:
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Passes, "_save", killed)
        main(Word2VecSettings(dataset=("toy",), dim=12, num_train_epochs=3, save_steps=1, output_dir=str(again),
                              **SETTINGS[way]))  # fmt: skip
    assert (again / "checkpoint-1").exists() and not (again / "model.safetensors").exists()
    assert start("--dataset", "toy", "--output_dir", str(again), *more) == 0
    assert digest(again) == digest(whole)
    assert [json.loads(line)["step"] for line in (again / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert start("--dataset", "toy", "--output_dir", str(again), *more, "--window", "3") == 2
    assert "window" in capsys.readouterr().err


@pytest.mark.usefixtures("unshown")
def test_two_processes_leave_what_two_threads_do_killed_and_gone_on(made, tmp_path, capsys):
    """The first writes alone; both stop after their first checkpoint, and two others go on from it."""
    given = ["--dataset", "toy", "--dim", "12", "--num_train_epochs", "3", "--save_steps", "1"]
    given += ["--subwords", "3-4", "--buckets", "500", "--output_dir"]
    assert start(*given[:-1], "--workers", "2", "--output_dir", str(tmp_path / "threads")) == 0
    out = tmp_path / "processes"

    def killed() -> None:
        go_on = NeighbourFit.go_on

        def stops(self, state, *rest):
            if int(state["done"]) == 1:
                os._exit(9)
            return go_on(self, state, *rest)

        NeighbourFit.go_on = stops
        run(main, Word2VecSettings, [*given, str(out)])

    processes = forked.start(killed, tmp_path / "log", processes=2)
    assert set(processes.wait(60)) == {9}, processes.printed()
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-1"]
    again = forked.start(partial(run, main, Word2VecSettings, [*given, str(out)]), tmp_path / "log", processes=2)
    assert again.wait(120) == [0, 0], again.printed()
    assert digest(out) == digest(tmp_path / "threads") != digest(made)
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [1, 2, 3]
    assert again.printed().count("vectors and card:") == 1
    capsys.readouterr()
    assert start(*given, str(out)) == 2  # by one process it would be another run
    assert "processes 2 instead of 1" in capsys.readouterr().err


def test_words_that_were_never_met_have_vectors_of_their_parts(composed, made):
    """In the log, the page and the card stands how many; `nearest` and `encode` compose them, exactly so."""
    words, report = read_words(composed), json.loads((composed / "report.json").read_text())
    told = next(line for line in report["samples"].splitlines() if "held out without a vector of their own" in line)
    asked, found = (int(part.split()[-1].replace(",", "")) for part in re.split(r" different ones| of which", told)[:2])
    assert 100 < found <= asked and found < 1.01 * asked
    for name in ("README.md", "report.html"):
        assert told in (composed / name).read_text()
    assert "subwords.safetensors" in (composed / "README.md").read_text()
    assert "subwords.safetensors" not in (made / "README.md").read_text()
    assert report["encoder"]["parameters"] == words.vectors.size + words.ngrams.vectors.size
    assert "classlike" not in words.places
    parts = [words.ngrams.buckets.tolist().index(bucket) for bucket in Subwords(3, 4, 500).buckets_of("classlike")]
    wanted = words.ngrams.vectors[parts].mean(0)
    np.testing.assert_allclose(hr.encode(composed, ["Classlike!"])[0], wanted, rtol=1e-5)
    texts = ["the class", "the classlike classes"]
    np.testing.assert_allclose(hr.encode(str(composed), texts), words.encode(texts))
    unit = wanted / np.linalg.norm(wanted)
    other, cosine = hr.nearest(composed, "Classlike", 1)[0]
    assert np.isclose(cosine, (words.directions @ unit).max(), rtol=1e-5) and other in words.places
    assert np.abs(hr.encode(made, ["classlike"])).max() == 0  # without parts nothing is known of it


def test_a_checkpoint_is_exported_with_the_parts(composed, tmp_path):
    recipe = importlib.import_module("hf_replearn.recipes.export")
    given = ["--checkpoint", str(composed / "checkpoint-3"), "--output_dir", str(tmp_path / "x")]
    run(recipe.main, recipe.ExportSettings, given)
    assert digest(tmp_path / "x") == digest(composed)


def test_a_checkpoint_is_exported(made, tmp_path):
    recipe = importlib.import_module("hf_replearn.recipes.export")
    run(
        recipe.main,
        recipe.ExportSettings,
        ["--checkpoint", str(made / "checkpoint-2"), "--output_dir", str(tmp_path / "x")],
    )
    found, last = read_words(tmp_path / "x"), read_words(made)
    assert found.words == last.words and not np.array_equal(found.vectors, last.vectors)
    assert (tmp_path / "x" / "words.txt").exists()


def test_a_stream_is_learnt_from_as_files_are(tmp_path):
    """The words of a file of 30 documents, all the same in both ways but for which are held out."""
    for part in ("train", "validation"):
        lines = [
            json.dumps({"text": f"the {'red' if n % 2 else 'blue'} house of number {n} stands"}) for n in range(30)
        ]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines))
    runs = {}
    for name, more in {"files": [], "stream": ["--streaming"]}.items():
        given = ["--dataset", str(tmp_path), "--files", "*.jsonl", "--output_dir", str(tmp_path / name), *more]
        assert start(*given) == 0
        runs[name] = digest(tmp_path / name)
    assert runs["files"] == runs["stream"]


# ---- words and vectors

PLANE = WordVectors(
    ["north", "east", "northeast", "south", "zero"],
    np.array([[0, 2], [3, 0], [1, 1], [0, -1], [0, 0]], dtype=np.float32),
)


def test_neighbours_by_hand():
    found = PLANE.nearest("North", 3)
    assert [word for word, _ in found] == ["northeast", "east", "zero"]
    np.testing.assert_allclose([cosine for _, cosine in found], [0.5**0.5, 0, 0], atol=1e-6)
    with pytest.raises(InputError, match="'west' is not among the 5"):
        PLANE.nearest("west")


def test_an_analogy_by_hand():
    """south is to north as ... : north - south + east = (1, 2) of unit vectors."""
    found = PLANE.analogy("south", "north", "east", 2)
    assert found[0][0] == "northeast"
    np.testing.assert_allclose(found[0][1], 3 / (5**0.5 * 2**0.5), rtol=1e-6)
    assert [word for word, _ in PLANE.analogy("south", "north", "east", 10)] == ["northeast", "zero"]


def test_words_are_cut_as_they_are_said_to_be():
    texts = ["It\u2019s a Café; it's 3 cafe\u0301s: naïve—naïve _x_ 'quoted'", "it's a"]
    tokenizer = learn_words(texts, lowercase=True, min_count=1, most=None)
    cut = ["it's", "a", "café", "it's", "cafés", "naïve", "naïve", "x", "quoted"]
    assert tokenizer.encode(texts[0]).tokens == cut
    assert words_of(tokenizer) == ["it's", "a", "naïve", "café", "cafés", "quoted", "x"]  # by count, then by letters
    assert words_of(learn_words(texts, lowercase=True, min_count=2, most=None)) == ["it's", "a", "naïve"]
    assert words_of(learn_words(texts, lowercase=True, min_count=1, most=2)) == ["it's", "a"]
    assert "It's" in words_of(learn_words(texts, lowercase=False, min_count=1, most=None))


def test_text_formats_of_others_are_read(tmp_path):
    write_text(PLANE.words, PLANE.vectors, tmp_path / "word2vec.txt")
    body = (tmp_path / "word2vec.txt").read_text().split("\n", 1)[1]
    (tmp_path / "glove.txt").write_text(body + "east 9 9\n")  # the first of two counts
    for name in ("word2vec.txt", "glove.txt"):
        found = read_words(tmp_path / name)
        assert found.words == PLANE.words
        np.testing.assert_array_equal(found.vectors, PLANE.vectors)
    assert hr.nearest(tmp_path / "glove.txt", "north", 1)[0][0] == "northeast"
    assert hr.analogy(tmp_path / "glove.txt", "south", "north", "east", 1)[0][0] == "northeast"


@pytest.mark.parametrize("text", ["", "2 3\n", "once upon a time\n", "a 1 2\nb 1\n"])
def test_a_file_of_something_else_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "vectors.txt").write_text(text)
    with pytest.raises(InputError, match="no file of word vectors") as told:
        read_words(tmp_path / "vectors.txt")
    assert "\n" not in str(told.value)


def test_folders_of_something_else_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no vectors of words"):
        read_words(tmp_path)
    tokenizer = learn_words(["a b c"], lowercase=True, min_count=1, most=None)
    write_words(WordVectors(["a", "b"], np.ones((2, 3), np.float32), tokenizer), tmp_path, recipe="word2vec")
    with pytest.raises(InputError, match="no vector for each word"):
        read_words(tmp_path)


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("\n\n".join(["one two three four", "five six seven eight"]), ["--min_count", "5"], "0 words occur at least 5"),
        ("\n\n".join(["word word word"] * 4), ["--min_count", "1"], "1 words occur at least 1"),
        ("\n\n".join(["one two", "two one"]), ["--min_count", "1"], "the text has 2 words that are known"),
        ("\n\n".join(["one two", "two one"]), ["--text_column", "body"], "--text_column 'body' does not exist"),
        ("one two three", [], "has 1 document"),
        ("", ["--subwords", "6-3"], "--subwords '6-3': give the fewest and the most characters"),
        ("", ["--subwords", "0-2"], "--subwords '0-2': give the fewest"),
        ("", ["--subwords", "three"], "--subwords 'three': give the fewest"),
        ("", ["--buckets", "100"], "--buckets 100 is of --subwords"),
        ("\n\n".join(["one two one two"] * 9), ["--subwords", "9-10"], "none of the 2 words has a part of so many"),
    ],
)
def test_too_little_text_is_refused_before_anything_is_learnt(text, more, message, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(text)
    assert start("--dataset", str(tmp_path / "text.txt"), "--output_dir", str(tmp_path / "out"), *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out" / "recipe.yaml").exists()
