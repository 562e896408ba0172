"""Labelled sets of any column names become `text`, `text_pair` or `image`, and `label`; balanced draws of labels."""

import io

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image

from hf_replearn.data.labelled import balanced_subset, by_length, hold_out, load_labelled
from hf_replearn.errors import InputError

TEXTS = [f"text number {number}" for number in range(20)]


@pytest.fixture
def saved(tmp_path):
    """Writes columns, or {split: columns}, as parquet files, and gives their folder."""

    def save(splits: dict, **kinds):
        splits = splits if isinstance(next(iter(splits.values())), dict) else {"train": splits}
        for split, columns in splits.items():
            rows = Dataset.from_dict(columns)
            rows = rows.cast(Features({name: kinds.get(name, kind) for name, kind in rows.features.items()}))
            rows.to_parquet(tmp_path / f"{split}.parquet")
        return str(tmp_path)

    return save


@pytest.mark.parametrize("pair", [("sentence1", "sentence2"), ("question", "sentence"), ("premise", "hypothesis")])
def test_pairs_of_glue(saved, pair):
    data = load_labelled(saved({pair[0]: TEXTS, pair[1]: TEXTS[::-1], "idx": list(range(20)), "label": [0, 1] * 10}))
    assert data.inputs == ["text", "text_pair"]
    both = datasets.concatenate_datasets([data.train, data.test])
    assert sorted(zip(both["text"], both["text_pair"], strict=True)) == sorted(zip(TEXTS, TEXTS[::-1], strict=True))


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (["no", "yes"] * 10, ["no", "yes"], [0, 1] * 10),
        ([3, 7] * 10, ["3", "7"], [0, 1] * 10),
        ([True, False] * 10, ["False", "True"], [1, 0] * 10),
    ],
)
def test_labels_of_every_type(saved, labels, names, numbers):
    data = load_labelled(
        saved({"train": {"review": TEXTS, "label": labels}, "test": {"review": TEXTS, "label": labels}})
    )
    assert data.label_names == names
    assert list(data.test["label"]) == numbers
    assert data.test_source == "the split 'test' (20 of 20 test texts are training texts too, word for word)"


def test_numbers_are_regressed_on(saved):
    data = load_labelled(saved({"text": TEXTS, "label": [number / 2 for number in range(20)]}))
    assert data.label_names is None
    assert (len(data.train), len(data.test)) == (16, 4)


def test_a_csv_and_a_saved_folder(tmp_path):
    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(f"{text},{text[-1] in '02468'}\n" for text in TEXTS))
    data = load_labelled(str(tmp_path / "mine.csv"))
    assert (data.name, len(data.train), len(data.test), data.label_names) == ("mine", 16, 4, ["False", "True"])
    features = Features(comment=Value("string"), kind=ClassLabel(names=["bad", "good"]))
    DatasetDict(train=Dataset.from_dict({"comment": TEXTS, "kind": [0, 1] * 10}, features)).save_to_disk(tmp_path / "d")
    assert load_labelled(str(tmp_path / "d")).label_names == ["bad", "good"]


def test_the_split_to_evaluate_on(saved):
    """GLUE's test sets have labels of -1 only; elsewhere test comes first."""
    columns = {"sentence": TEXTS, "label": [0, 1] * 10}
    secret = columns | {"label": [-1] * 20}
    folder = saved({"train": columns, "validation": columns, "test": secret})
    data = load_labelled(folder)
    assert "the split 'validation'" in data.test_source and "no row of 'test' has a label: it is not used" in data.notes
    folder = saved({"train": columns, "validation": columns, "test": columns})
    assert "the split 'test'" in load_labelled(folder).test_source
    assert "the split 'validation'" in load_labelled(folder, evaluate_on=("validation", "test")).test_source


def test_images():
    data = load_labelled("toy")
    assert data.inputs == ["image"]
    assert (len(data.train), len(data.test), len(data.label_names)) == (1437, 360, 10)


@pytest.mark.parametrize(
    ("columns", "flags", "message"),
    [
        ({"text": TEXTS}, {}, "the label is not clear; the columns are text (string): choose with --label_column"),
        ({"text": TEXTS, "label": [0, 1] * 10}, {"label_column": "y"}, "--label_column 'y' does not exist"),
        ({"text": TEXTS, "label": [1] * 20}, {}, "all labels in the column 'label'"),
        ({"text": TEXTS, "label": [0.5] * 20}, {}, "are 0.5: two classes are needed"),
        ({"text": TEXTS, "label": [[0], [1]] * 10}, {}, "has several classes an example: one is needed"),
        ({"text": TEXTS, "label": [None] * 20}, {}, "no row of 'train' has a label in the column 'label'"),
        ({"words": [["a"]] * 20, "label": [0, 1] * 10}, {}, "the columns are words (list of string)"),
        ({"words": [["a"]] * 20, "label": [0, 1] * 10}, {"text_columns": "words"}, "holds list of string, not texts"),
        ({"image_id": TEXTS, "label": [0, 1] * 10}, {}, "no column holds texts; the columns are image_id (string)"),
        ({"a": TEXTS, "b": TEXTS, "label": [0, 1] * 10}, {}, "it is not clear which columns are the text"),
        ({"a": TEXTS, "b": TEXTS, "label": [0, 1] * 10}, {"text_columns": "a,c"}, "'c' does not exist"),
        ({"text": [" "] * 20, "label": [0, 1] * 10}, {}, "all texts in the column 'text' of 'train' are empty"),
        ({"text": [*TEXTS[:19], None], "label": [0, 1] * 10}, {}, "row 19 of 'train' has no 'text'"),
        ({"text": [], "label": []}, {}, "no data"),
    ],
)
def test_what_the_user_has_to_mend(saved, columns, flags, message):
    with pytest.raises(InputError) as error:
        load_labelled(saved(columns), **flags)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_place(tmp_path):
    with pytest.raises(InputError, match="missing/folder"):
        load_labelled(str(tmp_path / "missing" / "folder"))


LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [700, 200, 100]))


@pytest.mark.parametrize("fraction", [0.003, 0.01, 0.1, 0.25, 0.5, 1.0])
def test_a_draw_is_as_balanced_as_the_classes_allow(fraction):
    rows = balanced_subset(LABELS, fraction, seed=1)
    assert len(rows) == len(np.unique(rows)) == round(fraction * 1000)
    counts, available = np.bincount(LABELS[rows], minlength=3), np.array([700, 200, 100])
    assert counts.min() >= 1
    unexhausted = counts[counts < available]
    assert len(unexhausted) == 0 or unexhausted.max() - unexhausted.min() <= 1
    assert all(count <= unexhausted.min(initial=1000) + 1 for count in counts[counts == available] if len(unexhausted))


def test_draws_are_nested_and_differ_between_seeds():
    small, large = (balanced_subset(LABELS, fraction, seed=1) for fraction in (0.01, 0.1))
    assert set(small) < set(large)
    assert set(small) != set(balanced_subset(LABELS, 0.01, seed=2))


def test_every_row_of_a_class_is_as_likely():
    times = sum(np.bincount(balanced_subset(LABELS, 0.15, seed=seed), minlength=1000) for seed in range(400))
    for number, count in enumerate((700, 200, 100)):  # 50 of each class: binomial with p = 50 / count
        p = 50 / count
        z = (times[np.flatnonzero(np.equal(LABELS, number))] - 400 * p) / np.sqrt(400 * p * (1 - p))
        assert abs(z.std() - 1) < 0.25 and np.abs(z).max() < 5


def test_too_few_labels_for_the_classes():
    with pytest.raises(InputError, match="is 2, too few for 3 classes: use at least 0.003"):
        balanced_subset(LABELS, 0.002, seed=0)


def test_hold_out_is_stratified():
    assert np.bincount(LABELS[hold_out(LABELS)]).tolist() == [140, 40, 20]
    assert hold_out(np.linspace(0, 1, 50), stratified=False).sum() == 10


def test_by_length():
    rows = Dataset.from_dict({"text": ["ccc", "a", "bb"]})
    assert by_length(rows).tolist() == [1, 2, 0]


# ---- examples without a label, and copies


def test_examples_without_a_label_are_left_out_and_counted(saved):
    kind = ClassLabel(names=["no", "yes"])
    train = {"text": [f"train {n}" for n in range(20)], "label": [0, 1] * 9 + [-1, None]}
    test = {"text": TEXTS, "label": [1, -1, 0, None] * 5}
    data = load_labelled(saved({"train": train, "test": test}, label=kind))
    assert (len(data.train), len(data.test)) == (18, 10)
    assert [row["text"] for row in data.test] == TEXTS[::2] and data.test["label"][:] == [1, 0] * 5
    assert data.train["text"][:] == train["text"][:18] and data.train["label"][:] == [0, 1] * 9
    left_out = "10 of 20 rows of 'test' have no label and are left out"
    assert data.notes == ["2 of 20 rows of 'train' have no label and are left out", left_out]
    assert data.test_source == f"the split 'test' ({left_out})"


def test_a_held_out_fifth_is_of_what_has_labels(saved):
    data = load_labelled(saved({"text": TEXTS, "label": ["a", "b", None, ""] * 5}))
    assert (len(data.train), len(data.test), data.label_names) == (8, 2, ["a", "b"])
    assert data.test["label"][:].count(0) == 1


def test_a_numeric_split_with_some_secret_labels(saved):
    rows = {"train": {"text": TEXTS, "label": [0, 1] * 10}, "test": {"text": ["a", "b", "c"], "label": [-1, 1, 0]}}
    data = load_labelled(saved(rows))
    assert data.label_names == ["0", "1"] and data.test["text"][:] == ["b", "c"] and data.test["label"][:] == [1, 0]


def test_texts_with_several_labels_each(saved):
    columns = {"text": TEXTS, "label": [["good", "short"], []] * 10}
    data = load_labelled(saved(columns), several=True)
    assert data.label_names == ["good", "short"] and (len(data.train), len(data.test)) == (16, 4)
    assert data.train[0]["label"] in ([0, 1], [])


def test_copies_of_training_texts_are_counted(saved):
    pairs = {"sentence1": TEXTS, "sentence2": ["x"] * 20, "label": [0, 1] * 10}
    test = {"sentence1": [TEXTS[3], TEXTS[4], "new"], "sentence2": ["x", "y", "x"], "label": [1, 0, 1]}
    data = load_labelled(saved({"train": pairs, "test": test}))
    assert "(1 of 3 test texts are training texts too, word for word)" in data.test_source
    assert len(data.test) == 3  # they are said, not removed
    again = {"text": ["same"] * 10 + TEXTS[:10], "label": [0, 1] * 10}
    data = load_labelled(saved({"train": again, "test": {"text": ["new", "newer"], "label": [0, 1]}}))
    assert (
        data.notes == ["9 of 20 training texts repeat others, word for word"] and data.test_source == "the split 'test'"
    )


def test_unlabelled_images_are_left_out(put):
    for name in (
        "train/cat/0.png",
        "train/cat/1.png",
        "train/dog/2.png",
        "train/3.png",
        "test/cat/4.png",
        "test/5.png",
    ):
        root = put(name, level=len(name) + int(name[-5]) * 20)
    data = load_labelled(str(root))
    assert (len(data.train), len(data.test)) == (3, 1)
    assert "1 of its 2 images have no label" in data.test_source and "1 of the 4 images of 'train'" in data.notes[0]


@pytest.mark.parametrize(("labels", "why"), [([0, 0, 0], "have the same, 'a'"), ([-1, -1, -1], "no image of 'train'")])
def test_images_without_labels_say_why(tmp_path, labels, why):
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "PNG")
    image = {"bytes": file.getvalue(), "path": None}
    features = Features(image=datasets.Image(decode=False), label=ClassLabel(names=["a", "b"]))
    rows = Dataset.from_dict({"image": [image] * 3, "label": labels}, features)
    rows.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=why):
        load_labelled(str(tmp_path))
