"""The right choice is the one that the data means, or the task is refused with both readings."""

from dataclasses import replace

import datasets
import pytest
from toy_tasks import LABELS

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting import decide_reading, load_task, read_documents

DIGITS = ["1", "2", "3", "4"]


def asked(folder, answers, choices, *, target="answer", features=None):
    """The choices that count as right, as texts, and the documents that cannot be asked."""
    (folder / "toy.yaml").write_text(LABELS)
    task = replace(load_task(folder / "toy.yaml"), doc_to_choice=choices, doc_to_target=target)
    rows = datasets.Dataset.from_dict({"text": ["x"] * len(answers), "answer": answers}, features=features)
    documents, bad = read_documents(decide_reading(task, rows), rows)
    return [document.answer for document in documents], [entry["document"] for entry in bad]


@pytest.mark.parametrize(
    ("answers", "choices", "expected"),
    [
        (["1", "4", "2", "3"], DIGITS, ["1", "4", "2", "3"]),  # texts of a column are the choice that reads the same
        (["2", "1", "2"], DIGITS, ["2", "1", "2"]),
        ([0, 3, 1], DIGITS, ["1", "4", "2"]),  # numbers are places, as stars from 0 to 4
        ([1, 0, 1], ["negative", "positive"], ["positive", "negative", "positive"]),
        (["0", "1"], ["negative", "positive"], ["negative", "positive"]),
        ([1.0, 0.0], ["negative", "positive"], ["positive", "negative"]),  # as csv gives them beside an empty cell
        ([True, False], ["no", "yes"], ["yes", "no"]),
        ([True, False], ["False", "True"], ["True", "False"]),
        (["True", "False"], ["True", "False"], ["True", "False"]),
        (["B", " A", "B\n"], ["A", "B"], ["B", "A", "B"]),
        ([2, 0, 1], ["3", "0", "7", "9"], ["7", "3", "0"]),  # a sum's answers in any order
        (["-1", "1", "0"], ["-1", "0", "1"], ["-1", "1", "0"]),
        ([[1], [0]], ["a", "b"], ["b", "a"]),
    ],
)
def test_answers_are_read_as_the_data_means_them(folder, answers, choices, expected):
    assert asked(folder, answers, choices) == (expected, [])


@pytest.mark.parametrize(
    ("answers", "choices", "target"),
    [
        ([1, 2, 3, 4], DIGITS, "answer"),  # the fourth place does not exist, the first is never right: read as texts?
        ([1, 2, 3], DIGITS, "answer"),
        (["1", "2", "3"], DIGITS, "{{answer}}"),  # digits of a template are a place for lm-evaluation-harness
        ([True, False], ["True", "False"], "answer"),
        ([True, False], ["yes", "no"], "answer"),
        ([-1, 0, 1], ["-1", "0", "1"], "answer"),
        (["0", "1", "2"], ["1", "2", "3"], "answer"),
    ],
)
def test_two_readings_are_refused_and_both_are_named(folder, answers, choices, target):
    with pytest.raises(InputError, match=r"two ways.* reads the same .* its place counted from 0") as error:
        asked(folder, answers, choices, target=target)
    assert "\n" not in str(error.value)


def test_what_the_refusal_offers_works(folder):
    assert asked(folder, [1, 2, 3], DIGITS, target="['{{answer}}']")[0] == ["1", "2", "3"]
    assert asked(folder, [1, 2, 3], DIGITS, target="[{{answer}}]")[0] == ["2", "3", "4"]
    assert asked(folder, [1, 2, 3], DIGITS, target="{{answer - 1}}")[0] == ["1", "2", "3"]


def test_a_class_label_is_a_place(folder):
    kind = datasets.Features({"text": datasets.Value("string"), "answer": datasets.ClassLabel(names=["x", "y", "z"])})
    assert asked(folder, [1, 2, 1], DIGITS, features=kind)[0] == ["2", "3", "2"]


@pytest.mark.parametrize(
    ("answers", "choices"),
    [
        ([0, -1, None, 1], ["a", "b"]),
        (["a", "", "c", "b"], ["a", "b"]),
        (["a", None, "A", "b"], ["a", "b"]),
        (["1", "5", "0", "2"], ["1", "2"]),  # a text that is no choice is not a place where others are texts
        ([0.0, 0.5, float("nan"), 1.0], ["a", "b"]),
        ([[0], [0, 1], [], [1]], ["a", "b"]),
    ],
)
def test_an_answer_that_is_no_choice_is_no_answer(folder, answers, choices):
    right, bad = asked(folder, answers, choices)
    assert bad == [1, 2] and len(right) == 2


def test_a_right_choice_that_stands_there_twice_is_not_asked(folder):
    assert asked(folder, [0, 1], ["same", "other", "same"]) == (["other"], [0])
