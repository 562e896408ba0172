"""Datasets that are objects: nothing of them is lost, and what is no example is named."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hf_replearn.data.decoding import bands_of, decode_rgb
from hf_replearn.data.images import load_images
from hf_replearn.data.labelled import load_labelled
from hf_replearn.data.objects import shown, source_of
from hf_replearn.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (NOISE, NOISE),
        (NOISE[..., 0], np.repeat(NOISE[..., :1], 3, axis=2)),
        (NOISE[..., :1], np.repeat(NOISE[..., :1], 3, axis=2)),
        (torch.from_numpy(NOISE).permute(2, 0, 1), NOISE),
        (Image.fromarray(NOISE), NOISE),
        (Image.fromarray(NOISE[..., 0]), np.repeat(NOISE[..., :1], 3, axis=2)),
        (Image.fromarray(NOISE).convert("CMYK"), np.asarray(Image.fromarray(NOISE).convert("CMYK").convert("RGB"))),
    ],
)
def test_images_are_kept_as_they_are(image, expected):
    rows = source_of([image] * 2).splits["train"].cast_column("image", datasets.Image(decode=False))
    np.testing.assert_array_equal(np.asarray(decode_rgb(rows[0]["image"])), expected)


def test_levels_of_sixteen_bits_are_kept():
    levels = np.array([[0, 40_000], [65_535, 7]], dtype=np.uint16)
    rows = source_of([Image.fromarray(levels)] * 2).splits["train"]
    np.testing.assert_array_equal(np.asarray(rows[0]["image"]), levels)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 5)])
def test_arrays_of_sixteen_bits_are_read_as_files_of_them(shape):
    images = list(np.random.default_rng(0).integers(0, 4096, (12, *shape), dtype=np.uint16))
    channels = shape[2] if len(shape) == 3 else 1
    with pytest.raises(InputError, match="--value_range 0,4095"):
        load_images(source_of(images), channels=channels)
    data = load_images(source_of(images), channels=channels, value_range=(0, 4095))
    found = np.dstack([np.asarray(band) for band in bands_of(data.train[3])])
    assert np.abs(found / 255 - images[3].reshape(8, 8, channels) / 4095).max() < 1 / 255


def test_the_name_of_a_file_is_no_text(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"the texts are names of files, such as .*a.png'.*PIL.Image.open"):
        source_of([(str(tmp_path / "a.png"), 1)] * 2)
    assert len(source_of(["a text", str(tmp_path / "a.png")]).splits["train"]) == 2


def test_a_jpeg_is_not_compressed_again(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.jpg", quality=30)
    image = Image.open(tmp_path / "a.jpg")
    found = source_of([image]).splits["train"][0]["image"]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(image))


def test_labels_are_read_as_those_of_a_file():
    items = [(NOISE, name) for name in ("cat", "dog", "cat", "bird")]
    data = load_images(source_of({"train": items * 3, "test": items}))
    assert data.label_names == ["bird", "cat", "dog"] and data.test["label"][:] == [1, 2, 1, 0]
    numbers = [(f"text {row}", np.int64(row % 2)) for row in range(20)]
    data = load_labelled(source_of(numbers))
    assert data.label_names == ["0", "1"] and len(data.train) == 16 and data.name == "list"
    with pytest.raises(InputError, match="whole numbers as floats"):  # two readings, as of a file
        load_labelled(source_of([(f"text {row}", float(row % 2)) for row in range(20)]))


def test_dicts_are_columns_and_items_without_a_label_have_none():
    rows = source_of([{"picture": NOISE, "digit": 3, "note": "a"}] * 2).splits["train"]
    assert isinstance(rows.features["picture"], datasets.Image) and rows["digit"][:] == [3, 3]
    assert source_of(["one", "two"]).splits["train"]["text"][:] == ["one", "two"]
    assert shown({"train": [1, 2], "test": [3]}) == "(dict: train 2, test 1 examples)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(NOISE, 1), (3.5, 1)], r"item 1 of the dataset is \(float, int\)"),
        ([NOISE.astype(float)], r"item 0 of the dataset is ndarray of float64 \(4, 5, 3\)"),
        ([torch.zeros(3, 4, 4)], r"item 0 of the dataset is Tensor of torch.float32 \(3, 4, 4\)"),
        ([(NOISE, 1, 2)], r"item 0 of the dataset is \(ndarray"),
        ([(NOISE, 1), NOISE], "item 0 of the dataset has image, label, item 1 has image: items must be alike"),
        ([("a", 1), ("b", "c")], "the items of the dataset are not alike"),
        ([("a", object())], r"item 0 of the dataset is \(str, object\)"),
        ([], "the dataset 'train' is empty"),
        ({}, "an empty mapping"),
        ({"train": "photos"}, "the split 'train' is the text 'photos'"),
        (iter([1]), "is a list_iterator: give a path"),
        (7, "is a int: give a path"),
    ],
)
def test_what_is_no_dataset_is_named(given, message):
    with pytest.raises(InputError, match=message) as error:
        source_of(given)
    assert "\n" not in str(error.value)


def test_a_transform_is_not_passed_over():
    rows = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(InputError, match="has a transform"):
        source_of(rows.with_transform(lambda batch: batch))
    assert source_of(rows.with_format("numpy")).splits["train"][0] == {"text": "a"}
