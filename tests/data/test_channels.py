"""Images of one channel or many, of 8 and 16 bits and floats: .npy, TIFF of several pages or bands, PNG."""

import io
import sys
import warnings

import datasets
import numpy as np
import pytest
import tifffile
import torch
from datasets import Dataset, Features
from PIL import Image

from hf_replearn.data.decoding import UndecodableImage, bands_of, decode_rgb, picture_of, stack_images
from hf_replearn.data.images import load_images
from hf_replearn.data.inventory import take_inventory
from hf_replearn.data.labelled import load_labelled
from hf_replearn.errors import InputError
from hf_replearn.representation import ImagePreprocessor

random = np.random.default_rng(0)


def npy(array) -> dict:
    file = io.BytesIO()
    np.save(file, array)
    return {"bytes": file.getvalue(), "path": None}


def tiff(array, **options) -> dict:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return {"bytes": file.getvalue(), "path": None}


def png(array) -> dict:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def levels(*shape, kind=np.uint8, most=256) -> np.ndarray:
    return random.integers(0, most, shape).astype(kind)


def read(raw, channels, value_range=None) -> np.ndarray:
    """(H, W, C) uint8"""
    row = {"image": raw, "channels": channels, "value_range": value_range}
    return stack_images([row], canvas=None)[0][0].permute(1, 2, 0).numpy()


def packed(tmp_path, images) -> str:
    features = Features(image=datasets.Image(decode=False))
    Dataset.from_dict({"image": images}, features=features).to_parquet(tmp_path / "train.parquet")
    return str(tmp_path / "train.parquet")


# ---- one channel


def test_greys_of_8_and_16_bits_have_one_channel():
    small, deep = levels(5, 7), levels(5, 7, kind=np.uint16, most=65536)
    assert (read(png(small), 1)[:, :, 0] == small).all()
    for raw in (png(deep), tiff(deep), npy(deep), npy(deep[None]), npy(deep[:, :, None].astype(">u2"))):
        assert np.abs(read(raw, 1)[:, :, 0] - deep / 257).max() <= 0.5
    assert (read(png(np.array([[True, False]])), 1).ravel() == [255, 0]).all()
    assert (read(npy(np.array([[True, False]])), 1).ravel() == [255, 0]).all()


def test_greys_that_were_saved_in_colour_are_greys_and_colours_are_not():
    grey = levels(16, 16)
    assert (read(png(np.dstack([grey] * 3)), 1)[:, :, 0] == grey).all()
    file = io.BytesIO()
    Image.fromarray(grey).convert("RGB").save(file, "JPEG")
    jpeg = {"bytes": file.getvalue(), "path": None}
    assert (read(jpeg, 1) == np.asarray(decode_rgb(jpeg))[:, :, :1]).all()
    with pytest.raises(UndecodableImage, match="convert it to grey if its brightness is meant; its colours are 3"):
        read(png(levels(4, 4, 3)), 1)


def test_three_and_four_channels_are_those_of_the_file():
    colours, four = levels(5, 7, 3), levels(5, 7, 4)
    assert (read(png(colours), 3) == colours).all() and (read(png(four), 4) == four).all()
    for raw, count, channels in ((png(four), 4, 3), (png(colours), 3, 4), (png(levels(5, 7)), 1, 3)):
        with pytest.raises(UndecodableImage, match=f"{count} channels?, not {channels}"):
            read(raw, channels)


# ---- arrays


@pytest.mark.parametrize("channels", [2, 3, 5, 12])
def test_channels_of_an_array_come_first_or_last(channels):
    array = levels(6, 8, channels)
    assert (read(npy(array), channels) == array).all()
    assert (read(npy(np.moveaxis(array, 2, 0)), channels) == array).all()
    assert (read(npy(np.asfortranarray(array)), channels) == array).all()


@pytest.mark.parametrize(
    ("array", "channels", "reason"),
    [
        (levels(5, 8, 5), 5, r"\(5, 8, 5\): are its channels the first axis, or the last"),
        (levels(8, 8, 4), 5, "has not 5 channel"),
        (levels(8, 8), 5, "1 channel, not 5"),
        (levels(2, 2, 2, 2), 2, "is no image"),
        (levels(0, 4), 1, "is no image"),
        (np.array(["a"]), 1, "not of numbers"),
        (np.zeros((4, 4), complex), 1, "not of numbers"),
        (np.full((4, 4), None), 1, "allow_pickle"),
        (np.zeros((4, 4), np.float32), 1, "float32 levels have no scale"),
        (np.zeros((4, 4), np.int16), 1, "int16 levels have no scale"),
    ],
)
def test_what_is_no_image_of_so_many_channels(array, channels, reason):
    with pytest.raises(UndecodableImage, match=reason):
        read(npy(array), channels)


def test_an_array_is_read_as_rgb_where_it_has_three_channels_or_one():
    colours, grey = levels(5, 7, 3), levels(5, 7)
    assert (np.asarray(decode_rgb(npy(colours))) == colours).all()
    assert (np.asarray(decode_rgb(npy(grey))) == grey[:, :, None]).all()
    half = np.asarray(decode_rgb(npy(colours / 255), value_range=(0, 1)))
    assert (half == colours).all()
    with pytest.raises(UndecodableImage, match="say how many there are with --channels"):
        decode_rgb(npy(levels(8, 8, 5)))


# ---- TIFF


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"compression": "deflate"}, {"tile": (16, 16)}])
def test_bands_of_a_tiff(options):
    array = levels(32, 16, 5)
    stored = np.moveaxis(array, 2, 0) if "planarconfig" in options else array
    raw = tiff(stored, photometric="minisblack", **{"planarconfig": "contig"} | options)
    assert (read(raw, 5) == array).all()
    with pytest.raises(UndecodableImage, match="5 channels, not 16"):
        read(raw, 16)


def test_colours_of_16_bits_keep_them_in_a_tiff():
    array = levels(8, 8, 3, kind=np.uint16, most=65536)
    assert np.abs(read(tiff(array, photometric="rgb"), 3) - array / 257).max() <= 0.5


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_pages_of_a_tiff_are_channels(kind):
    array = levels(6, 8, 4, kind=kind)
    found = read(tiff(np.moveaxis(array, 2, 0), photometric="minisblack"), 4, (0, 255) if kind != np.uint8 else None)
    assert (found == array).all()


def test_types_that_pillow_does_not_know_are_read():
    array = levels(6, 8, kind=np.float64)
    assert (read(tiff(array), 1, (0, 255))[:, :, 0] == array).all()


def several(*arrays) -> dict:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array, options in arrays:
            writer.write(array, photometric="minisblack", metadata=None, **options)
    return {"bytes": file.getvalue(), "path": None}


def test_a_smaller_copy_of_the_page_is_no_channel():
    page = levels(16, 16)
    assert (read(several((page, {}), (page[::2, ::2], {"subfiletype": 1})), 1)[:, :, 0] == page).all()


def test_tiffs_that_cannot_be_read_whole():
    page = levels(16, 16)
    turned = several((levels(16, 16, 5), {"planarconfig": "contig", "extratags": [(274, "H", 1, 6, True)]}))
    whole = tiff(levels(5, 16, 16), photometric="minisblack")["bytes"]
    for raw, channels, reason in [
        (several((page, {}), (page[:8], {})), 2, "2 pages of several sizes or types"),
        (several((page, {}), (page, {})), 1, "2 channels, not 1"),
        (several((page, {}), (page, {})), 3, "2 channels, not 3"),
        (turned, 5, "lies on its side"),
        ({"bytes": whole[:-99], "path": None}, 5, "corrupted|truncated"),
    ]:
        with pytest.raises(UndecodableImage, match=reason):
            read(raw, channels)


def test_without_tifffile_one_line_says_how_to_have_it(tmp_path, monkeypatch):
    path = packed(tmp_path, [tiff(levels(5, 16, 16), photometric="minisblack")] * 3)
    grey = tiff(levels(4, 4))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r"^a TIFF of several pages or bands .* pip install 'hf-replearn\[tiff\]'$"):
        load_images(path, channels=5, max_undecodable=1)
    assert read(grey, 1).shape == (4, 4, 1)  # which Pillow knows


def test_no_flipped_byte_brings_another_exception():
    warnings.simplefilter("ignore")  # Pillow's, of odd tags
    files = [
        (npy(levels(9, 9, 5))["bytes"], 5),
        (tiff(levels(16, 16, 5), photometric="rgb", compression="deflate")["bytes"], 5),
        (tiff(levels(4, 16, 16, kind=np.uint16), photometric="minisblack")["bytes"], 4),
    ]
    undecodable = 0
    for trial in range(600):
        data, channels = files[trial % 3]
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[random.integers(min(len(damaged), 300), size=3)] = random.integers(256, size=3)
        try:
            read({"bytes": damaged.tobytes(), "path": None}, channels)
        except UndecodableImage:
            undecodable += 1
    assert 50 < undecodable < 580


# ---- all images of a source


def test_floats_need_a_range_and_the_refusal_names_it(tmp_path):
    arrays = [np.linspace(-20, 180, 4 * 4 * 2, dtype=np.float32).reshape(4, 4, 2)] * 3
    path = packed(tmp_path, list(map(npy, arrays)))
    with pytest.raises(InputError, match="3 of 3 images are of float32, of levels -20 to 180.*--value_range -20,180"):
        load_images(path, channels=2)
    data = load_images(path, channels=2, value_range=(-20, 80))
    expected = np.rint(((arrays[0] + 20) / 100).clip(0, 1) * 255)
    assert (stack_images([data.train[0]], canvas=None)[0][0].permute(1, 2, 0).numpy() == expected).all()
    assert (
        data.notes[0] == "levels from -20 to 80 become black to white; 3 images have levels beyond, which are cut off"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_named(tmp_path, bad):
    arrays = [np.full((4, 4, 2), 0.5)] * 3
    images = list(map(npy, [*arrays, np.where(np.arange(2) == 1, bad, arrays[0])]))
    [skipped] = load_images(packed(tmp_path, images), channels=2, value_range=(0, 1), max_undecodable=0.5).skipped
    assert skipped.row == 3 and skipped.reason == "some levels are not finite"


def test_few_bits_in_16_are_refused_with_the_range_and_all_are_taken_by_the_type(tmp_path):
    dark, full = ([npy(levels(9, 9, 4, kind=np.uint16, most=most))] * 3 for most in (4096, 65536))
    with pytest.raises(InputError, match=r"3 16-bit images have levels .* --value_range 0,4095"):
        load_images(packed(tmp_path, dark), channels=4)
    data = load_images(packed(tmp_path, full), channels=4)
    assert "levels from 0 to 65,535, the range of 16 bits, become black to white" in data.notes


def test_images_of_another_number_of_channels_are_named(tmp_path):
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", levels(6, 6, 5 if i else 4))
    with pytest.raises(InputError, match=r"1 of 8 images.*0\.npy .*\(6, 6, 4\) has not 5 channel"):
        load_images(str(tmp_path), channels=5)
    data = load_images(str(tmp_path), channels=5, max_undecodable=0.2)
    assert len(data.train) == 7 and data.train["channels"][:] == [5] * 7 and data.sizes == {(6, 6): 7}
    with pytest.raises(InputError, match="say how many there are with --channels"):
        load_images(str(tmp_path))


def test_pages_that_rgb_does_not_show_are_said(tmp_path):
    data = load_images(packed(tmp_path, [tiff(levels(4, 16, 16), photometric="minisblack")] * 3))
    assert "channels" not in data.train.column_names
    assert data.notes[0].startswith("3 images are TIFFs of several pages") and "--channels N" in data.notes[0]


def test_arrays_in_class_folders_are_labelled_images(tmp_path):
    for i in range(10):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        np.save(tmp_path / "ab"[i % 2] / f"{i}.npy", levels(6, 6, 2))
    data = load_labelled(str(tmp_path), channels=2)
    assert data.label_names == ["a", "b"] and len(data.train) + len(data.test) == 10
    assert ImagePreprocessor(4, (0.5,) * 2, (0.5,) * 2)([data.train[0]]).shape == (1, 2, 4, 4)


def test_arrays_beside_pictures(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", levels(6, 6, 3))
        Image.fromarray(levels(6, 6, 3)).save(tmp_path / f"{i}.png")
    found = take_inventory(str(tmp_path), purpose="images")
    assert found.splits == {"train": ["0.png", "1.png", "2.png"]}
    assert {item.file for item in found.left_out} == {"0.npy", "1.npy", "2.npy"}
    assert "an array beside other data" in found.left_out[0].reason
    with pytest.raises(InputError, match=r"the 3 \.npy files .* or the 3 images"):
        load_images(str(tmp_path), channels=3)
    assert len(load_images(str(tmp_path), channels=3, files=["*.npy"]).train) == 3
    assert len(load_images(str(tmp_path), channels=3, files=["*.npy", "*.png"]).train) == 6


# ---- what batches are made of


def test_channels_are_resized_one_by_one_as_greys_are():
    row = {"image": npy(levels(20, 30, 5)), "channels": 5}
    pixels, aspect = stack_images([row], canvas=16)
    for found, band in zip(pixels[0], bands_of(row), strict=True):
        assert (found.numpy() == np.asarray(band.resize((16, 16), Image.Resampling.BILINEAR))).all()
    assert aspect.item() == pytest.approx(1.5)


def test_three_channels_are_prepared_as_rgb_is():
    raw = png(levels(40, 30, 3))
    preprocess = ImagePreprocessor(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 0.9)
    assert torch.equal(preprocess([{"image": raw}]), preprocess([{"image": raw, "channels": 3}]))


def test_a_picture_to_look_at():
    array = levels(6, 6, 5)
    assert (np.asarray(picture_of({"image": npy(array), "channels": 5})) == array[:, :, :3]).all()
    assert (np.asarray(picture_of({"image": npy(array[:, :, :2]), "channels": 2})) == array[:, :, :1]).all()
