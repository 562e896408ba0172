import io
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from hf_replearn.data.graphs import load_graph
from hf_replearn.data.image_texts import find_pairs
from hf_replearn.data.questions import load_questions
from hf_replearn.data.sentences import load_pairs
from hf_replearn.data.sources import load_source
from hf_replearn.data.toy import digits
from hf_replearn.errors import InputError


def test_digits_are_scikit_learns_in_80_20_by_class():
    splits = digits()
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 1437, "test": 360}
    counts = {split: np.bincount(rows["label"][:]) for split, rows in splits.items()}
    assert (np.abs(counts["test"] / (counts["test"] + counts["train"]) - 0.2) < 0.01).all()
    assert splits["train"].features["label"].names == list("0123456789")

    pixels, labels = load_digits(return_X_y=True)
    ours = {
        (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).tobytes(), row["label"])
        for rows in splits.values()
        for row in rows
    }
    theirs = {
        (np.rint(image.reshape(8, 8) / 16 * 255).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(pixels, labels, strict=True)
    }
    assert ours == theirs


def test_digits_are_the_same_every_time():
    assert digits()["test"][:] == digits()["test"][:]


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("toy", partial(load_source, purpose="images")),
        ("sprites", partial(load_source, purpose="images")),
        ("toy-tones", partial(load_source, purpose="sounds")),
        ("toy-texts", partial(load_source, purpose="labels")),
        ("toy", load_graph),
        ("toy", find_pairs),
        ("toy-unanswerable", load_questions),
        ("toy", load_pairs),
    ],
    ids=lambda what: what if isinstance(what, str) else "",
)
def test_what_lies_here_by_the_name_of_data_made_here_is_neither_taken_nor_passed_over(
    name, load, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"'{name}' is the name of data .* makes, and .* say \./{name}"):
        load(name)
    with pytest.raises(InputError, match=r"no |empty|nothing"):
        load(f"./{name}")  # which is a folder without files


def test_a_name_is_of_data_made_here_only_where_they_are_of_use(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sprites").mkdir()
    (tmp_path / "sprites" / "train.txt").write_text("All work is of words.\n\n" * 3)
    assert load_source("sprites", purpose="texts").kind == "text"
