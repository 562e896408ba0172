"""Where sentences end, which rows are pairs that belong together, and what is refused rather than guessed."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from hf_replearn.data.sentences import cut, load_pairs, sentences_of
from hf_replearn.data.sources import Source
from hf_replearn.data.text import load_corpus
from hf_replearn.errors import InputError


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three! Four", ["One.", "Two?", "Three!", "Four"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("See e.g. the docs. Dr. Who and J. Smith met Mr. Darcy.",
         ["See e.g. the docs.", "Dr. Who and J. Smith met Mr. Darcy."]),
        ("Version 3.14 is out. It works", ["Version 3.14 is out.", "It works"]),
        ("it ends. with a small letter", ["it ends. with a small letter"]),
        ("One\n line.   Two.", ["One line.", "Two."]),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("Ende. Über uns.", ["Ende.", "Über uns."]),
        ("... Well. --", ["Well."]),
        ("  ", []),
    ],
)  # fmt: skip
def test_where_sentences_end(text, sentences):
    assert cut(text) == sentences


def test_sentences_of_documents_or_the_rows_as_they_are(tmp_path):
    (tmp_path / "train.txt").write_text("One two. Three four.\n\nFive six.\n\nSeven. Eight.")
    (tmp_path / "validation.txt").write_text("Nine. Ten.\n\nEleven.")
    corpus = load_corpus(str(tmp_path))
    cut_up, as_they_are = sentences_of(corpus, "sentence"), sentences_of(corpus, "row")
    assert cut_up.train["text"][:] == ["One two.", "Three four.", "Five six.", "Seven.", "Eight."]
    assert as_they_are.train["text"][:] == ["One two. Three four.", "Five six.", "Seven. Eight."]
    assert cut_up.fingerprint != as_they_are.fingerprint == sentences_of(corpus, "row").fingerprint
    assert "cut into 5 sentences, held out 3" in cut_up.taken


def table(rows: dict, *, features: Features | None = None, **splits: dict) -> Source:
    parts = {"train": rows, **splits}
    return Source(
        "made", None, "toy", {name: Dataset.from_dict(part, features=features) for name, part in parts.items()}
    )


PAIRS = {"a": [f"first {n}" for n in range(8)], "b": [f"second {n}" for n in range(8)]}


def test_two_columns_of_texts_are_pairs():
    found = load_pairs(table(PAIRS, validation={name: texts[:3] for name, texts in PAIRS.items()}))
    assert found.columns == ("text", "partner") and len(found.train) == 8
    assert found.train[2] == {"text": "first 2", "partner": "second 2"}
    assert "3 of the 3 held-out pairs are in train too" in found.test_source
    without = load_pairs(table(PAIRS))
    assert len(without.train) == 6 and without.test_source == "2 pairs at random"


def test_usual_names_and_hard_negatives():
    rows = {"sent0": PAIRS["a"], "sent1": PAIRS["b"], "hard_neg": [f"no {n}" for n in range(8)], "title": PAIRS["a"]}
    found = load_pairs(table(rows))
    assert found.columns == ("text", "partner", "negative") and found.train[0]["negative"].startswith("no ")
    asked = load_pairs(table(rows), text_columns="title, sent1")
    assert asked.columns == ("text", "partner") and asked.train[0]["text"].startswith("first")


@pytest.mark.parametrize(
    ("where", "kept"),
    [("label=yes", 4), ("label != yes", 4), ("label=1", 4), ("score>=4", 3), ("score < 1.5", 2), ("all", 8),
     ("name=x y", 2), ("flag=true", 5)],
)  # fmt: skip
def test_which_rows_belong_together_is_said(where, kept):
    features = Features(a=Value("string"), b=Value("string"), label=ClassLabel(names=["no", "yes"]),
                        score=Value("float32"), name=Value("string"), flag=Value("bool"))  # fmt: skip
    rows = PAIRS | {
        "label": [0, 1] * 4,
        "score": [0, 1, 2, 3, 3.9, 4, 4.5, 5],
        "name": ["x y", "z"] + ["w"] * 5 + ["x y"],
    }
    rows |= {"flag": [True] * 5 + [False] * 3}
    source = table(rows, features=features, validation={name: values[:8] for name, values in rows.items()})
    assert len(load_pairs(source, text_columns="a,b", where=where).train) == kept


def test_rows_with_an_empty_text_are_left_out_and_named():
    rows = {"a": [*PAIRS["a"][:6], "", None], "b": PAIRS["b"]}
    found = load_pairs(table(rows))
    assert [item.file for item in found.left_out] == ["train row 6", "train row 7"] and len(found.train) == 4


JUDGED = PAIRS | {"label": ["entailment", "neutral"] * 4}


@pytest.mark.parametrize(
    ("rows", "about", "message"),
    [
        (JUDGED, {}, "the column 'label' .entailment, neutral, …. may say which rows are pairs .* --where 'label="),
        (PAIRS | {"score": [0.5] * 8}, {}, "the column 'score' .*--where"),
        (JUDGED, {"where": "label=maybe"}, "no row of 'train' is so; 'label' has entailment, neutral"),
        (JUDGED, {"where": "label"}, "--where 'label': say a column, one of"),
        (JUDGED, {"where": "kind=1"}, "there is no column 'kind' in 'train'; the columns are a, b, label"),
        (JUDGED, {"where": "label>=2"}, ">= compares numbers"),
        ({"a": PAIRS["a"]}, {}, "one column of texts, and pairs are two: choose them with --text_columns"),
        (PAIRS | {"c": PAIRS["a"]}, {}, "3 columns of texts, and pairs are two"),
        (PAIRS, {"text_columns": "a"}, "name two columns, or three"),
        (PAIRS, {"text_columns": "a,a"}, "name two columns, or three"),
        (PAIRS, {"text_columns": "a,c"}, "'c' does not exist; the columns are a, b"),
        (PAIRS | {"n": [1] * 8}, {"text_columns": "a,n"}, "'n' holds no texts"),
        ({"a": ["x"] * 3, "b": ["y"] * 3}, {}, "has 3 pairs of texts: give more"),
        ({"a": ["", "", "x"], "b": ["y"] * 3}, {}, "2 of 3 rows of 'train' have an empty text in a, b"),
    ],
)
def test_what_is_not_guessed(rows, about, message):
    with pytest.raises(InputError, match=message):
        load_pairs(table(rows), **about)


def test_the_toy_is_sentences_and_those_after_them():
    found = load_pairs("toy")
    assert len(found.train) > 500 and len(found.test) > 50 and found.columns == ("text", "partner")


def test_a_table_of_other_splits_is_refused():
    source = Source("made", None, "toy", dict(DatasetDict({"test": Dataset.from_dict(PAIRS)})))
    with pytest.raises(InputError, match="no split 'train', only test"):
        load_pairs(source)
