"""Bytes to RGB in every mode, the scan, the hold-out, and the workers' helpers."""

import io
import os
import struct
import warnings
import zlib
from functools import partial

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from PIL import Image
from pyarrow import parquet

from hf_replearn.data.decoding import (
    UndecodableImage,
    centre_crop,
    decode_rgb,
    picture_of,
    stack_images,
    without_far_ends,
)
from hf_replearn.data.images import load_images
from hf_replearn.data.scan import scan
from hf_replearn.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, format="PNG", **options) -> dict:
    file = io.BytesIO()
    image.save(file, format, **options)
    return {"bytes": file.getvalue(), "path": None}


def colours(raw: dict) -> list[tuple[int, int, int]]:
    """The pixels, row by row."""
    image = decode_rgb(raw)
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def picture(pixels, mode) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def smooth(height, width) -> Image.Image:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return Image.fromarray((np.stack([x, y, (x + y) / 2], -1) * 255).astype(np.uint8))


# ---- modes


def test_rgb_and_grey_and_one_bit():
    assert colours(encode(picture([RED, BLUE], "RGB"))) == [RED, BLUE]
    assert colours(encode(picture([0, 77, 255], "L"))) == [(0, 0, 0), (77, 77, 77), WHITE]
    assert colours(encode(picture([0, 255], "1"))) == [(0, 0, 0), WHITE]


def test_transparent_pixels_are_white_and_half_transparent_ones_half():
    assert colours(encode(picture([(*RED, 255), (*RED, 0), (*RED, 128)], "RGBA"))) == [RED, WHITE, (255, 127, 127)]
    assert colours(encode(picture([(0, 255), (0, 0), (0, 128)], "LA"))) == [(0, 0, 0), WHITE, (127, 127, 127)]
    assert colours(encode(picture([RED, GREEN], "RGB"), transparency=RED)) == [WHITE, GREEN]
    assert colours(encode(picture([7, 99], "L"), transparency=7)) == [WHITE, (99, 99, 99)]


def test_palette():
    image = picture([0, 1, 2], "P")
    image.putpalette([*RED, *GREEN, *BLUE])
    assert colours(encode(image)) == [RED, GREEN, BLUE]
    assert colours(encode(image, transparency=1)) == [RED, WHITE, BLUE]
    assert colours(encode(image, transparency=bytes([255, 0, 128]))) == [RED, WHITE, (127, 127, 255)]
    assert colours(encode(image, "GIF", transparency=1)) == [RED, WHITE, BLUE]


def test_cmyk_jpeg():
    for cmyk, rgb in [
        ((0, 255, 255, 0), RED),
        ((255, 0, 255, 0), GREEN),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0,) * 4, WHITE),
    ]:
        found = colours(encode(Image.new("CMYK", (16, 16), cmyk), "JPEG", quality=95))
        assert np.abs(np.array(found) - rgb).max() <= 4


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_ramp_is_scaled_not_clipped(format, order):
    ramp = np.arange(0, 65536, 255, dtype=np.uint16)[None]
    image = Image.fromarray(ramp.astype("<u2")) if order == "<u2" else Image.frombytes(
        "I;16B", ramp.shape[::-1], ramp.astype(">u2").tobytes()
    )  # fmt: skip
    found = np.array(colours(encode(image, format)))
    assert np.abs(found - ramp[0, :, None] / 257).max() <= 0.5


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_first_frame_of_an_animation(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    raw = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50)
    assert Image.open(io.BytesIO(raw["bytes"])).n_frames == 3
    assert np.abs(np.array(colours(raw)) - RED).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation, corner", [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0)), (5, (0, 0))])
def test_exif_orientation(format, orientation, corner):
    """A black picture 32 wide and 16 high, its top left quarter white; corner: where that is once upright (y, x)."""
    stored = np.zeros((16, 32), np.uint8)
    stored[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode_rgb(encode(Image.fromarray(stored).convert("RGB"), format, exif=exif))
    assert upright.size == ((32, 16) if orientation < 5 else (16, 32))
    quarters = np.asarray(upright)[..., 0].reshape(2, upright.height // 2, 2, upright.width // 2).mean((1, 3))
    expected = np.zeros((2, 2))
    expected[corner] = 255
    assert np.abs(quarters - expected).max() < 12


def test_path_or_bytes(tmp_path):
    picture([RED], "RGB").save(tmp_path / "a.png")
    assert colours({"bytes": None, "path": str(tmp_path / "a.png")}) == [RED]
    raw = {"bytes": (tmp_path / "a.png").read_bytes(), "path": "gone.png"}
    assert colours(raw) == [RED]


# ---- what is no picture


def huge_png() -> bytes:
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "raw, reason",
    [
        ({"bytes": encode(noise, "JPEG")["bytes"][:-900]}, "truncated"),
        ({"bytes": encode(noise, "PNG")["bytes"][:2000]}, "truncated"),
        ({"bytes": b""}, "empty file"),
        ({"bytes": b"<html>404</html>"}, "known format"),
        ({"bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"}, "known format"),
        ({"bytes": huge_png()}, "decompression bomb"),
        ({"bytes": encode(Image.new("F", (4, 4)), "TIFF")["bytes"]}, "32-bit"),
        ({"bytes": None, "path": "/no/such/file.png"}, "No such file"),
        ({"bytes": None}, "empty row"),
        (None, "empty row"),
    ],
)
def test_undecodable_says_why(raw, reason):
    with pytest.raises(UndecodableImage, match=reason):
        decode_rgb(raw if raw is None else {"path": None, **raw})


def test_undecodable_names_the_file():
    with pytest.raises(UndecodableImage, match="cats/1.jpg: empty file"):
        stack_images([{"image": {"bytes": b"", "path": "cats/1.jpg"}}], canvas=None)


def test_no_flipped_byte_brings_another_exception():
    warnings.simplefilter("ignore")  # Pillow's, of odd tags
    random = np.random.default_rng(0)
    files = [
        encode(noise.resize((16, 12)), format)["bytes"] for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    ]
    undecodable = 0
    for _ in range(1200):
        damaged = np.frombuffer(files[random.integers(len(files))], np.uint8).copy()
        damaged[random.integers(min(len(damaged), 200), size=3)] = random.integers(256, size=3)
        try:
            decode_rgb({"bytes": damaged.tobytes(), "path": None})
        except UndecodableImage:
            undecodable += 1
    assert 100 < undecodable < 1100


# ---- the scan


def fill(put, n, bad=()):
    for i in range(n):
        root = put(f"{'cat' if i % 2 else 'dog'}/{i:03d}.png", level=i)
    for i in bad:
        (root / ("cat" if i % 2 else "dog") / f"{i:03d}.png").write_bytes(b"not a picture")
    return root


def test_one_bad_image_in_200_is_skipped_and_listed(put):
    data = load_images(str(fill(put, 200, bad=[51])))
    [skipped] = data.skipped
    assert skipped.file.endswith("cat/051.png") and skipped.split == "train" and "known format" in skipped.reason
    assert skipped.row == 25  # cat/001, cat/003, … come first
    kept = [*data.train, *data.test]
    assert len(kept) == 199 and not any(row["image"]["path"].endswith("051.png") for row in kept)
    assert all(("cat" in row["image"]["path"]) == (data.label_names[row["label"]] == "cat") for row in kept)
    assert sum(data.sizes.values()) == 199


def test_five_bad_images_in_100_stop(put):
    root = fill(put, 100, bad=[1, 3, 5, 7, 9])
    with pytest.raises(InputError, match=r"5 of 100 images \(5\.0%\).*0\.01.*001\.png.*003\.png.*005\.png.*…") as error:
        load_images(str(root))
    assert "\n" not in str(error.value)
    assert len(load_images(str(root), max_undecodable=0.05).skipped) == 5


def test_bad_test_split_and_empty_row(put, tmp_path):
    for i in range(200):
        root = put(f"train/{i:03d}.png", level=i)
    put("test/0.png").joinpath("test/0.png").write_bytes(b"")
    with pytest.raises(InputError, match="no image in the split 'test'"):
        load_images(str(root))
    rows = [encode(Image.new("L", (2, 2))), None, encode(Image.new("L", (2, 2)))]
    features = Features(image=datasets.Image(decode=False))
    Dataset.from_dict({"image": rows}, features=features).to_parquet(tmp_path / "train.parquet")
    [skipped] = load_images(str(tmp_path / "train.parquet"), max_undecodable=0.5).skipped
    assert skipped == ("train", 1, None, "empty row")
    nothing = Dataset.from_dict({"image": []}, features=features).with_format("arrow")[:]
    parquet.write_table(nothing, tmp_path / "nothing.parquet")  # to_parquet divides by zero in some versions
    with pytest.raises(InputError):
        load_images(str(tmp_path / "nothing.parquet"))


def test_scan_is_cached_until_a_file_changes(put, monkeypatch):
    root = fill(put, 10, bad=[3])
    assert len(load_images(str(root), max_undecodable=1).skipped) == 1
    with monkeypatch.context() as patch:
        patch.setattr("hf_replearn.data.scan.decode", None)  # a second scan would call it
        assert len(load_images(str(root), max_undecodable=1).skipped) == 1
    fill(put, 10)
    assert load_images(str(root)).skipped == []


def test_scan_in_two_processes_is_the_scan_in_one(monkeypatch, tmp_path):
    images = [encode(Image.new("L", (i % 7 + 1, i % 5 + 1))) for i in range(2100)] + [{"bytes": b"", "path": None}]
    rows = Dataset.from_dict({"image": images}, features=Features(image=datasets.Image(decode=False)))
    two = scan(rows, num_proc=2)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "another")
    one = scan(rows, num_proc=1)
    assert all((one[key] == two[key]).all() for key in one)
    assert one["height"].tolist() == [i % 5 + 1 for i in range(2100)] + [0]
    assert one["width"].tolist() == [i % 7 + 1 for i in range(2100)] + [0]
    assert one["reason"].tolist() == [""] * 2100 + ["empty file"]


def test_sizes_and_fingerprint(put, tmp_path):
    for name, size in (("0.png", (6, 4)), ("1.png", (6, 4)), ("2.png", (9, 5))):
        root = put(name, size=size)
    data = load_images(str(root))
    assert data.sizes == {(4, 6): 2, (5, 9): 1} and data.common_size is None
    assert data.canvas(3) == 6 and data.canvas(32) == 9
    put("2.png", size=(6, 4))
    same_size = load_images(str(root))
    assert same_size.common_size == (4, 6) and same_size.canvas(3) is None and same_size.canvas(2) == 4
    assert same_size.fingerprint != data.fingerprint


# ---- the hold-out


def labelled(tmp_path, counts):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    features = Features(image=datasets.Image(decode=False), label=ClassLabel(names=list("abcdefgh")[: len(counts)]))
    images = [encode(Image.new("RGB", (1, 1), (i, 0, 0))) for i in range(len(labels))]
    Dataset.from_dict({"image": images, "label": labels}, features=features).to_parquet(tmp_path / "all.parquet")
    return str(tmp_path / "all.parquet")


def test_hold_out_is_a_fifth_of_each_class_and_disjoint(tmp_path):
    counts = [100, 55, 12, 3, 1]
    path = labelled(tmp_path, counts)
    data = load_images(path)
    held = np.bincount(data.test["label"][:], minlength=5)
    assert len(data.test) == 34 and (np.abs(held - np.array(counts) / 5) < 1).all() and held[4] == 0
    train, test = ({row["image"]["bytes"] for row in rows} for rows in (data.train, data.test))
    assert not train & test and len(train) + len(test) == 171
    assert f"34 of the {sum(counts)}" in data.test_source
    assert load_images(path).test[:] == data.test[:]


def test_hold_out_is_at_most_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_replearn.data.images.HOLD_OUT_MOST", 10)
    data = load_images(labelled(tmp_path, [60, 40]))
    assert np.bincount(data.test["label"][:]).tolist() == [6, 4]


# ---- the workers' helpers


def test_stack_as_they_are():
    images = [smooth(5, 7), smooth(5, 7).rotate(180)]
    pixels, aspect = stack_images([{"image": encode(image)} for image in images], canvas=None)
    assert pixels.dtype == torch.uint8 and pixels.shape == (2, 3, 5, 7) and pixels.is_contiguous()
    assert (pixels.permute(0, 2, 3, 1).numpy() == np.stack(images)).all()
    assert aspect.dtype == torch.float32 and aspect.tolist() == pytest.approx([7 / 5] * 2)


def test_stack_on_a_canvas_keeps_the_aspect_ratio_as_a_number():
    examples = [{"image": encode(smooth(*size))} for size in ((40, 80), (90, 30), (8, 8))]
    pixels, aspect = stack_images(examples, canvas=16)
    assert pixels.shape == (3, 3, 16, 16) and aspect.tolist() == pytest.approx([2, 1 / 3, 1])
    assert (pixels[0].float() - pixels[1].float()).abs().max() < 12  # the same ramp, squeezed
    with pytest.raises(ValueError, match="canvas"):
        stack_images(examples, canvas=None)


@pytest.mark.parametrize("orientation", [1, 6])
def test_draft_of_a_large_jpeg_stays_larger_than_the_canvas(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encode(smooth(333, 777), "JPEG", exif=exif, quality=95)
    drafted, whole = decode_rgb(raw, at_least=50), decode_rgb(raw)
    assert whole.size == ((777, 333) if orientation == 1 else (333, 777))
    assert 50 <= min(drafted.size) < 100
    pixels, aspect = stack_images([{"image": raw}], canvas=50)
    reference = np.asarray(whole.resize((50, 50), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(pixels[0].permute(1, 2, 0).numpy() - reference).max() <= 3
    assert aspect.item() == pytest.approx(whole.width / whole.height, rel=1 / 50)


@pytest.mark.parametrize("shape", [(64, 64), (100, 75), (75, 101), (333, 50), (20, 31)])
@pytest.mark.parametrize("size, crop_pct", [(32, 1.0), (32, 0.875), (33, 0.9)])
def test_centre_crop_is_timms(shape, size, crop_pct):
    from timm.data import create_transform

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    transform = create_transform(
        size, is_training=False, interpolation="bilinear", crop_pct=crop_pct, mean=(0, 0, 0), std=(1, 1, 1)
    )
    ours = centre_crop(image, size, crop_pct=crop_pct)
    assert ours.shape == (3, size, size) and ours.dtype == torch.uint8
    assert (ours / 255 - transform(image)).abs().max() * 255 <= 1


# ---- labels and copies


def test_images_without_a_label_are_trained_on_and_count_in_no_score(put):
    """As with a few labels among many images: the held-out fifth is of those with labels."""
    for i in range(10):
        put(f"cat/{i}.png", level=i), put(f"dog/{i}.png", level=100 + i)
    for i in range(5):
        root = put(f"{i}.png", level=200 + i)
    data = load_images(str(root))
    assert (len(data.train), len(data.labelled), len(data.test)) == (21, 16, 4)
    assert sorted(data.labelled["label"][:]) == [0] * 8 + [1] * 8 and None not in data.test["label"][:]
    assert data.notes == ["5 of the 25 images of 'train' have no label, and count in no score"]
    assert data.test_source.startswith("4 of the 20 labelled images of `train`")
    ignored = load_images(str(root), label_type="ignored")
    assert (len(ignored.train), ignored.test, ignored.label_names) == (25, None, None)


def test_copies_between_train_and_test_are_counted_and_kept(put):
    for i in range(8):
        put(f"train/{'ab'[i % 2]}/{i}.png", level=i // 2 * 50)  # four pictures, each twice
    for i in range(3):
        root = put(f"test/a/{i}.png", level=i * 50 + (i == 2))
    data = load_images(str(root))
    assert data.test_source == "split `test` (2 of 3 test images are byte-identical to training images)"
    assert "4 of 8 training images are byte-identical copies of others" in data.notes and len(data.test) == 3


def test_copies_in_a_held_out_fifth(put):
    for i in range(20):
        root = put(f"{'ab'[i % 2]}/{i}.png", level=i % 2)
    data = load_images(str(root))
    assert (
        f"({len(data.test)} of {len(data.test)} test images are byte-identical to training images)" in data.test_source
    )


# ---- levels of 16 and 32 bits


def levels(values, kind=np.uint16, format="PNG") -> dict:
    return encode(Image.fromarray(np.array([values], kind)), format)


def greys(tmp_path, images):
    features = Features(image=datasets.Image(decode=False))
    Dataset.from_dict({"image": images}, features=features).to_parquet(tmp_path / "train.parquet")
    return str(tmp_path / "train.parquet")


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_bits_in_16_are_refused_with_the_range(tmp_path, bits):
    path = greys(tmp_path, [levels([0, 5, 2**bits - 1])] * 5)
    with pytest.raises(InputError) as error:
        load_images(path)
    assert f"levels from 0 to {2**bits - 1:,} only" in str(error.value) and "\n" not in str(error.value)
    assert f"--value_range 0,{2**bits - 1} " in str(error.value) and "--value_range 0,65535" in str(error.value)
    row = load_images(path, value_range=(0, 2**bits - 1)).train[0]
    assert np.asarray(picture_of(row))[0, :, 0].tolist() == [0, round(5 / (2**bits - 1) * 255), 255]
    assert np.asarray(picture_of(load_images(path, value_range=(0, 65535)).train[0]))[0, 2, 0] == round(
        (2**bits - 1) / 257
    )


def test_one_broken_image_does_not_hide_the_range_of_the_others(tmp_path):
    with pytest.raises(InputError, match="9 16-bit grey images have levels from 12 to 900 only"):
        load_images(greys(tmp_path, [levels([12, 900])] * 9 + [levels([0, 65535])]))


def test_a_narrow_range_in_the_middle(tmp_path):
    with pytest.raises(InputError, match="--value_range 32000,33000 "):
        load_images(greys(tmp_path, [levels([32000, 33000])] * 3))


def test_full_16_bits_need_no_range(tmp_path):
    images = [levels([9, 60_000])] * 3
    data = load_images(greys(tmp_path, images))
    assert "value_range" not in data.train.features
    assert np.asarray(picture_of(data.train[0])).tolist() == np.asarray(decode_rgb(images[0])).tolist()


@pytest.mark.parametrize(("kind", "format"), [(np.float32, "TIFF"), (np.int32, "TIFF")])
def test_32_bits_need_a_range(tmp_path, kind, format):
    path = greys(tmp_path, [levels([-50, 0, 150], kind, format)] * 3)
    with pytest.raises(InputError, match="3 of 3 images are 32-bit greys, of levels -50 to 150.*--value_range -50,150"):
        load_images(path)
    data = load_images(path, value_range=(-50, 150))
    assert np.asarray(picture_of(data.train[0]))[0, :, 0].tolist() == [0, 64, 255]
    assert stack_images([data.train[0]], canvas=None)[0][0, 0, 0].tolist() == [0, 64, 255]


def test_a_range_is_of_greys_and_eight_bits_stay(tmp_path):
    mixed = [levels([0, 4095])] * 3 + [encode(picture([0, 200], "L"))]
    data = load_images(greys(tmp_path, mixed), value_range=(0, 4095))
    assert np.asarray(picture_of(data.train[3]))[0, :, 0].tolist() == [0, 200]
    with pytest.raises(InputError, match="there are none"):
        load_images(greys(tmp_path, mixed[3:] * 2), value_range=(0, 4095))


def test_levels_that_are_not_finite(tmp_path):
    images = [levels([0, 1], np.float32, "TIFF")] * 3 + [levels([np.nan, 1], np.float32, "TIFF")]
    [skipped] = load_images(greys(tmp_path, images), value_range=(0, 1), max_undecodable=0.5).skipped
    assert skipped.row == 3 and "not finite" in skipped.reason


@pytest.mark.parametrize("value_range", [(0,), (5, 5), (9, 1), (0, float("inf")), (0, 1, 2)])
def test_what_is_no_range(value_range):
    with pytest.raises(InputError, match="--value_range must be LOW,HIGH"):
        load_images("toy", value_range=value_range)


def png16(pixels) -> dict:
    """16-bit colours, which Pillow reads and does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"\0" + np.array(pixels, ">u2").tobytes()
    header = struct.pack(">IIBBBBB", len(pixels), 1, 16, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return {"bytes": b"\x89PNG\r\n\x1a\n" + data, "path": None}


def test_dark_16_bit_colours(tmp_path):
    path = greys(tmp_path, [png16([(0, 0, 0), (4095, 4095, 100)])] * 3)
    with pytest.raises(InputError, match="16-bit colour images.*convert them to 8 bits"):
        load_images(path)
    assert len(load_images(path, value_range=(0, 65535)).train) == 3
    assert len(load_images(greys(tmp_path, [png16([(0, 0, 0), (65535, 40000, 0)])] * 3)).train) == 3


# ---- files that are no pictures, and odd shapes


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_goes_while_a_run_is_at_work_is_one_line(tmp_path, workers):
    rows = Dataset.from_dict({"image": [{"bytes": None, "path": str(tmp_path / "gone.png")}]})
    loader = torch.utils.data.DataLoader(rows, num_workers=workers, collate_fn=partial(stack_images, canvas=None))
    with pytest.raises(InputError) as error:
        next(iter(loader))
    assert str(error.value) == f"{tmp_path / 'gone.png'}: No such file or directory"


def test_a_pipe_and_a_device_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 2**31)  # a file of holes
    for name, reason in (("pipe", "not a plain file"), ("zero", "not a plain file"), ("huge", "2.0 GiB")):
        with pytest.raises(UndecodableImage, match=reason):
            decode_rgb({"bytes": None, "path": str(tmp_path / f"{name}.png")})


@pytest.mark.parametrize("size", [(60_000, 1), (1, 30_000), (1, 1)])
def test_centre_crop_of_a_line_needs_little_memory(size):
    line = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert max(without_far_ends(Image.fromarray(line)).size) <= 64
    crop = centre_crop(Image.fromarray(line), 224)
    assert crop.shape == (3, 224, 224)
    centre = line.reshape(-1, 3)[len(line.reshape(-1, 3)) // 2 - 1 :][:2]
    assert (crop.amin((1, 2)).numpy() >= centre.min(0)).all() and (crop.amax((1, 2)).numpy() <= centre.max(0)).all()


# ---- the cache of the scan


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "hf_replearn"


def test_a_file_changed_under_its_old_time_stamp_is_found_out(put, cache):
    root = fill(put, 10)
    first = load_images(str(root))
    path, stamp = root / "cat" / "003.png", os.stat(root / "cat" / "003.png")
    path.write_bytes(b"x" * stamp.st_size)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    again = load_images(str(root), max_undecodable=1)
    assert len(again.skipped) == 1 and again.fingerprint != first.fingerprint


def test_a_damaged_cache_is_made_again(put, cache, monkeypatch):
    root = fill(put, 10)
    first = load_images(str(root))
    [file] = cache.iterdir()
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:-9], whole[:40], bytes(altered), b"x" * len(whole), whole + b"x"):
        file.write_bytes(damaged)
        assert load_images(str(root)).fingerprint == first.fingerprint
        assert file.read_bytes() == whole
    monkeypatch.setattr("hf_replearn.data.scan.decode", None)  # a second scan would call it
    assert load_images(str(root)).fingerprint == first.fingerprint
    assert [path.name for path in cache.iterdir()] == [file.name]


def test_a_cache_of_other_images_is_not_taken(put, cache):
    load_images(str(fill(put, 10)))
    [old] = cache.iterdir()
    load_images(str(fill(put, 12)))
    [new] = set(cache.iterdir()) - {old}
    new.write_bytes(old.read_bytes())
    assert len(load_images(str(fill(put, 12))).train) == 9  # 3 of 12 held out


def test_a_cache_that_cannot_be_written_is_said_and_done_without(put, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file")
    with pytest.warns(UserWarning, match="will be decoded again next time"):
        data = load_images(str(fill(put, 10)))
    assert len(data.train) == 8
