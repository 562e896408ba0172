"""Images with captions: tables, webdataset, folders with captions; what is left out, and what is refused."""

import io
import json
import tarfile

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_replearn.data.captioned_scenes import HELD_OUT, captioned_scenes
from hf_replearn.data.image_texts import load_pairs
from hf_replearn.errors import InputError


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 4, 3), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def table(path, texts, levels=None, column="caption", **more):
    images = [{"bytes": png(level), "path": None} for level in (range(len(texts)) if levels is None else levels)]
    rows = datasets.Dataset.from_dict({"image": images, column: texts} | more)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.cast_column("image", datasets.Image(decode=False)).to_parquet(path)
    return str(path)


def words(count: int) -> list[str]:
    return [f"picture number {number}" for number in range(count)]


def test_a_tenth_of_the_images_is_held_out_with_all_their_captions(tmp_path):
    texts = [[f"a view of {number}", f"number {number}"] for number in range(20)]
    data = load_pairs(table(tmp_path / "pairs.parquet", texts))
    assert (len(data.train), len(data.test)) == (36, 4) and data.unseen is None
    assert not set(data.train["image_id"]) & set(data.test["image_id"])
    assert sorted(data.train["text"][:] + data.test["text"][:]) == sorted(text for cell in texts for text in cell)


def test_splits_of_a_folder_are_kept_apart_and_equal_images_and_captions_have_one_number(tmp_path):
    table(tmp_path / "train.parquet", ["A  cat.", "a cat.", "a dog", "a cow"], levels=[1, 2, 1, 4])
    table(tmp_path / "test.parquet", ["a cat.", "a hen"], levels=[1, 9])
    data = load_pairs(str(tmp_path))
    assert data.train["text"][:2] == ["A cat.", "a cat."] and data.test_source.startswith("the split 'test'")
    a, b, c, d = (row["text_id"] for row in data.train)
    assert a == b and len({a, c, d}) == 3 and data.test["text_id"][0] == a
    assert data.train["image_id"][0] == data.train["image_id"][2] == data.test["image_id"][0]
    assert "1 of its pairs are byte-identical" in data.test_source
    assert any("3 different captions in 4 pairs" in note for note in data.notes)


def test_images_with_a_text_beside_each(put, tmp_path):
    for number in range(6):
        folder = put(f"{number}.png", level=number)
        (folder / f"{number}.txt").write_text(f"picture {number}\n")
    put("left.png", level=99)
    (folder / "notes.md").write_text("about")
    data = load_pairs(str(folder))
    texts = dict(zip(data.train["image_id"][:], data.train["text"][:], strict=True))
    texts |= dict(zip(data.test["image_id"][:], data.test["text"][:], strict=True))
    assert sorted(texts.values()) == [f"picture {number}" for number in range(6)]
    assert ("train row 6", "an image without a caption") in data.left_out
    for row in data.train:
        assert np.asarray(Image.open(row["image"]["path"]))[0, 0] == int(row["text"].split()[1])


def test_images_with_metadata(put):
    for number in range(5):
        folder = put(f"{number}.png", level=number)
    rows = "".join(f"{number}.png,picture {number}\n" for number in range(5))
    (folder / "metadata.csv").write_text(f"file_name,text\n{rows}")
    assert len(load_pairs(str(folder)).train) == 4


def test_a_table_of_paths_and_captions(put):
    for number in range(5):
        folder = put(f"files/{number}.png", level=number)
    rows = "".join(f'files/{number}.png,"a picture, number {number}"\n' for number in range(5))
    (folder / "captions.csv").write_text(f"image,caption\n{rows}")
    data = load_pairs(str(folder / "captions.csv"))
    assert len(data.train) == 4 and data.train["text"][0].startswith("a picture, number")
    (folder / "files" / "3.png").unlink()
    with pytest.raises(InputError, match="1 of 5 images .* do not decode.*3.png"):
        load_pairs(str(folder / "captions.csv"))


def test_webdataset(tmp_path):
    with tarfile.open(tmp_path / "pairs.tar", "w") as file:
        for number in range(5):
            for name, content in ((f"{number}.png", png(number)), (f"{number}.txt", b"picture %d" % number)):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                file.addfile(about, io.BytesIO(content))
    data = load_pairs(str(tmp_path))
    assert len(data.train) == 4 and data.train["text"][0].startswith("picture ")


def test_empty_captions_are_left_out_and_counted(tmp_path):
    data = load_pairs(table(tmp_path / "pairs.parquet", [*words(6), "", "  ", None]))
    assert len(data.train) + len(data.test) == 6
    assert [item.file for item in data.left_out] == ["train row 6", "train row 7", "train row 8"]


def test_damaged_images_are_counted(tmp_path):
    images = [{"bytes": png(number) if number else b"no picture", "path": None} for number in range(9)]
    rows = datasets.Dataset.from_dict({"image": images, "text": words(9)})
    rows.cast_column("image", datasets.Image(decode=False)).to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(InputError, match="1 of 9 images .* do not decode"):
        load_pairs(str(tmp_path))
    data = load_pairs(str(tmp_path), max_undecodable=0.5)
    assert len(data.skipped) == 1 and "picture number 0" not in data.train["text"][:] + data.test["text"][:]


def test_what_is_refused(put, tmp_path):
    folder = put("a.png")
    put("b.png", level=3)
    with pytest.raises(InputError, match="the images of 'train' have no captions: .*no .txt lies beside an image"):
        load_pairs(str(folder))
    (folder / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match=r"the caption .*a.txt' cannot be read: 'utf-8' codec"):
        load_pairs(str(folder))
    two = table(tmp_path / "two.parquet", words(5), title=words(5))
    with pytest.raises(InputError, match="several columns may be the captions: caption, title; choose with --text_col"):
        load_pairs(two)
    assert len(load_pairs(two, text_column="title").train) == 4
    with pytest.raises(InputError, match="--text_column 'image' holds no texts; the columns are image, caption, title"):
        load_pairs(two, text_column="image")
    with pytest.raises(InputError, match="6 of 8 images of 'train' .* have no caption, or an empty one, the first"):
        load_pairs(table(tmp_path / "empty.parquet", ["a", "b", *[""] * 6]))
    with pytest.raises(InputError, match=r"has 2 different image\(s\): at least 3 are needed"):
        load_pairs(table(tmp_path / "few.parquet", words(4), levels=[0, 0, 1, 1]))
    numbers = table(tmp_path / "numbers.parquet", list(range(4)))
    with pytest.raises(InputError, match="no column holds texts .others than the image: caption."):
        load_pairs(numbers)
    (tmp_path / "paths.csv").write_text("place,caption\na.png,x\nb.png,y\n")
    with pytest.raises(InputError, match="no column of 'paths.csv' is called as paths of images are"):
        load_pairs(str(tmp_path / "paths.csv"))


def test_scenes_are_the_same_each_time_and_hold_some_pairs_of_colour_and_shape_out():
    first, second = captioned_scenes("toy"), captioned_scenes("toy")
    assert all(first[split][:20] == second[split][:20] for split in first)

    def shown(text: str) -> bool:
        return any(f"{colour} {shape}" in text for colour, shape in HELD_OUT)

    assert not any(map(shown, first["train"]["text"])) and not any(map(shown, first["test"]["text"]))
    assert all(map(shown, first["unseen"]["text"]))
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for part in ("test", "unseen"):  # no two captions say the same
        told = first[part]["text"][:]
        same = [f"{split(text)[1]} {inverse[relation_of(text)]} {split(text)[0]}" for text in told]
        assert len(set(told) | set(same)) == 2 * len(told) - sum(a == b for a, b in zip(told, same, strict=True))
    seen = " ".join(first["train"]["text"])
    assert all(word in seen for pair in HELD_OUT for word in pair)


def test_a_scene_shows_what_its_caption_says():
    """The colours of the caption are in the picture, the first of the two left of the other where it says so."""
    from hf_replearn.data.captioned_scenes import COLOURS

    for row in captioned_scenes("toy")["train"].select(range(60)):
        text, pixels = row["text"], np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).astype(int)
        first, second = (next(c for c in COLOURS if c in part) for part in split(text))
        if first == second:
            continue
        places = [np.argwhere((pixels == COLOURS[colour]).all(-1)).mean(0) for colour in (first, second)]
        down, right = places[0] - places[1]
        told = {"left of": right < -8, "right of": right > 8, "above": down < -8, "below": down > 8}
        assert [relation for relation, true in told.items() if true] == [relation_of(text)], text


def relation_of(text: str) -> str:
    return next(relation for relation in ("left of", "right of", "above", "below") if relation in text)


def split(text: str) -> list[str]:
    return text.split(f" {relation_of(text)} ")


def test_json_lines(put):
    for number in range(4):
        folder = put(f"{number}.png", level=number)
    lines = [json.dumps({"file_name": f"{number}.png", "caption": f"picture {number}"}) for number in range(4)]
    (folder / "list.jsonl").write_text("\n".join(lines))
    assert len(load_pairs(str(folder / "list.jsonl")).train) == 3
