"""What a column of labels says: every type, no label, two readings, and classes that splits do not share."""

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from hf_replearn.data.labels import choose_label, has_labels, read_labels
from hf_replearn.errors import InputError


def column(values, kind=None) -> Dataset:
    return Dataset.from_dict({"label": values}, Features(label=kind) if kind else None)


def read(train, test=None, **how):
    """Labels of a train split and maybe a test split, each a list of values or a Dataset."""
    parts = {"train": train} if test is None else {"train": train, "test": test}
    parts = {split: part if isinstance(part, Dataset) else column(part) for split, part in parts.items()}
    return read_labels(parts, "label", **how)


def said(*args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        read(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- types


@pytest.mark.parametrize(
    ("values", "names", "numbers"),
    [
        (["None", "NA", "null", "nan"], ["NA", "None", "nan", "null"], [1, 0, 3, 2]),
        (["b", "a", "", None, "  "], ["a", "b"], [1, 0, None, None, None]),
        ([10, 9, 9, 10], ["9", "10"], [1, 0, 0, 1]),
        ([True, None, False], ["False", "True"], [1, None, 0]),
        ([-2, -1, 0, 1], ["-2", "-1", "0", "1"], [0, 1, 2, 3]),
        (["10", "9", "10"], ["10", "9"], [0, 1, 0]),
    ],
)
def test_classes(values, names, numbers):
    labels = read(values)
    assert (labels.names, labels.several, labels.values["train"]) == (names, False, numbers)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "large_string", "string"])
def test_plain_types_of_any_width(kind):
    values = ["3", "7", "3"] if "string" in kind else [3, 7, 3]
    assert read(column(values, Value(kind))).names == ["3", "7"]


def test_declared_classes_keep_names_that_no_row_has():
    labels = read(column([2, 0, None, -1], ClassLabel(names=["x", "y", "z"])))
    assert (labels.names, labels.values["train"]) == (["x", "y", "z"], [2, 0, None, None])


def test_floats_are_regressed_on():
    labels = read([0.5, float("nan"), None, -1.0], [2.0, 3.25])
    assert labels.names is None and labels.values == {"train": [0.5, None, None, -1.0], "test": [2.0, 3.25]}
    assert "inf" in said([0.5, float("inf")])
    assert "row 1 of 'train'" in said([0.5, float("-inf")])


@pytest.mark.parametrize(
    "kind", [List(ClassLabel(names=["car", "dog"])), datasets.LargeList(ClassLabel(names=["car", "dog"]))]
)
def test_lists_of_declared_classes(kind):
    labels = read(column([[0, 1], [], None, [1]], kind))
    assert labels.several and labels.names == ["car", "dog"]
    assert labels.values["train"] == [[0, 1], [], None, [1]]  # an empty list says that no class is there


def test_lists_of_names_and_of_numbers():
    labels = read([["red", "round"], ["blue"]], [["blue", "red"]])
    assert (labels.names, labels.values["test"]) == (["blue", "red", "round"], [[0, 1]])
    assert read([[10, 2], [2]]).names == ["2", "10"]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (column([{"a": 1}]), "struct"),
        (column([[0.5, 0.5]]), "list of float64"),
        (column([[True, False]]), "list of bool"),
        (column([[[1]]]), "list of list of int64"),
        (column([b"x"]), "binary"),
        (column([0], Value("timestamp[s]")), "timestamp[s]"),
    ],
)
def test_what_holds_no_labels(rows, what):
    assert f"is {what}: choose another --label_column" in said(rows)


def test_numbers_0_and_1_of_one_length_are_two_readings():
    assert "one place for each class" in said([[0, 1, 1], [1, 0, 0]])
    assert read([[0], [1], [0]]).names == ["0", "1"]
    assert read([[0, 1], [1]]).names == ["0", "1"]


def test_a_list_with_a_gap_is_refused():
    assert "row 1 of 'train'" in said([["a"], ["b", None]])


def test_numbers_beyond_the_declared_classes():
    rows = column([0, 1, 5]).cast(Features(label=Value("int64")))
    rows = Dataset(rows.data, info=datasets.DatasetInfo(features=Features(label=ClassLabel(names=["x", "y"]))))
    assert "class number 5" in said(rows)


# ---- no label


@pytest.mark.parametrize("share", [1, 30, 99])
def test_declared_classes_have_no_minus_one(share):
    rows = column([-1] * share + [0, 1] * 50, ClassLabel(names=["x", "y"]))
    assert read(rows).values["train"] == [None] * share + [0, 1] * 50


def test_minus_one_of_two_is_a_class():
    for train in ([-1, 1] * 50, [-1] + [1] * 99, [-1, 0] * 50):
        labels = read(train, train[:10])
        assert labels.names == sorted({"-1", str(train[-1])}, key=int) and None not in labels.values["test"]


def test_minus_one_beside_other_negative_numbers_is_a_class():
    assert read([-1] + [-2, 2] * 50).names == ["-2", "-1", "2"]


def test_minus_one_that_is_rare_is_no_label():
    labels = read([-1] * 2 + [0, 1, 2] * 40)
    assert labels.names == ["0", "1", "2"] and labels.values["train"][:3] == [None, None, 0]
    assert "2 of 122 rows of 'train' have the label -1" in labels.notes[0]


def test_minus_one_that_train_lacks_is_no_label():
    labels = read([0, 1] * 20, [0, -1, 1, -1, -1])
    assert labels.values["test"] == [0, None, 1, None, None]
    assert "3 of 5 rows of 'test' have the label -1" in labels.notes[0]


@pytest.mark.parametrize(
    "train", [[-1, 0, 1] * 20, [-1] * 60 + [0, 1] * 20, [-1] * 5 + [0, 1, 2] * 30, [-1, -1, 0, *[1] * 200]]
)
def test_minus_one_that_may_be_either_is_refused_and_can_be_said(train):
    message = said(train)
    assert "a class, or no label?" in message and "--label_type classes" in message and "empty" in message
    labels = read(train, label_type="classes")
    assert labels.names[0] == "-1" and labels.values["train"][0] == 0
    assert read([None if value == -1 else value for value in train]).names == labels.names[1:]


def test_a_dash_among_words_goes_by_the_rules_of_minus_one():
    agreed = ["no", "maybe", "yes"] * 50
    labels = read([*agreed, "-", "-"], [*agreed, "-"])
    assert labels.names == ["maybe", "no", "yes"] and labels.values["test"][-1] is None
    assert "1 of 151 rows of 'test' have the label -, taken for 'no label'" in labels.notes
    assert read(agreed, ["-", "yes"]).values["test"] == [None, 2]
    assert "the label - in 'label': a class, or no label?" in said([*agreed, *["-"] * 20])
    assert read([*agreed, *["-"] * 20], label_type="classes").names[0] == "-"
    assert read(["+", "-", "0"] * 20).names == ["+", "-", "0"] and read(["-", "x"] * 20).names == ["-", "x"]


def test_a_split_without_any_label():
    for nothing in ([-1, -1], ["-", "-"], [None, None], ["", " "], [-1.0, -1.0], [float("nan")]):
        assert not has_labels(column(nothing), "label")
    assert not has_labels(column([-1, -1], ClassLabel(names=["x", "y"])), "label")
    assert not has_labels(column([0]), "other")
    for some in ([-1, 0], ["None"], [[]], [False], [0.0]):
        assert has_labels(column(some), "label")


# ---- two readings


def test_whole_floats():
    """1.0 is what a table makes of 1 in a column with a gap."""
    values = [0.0, 1.0, None, 10.0, 2.0]
    message = said(values)
    assert "--label_type classes" in message and "--label_type numbers" in message
    classes = read(values, label_type="classes")
    assert (classes.names, classes.values["train"]) == (["0", "1", "2", "10"], [0, 1, None, 3, 2])
    numbers = read(values, label_type="numbers")
    assert numbers.names is None and numbers.values["train"] == values


def test_whole_floats_of_one_split_are_the_classes_of_the_other():
    labels = read([0, 1, 1, 0], [1.0, float("nan"), 0.0])
    assert (labels.names, labels.values["test"]) == (["0", "1"], [1, None, 0])
    assert read([1.0, None, 0.0], [0, 1]).names == ["0", "1"]
    assert "0.5" in said([0, 1], [0.5])


def test_whole_numbers_may_be_said_to_be_regressed_on():
    assert read([3, 1, -1], label_type="numbers").values["train"] == [3.0, 1.0, -1.0]
    assert "'label' is string" in said(["a", "b"], label_type="numbers")
    assert "list of string" in said([["a"], ["b"]], label_type="numbers")


def test_floats_where_no_command_has_a_use_for_them():
    assert "0.5" in said([0.5, 1.5], scores=False) and "--label_type classes" in said([0.5, 1.5], scores=False)
    assert read([0.5, 1.5], scores=False, label_type="classes").names == ["0.5", "1.5"]


@pytest.mark.parametrize(
    "values", [list(range(100, 140)), [f"case {n}" for n in range(40)], [2 * n // 3 for n in range(30)]]
)
def test_as_many_classes_as_rows(values):
    message = said(values)
    assert "--label_column" in message and "--label_type classes" in message
    assert ("--label_type numbers" in message) == isinstance(values[0], int)
    assert len(read(values, label_type="classes").names) == len(set(values))
    assert len(read(values * 2).names) == len(set(values))


def test_declared_classes_may_be_as_many_as_rows():
    assert len(read(column(list(range(40)), ClassLabel(num_classes=40))).names) == 40


# ---- classes between splits


def test_declared_classes_in_another_order_are_matched_by_name():
    train = column([0, 1, 2], ClassLabel(names=["cat", "dog", "fox"]))
    test = column([0, 1, 2, -1], ClassLabel(names=["fox", "cat", "dog"]))
    labels = read(train, test)
    assert (labels.names, labels.values["test"]) == (["cat", "dog", "fox"], [2, 0, 1, None])


def test_names_and_declared_classes_are_matched_by_name():
    test = column([0, 1], ClassLabel(names=["dog", "cat"]))
    assert read(["cat", "dog"], test).values["test"] == [1, 0]
    assert read(column([0, 1], ClassLabel(names=["9", "3"])), [3, 9, 9]).values["test"] == [1, 0, 0]


def test_a_class_of_test_that_train_lacks_is_refused():
    message = said(["cat", "dog"] * 5, ["cat", "fox", "fox", "owl"])
    assert "'fox' in 'label', of which 'test' has 2, nor 1 others" in message
    kind = ClassLabel(names=["cat", "dog", "fox"])
    assert "'fox'" in said(column([0, 1], kind), column([0, 2], kind))
    assert "'fox'" in said([["cat"], ["dog"]], [["dog", "fox"]])


def test_a_class_that_test_lacks_keeps_the_numbers_of_train():
    assert read(["0", "90", "180", "270"], ["270", "90"]).values["test"] == [2, 3]


def test_lists_in_one_split_only():
    assert "different splits" in said(["a", "b"], [["a"]])


def test_classes_that_differ_in_case_or_spaces_only():
    [note] = read(["cat", "Cat", "cat ", "dog"]).notes
    assert "'Cat', 'cat', 'cat '" in note and "3 classes" in note
    assert len(read(["caf\u00e9", "cafe\u0301"]).notes) == 1
    assert read(["cat", "dog"]).notes == []


# ---- which column


def chosen(asked=None, **kinds):
    return choose_label(Features(kinds), asked)


def test_which_column():
    kind, text = ClassLabel(names=["x", "y"]), Value("string")
    assert chosen(text=text, Label=Value("bool"), kind=kind) == "Label"
    assert chosen(text=text, kind=kind) == chosen(text=text, kind=List(kind)) == "kind"
    assert chosen(text=text) is None
    assert chosen("text", text=text, label=kind) == "text"
    assert chosen(label=datasets.Image(), kind=kind) == "kind"  # a mask is no label


@pytest.mark.parametrize(
    ("kinds", "asked", "message"),
    [
        ({"fine": ClassLabel(names=["x"]), "coarse": ClassLabel(names=["y"])}, None, "fine, coarse"),
        ({"label": Value("string"), "labels": Value("int64")}, None, "label, labels"),
        ({"label": Value("string")}, "target", "'target' does not exist; the columns are label (string)"),
    ],
)
def test_which_column_is_not_clear(kinds, asked, message):
    with pytest.raises(InputError) as error:
        chosen(asked, **kinds)
    assert message in str(error.value) and "--label_column" in str(error.value)
