"""Features of the user's own: labels beside them must be the dataset's, by number, by name, or by their own classes."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_replearn import Features as Represented
from hf_replearn.errors import InputError
from hf_replearn.evaluation.own_features import own_features

NAMES = ["bird", "cat", "dog"]


def examples(labels, kind=None, rows=None):
    kind = kind or ClassLabel(names=NAMES)
    part = Dataset.from_dict(
        {"text": [f"t{n}" for n in range(len(labels))], "label": labels}, Features(text=Value("string"), label=kind)
    )
    used = np.arange(len(labels)) if rows is None else np.array(rows)
    data = SimpleNamespace(train=part, test=part, label_names=NAMES, test_source="the split 'test'")
    picked = part.select(used)
    return SimpleNamespace(data=data, kind="classes", train=picked, test=picked, rows={"train": used, "test": used})


def given(x, labels, **more):
    arrays = {"train": x, "test": x, "train_labels": labels, "test_labels": labels, **more}
    return own_features(arrays, named="mine", origin="arrays")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([2, 0, 1, 2], None),
        (np.array(["dog", "bird", "cat", "dog"]), None),
        ([0, 2, 1, 0], ["dog", "cat", "bird"]),  # numbers of another count, whose names are there
    ],
)
def test_labels_that_are_the_datasets(labels, classes):
    x = np.arange(8.0).reshape(4, 2)
    more = {} if classes is None else {"classes": classes}
    some = examples([2, 0, 1, 2], rows=[3, 1])
    features = given(x, labels, **more)
    features.check(some)
    [(train, test)], facts = features.represent(some)
    assert train.x.tolist() == test.x.tolist() == [[6, 7], [2, 3]] and train.labels.tolist() == [2, 0]
    assert facts["features"] == "2"


def test_labels_within_features_count_too():
    x = np.eye(4)
    right, wrong = Represented(x, ["dog", "bird", "cat", "dog"]), Represented(x, ["bird", "bird", "cat", "dog"])
    own_features({"train": right, "test": right}, named="mine", origin="").check(examples([2, 0, 1, 2]))
    with pytest.raises(InputError, match="1 of 4 test_labels are not the dataset's; row 0 has bird, the dataset dog"):
        own_features({"train": right, "test": wrong}, named="mine", origin="").check(examples([2, 0, 1, 2]))


def test_several_labels_an_example_are_an_indicator_matrix():
    some = examples([[0, 2], [1], []], kind=List(ClassLabel(names=NAMES)))
    x, indicators = np.eye(3), np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    given(x, indicators).check(some)
    with pytest.raises(InputError, match="1 of 3 train_labels are not the dataset's; row 1 has"):
        given(x, indicators[[0, 0, 2]]).check(some)
    with pytest.raises(InputError, match=r"train_labels are \[3\], those of the dataset \[3, 3\]"):
        given(x, [0, 1, 2]).check(some)


def test_pairs_of_sentences_have_no_features_of_ones_own():
    with pytest.raises(InputError, match="^mine: features are judged on examples with classes, and these are pairs"):
        given(np.eye(2), [0, 1]).check(SimpleNamespace(kind="scores"))


def test_a_held_out_part_is_named():
    some = examples([0, 1, 2])
    some.data.test_source = "a held-out 20% of train"
    with pytest.raises(InputError, match="3 train examples .the test examples are a held-out 20% of train"):
        given(np.eye(15), [0] * 15).check(some)
