"""Exact match and F1 of SQuAD by hand, in the words of the official scripts."""

import pytest

from hf_replearn.metrics import METRICS
from hf_replearn.metrics.squad import best_of, exact_match, normalised, word_f1

PAIRS = [  # told, right, exact match, F1: counted by hand
    ("The Panthers!", "panthers", 1, 1),
    ("in 1999", "1999", 0, 2 / 3),
    ("a red and a blue boat", "the red boat", 0, 2 * (2 / 4) * 1 / (2 / 4 + 1)),  # articles are no words
    ("boat boat", "boat", 0, 2 / 3),  # a word counts as often as it occurs
    ("ship", "boat", 0, 0),
    ("theatre", "the atre", 0, 0),  # `the` is an article only as a whole word
    ("U.S.", "US", 1, 1),
    ("twenty-one", "twentyone", 1, 1),
    ("Café", "cafe", 0, 0),
    ("two  boats\n", "two boats", 1, 1),
]


@pytest.mark.parametrize(("told", "right", "exact", "f1"), PAIRS)
def test_pairs_by_hand(told, right, exact, f1):
    assert exact_match(told, right) == exact
    for v2 in (False, True):
        assert word_f1(told, right, v2=v2) == pytest.approx(f1)


def test_normalised_as_the_official_scripts_do():
    assert normalised(" The  «quick», a-n brown_fox's AN end. ") == "«quick» brownfoxs end"


def test_the_best_of_several_right_answers_each_by_itself():
    """Exact match by one, F1 by another."""
    assert best_of("red boat", ["blue boat", "red boat here", "ship"]) == (0, pytest.approx(0.8))
    assert best_of("", [], v2=True) == (1, 1) and best_of("boat", [], v2=True) == (0, 0)
    assert best_of("", ["boat"], v2=True) == (0, 0)
    with pytest.raises(ValueError, match="of SQuAD v2"):
        best_of("", [])


def test_where_the_two_official_scripts_differ():
    """Of texts without words v1.1 counts no common word, and F1 is 0; v2 takes them for no answer."""
    assert (word_f1("the", "a"), word_f1("the", "a", v2=True)) == (0, 1)
    assert best_of("the", ["a"]) == (1, 0)
    assert best_of("", ["the", "boat"], v2=True) == (0, 0)  # `the` is no right answer, and `boat` is one


def test_means_and_kinds_of_questions():
    references = [
        {"id": "x", "answers": {"text": ["red boat"], "answer_start": [0]}},
        {"id": "y", "answers": {"text": [], "answer_start": []}},
        {"id": "z", "answers": {"text": [], "answer_start": []}},
    ]
    told = [{"id": "z", "prediction_text": ""}, {"id": "x", "prediction_text": "boat"}]
    told.append({"id": "y", "prediction_text": "ship"})
    found = METRICS["squad_v2"]().compute(predictions=told, references=references)
    assert found == pytest.approx(
        {"exact_match": 1 / 3, "f1": (2 / 3 + 0 + 1) / 3, "f1_answerable": 2 / 3, "unanswerable": 1 / 2}
    )
    one = METRICS["squad"]().compute(predictions=told[1:2], references=references[:1])
    assert one == pytest.approx({"exact_match": 0, "f1": 2 / 3})
    with pytest.raises(ValueError, match="one prediction, by an id"):
        METRICS["squad"]().compute(predictions=[told[0]], references=references[:1])


def test_an_unknown_configuration():
    with pytest.raises(ValueError, match=r"v1.1 or v2, not 'v3'"):
        METRICS["squad"]("v3")
