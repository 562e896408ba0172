"""Where the images, classes and splits are found, and what is said when they are not."""

import io
import shutil

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from PIL import Image

from hf_replearn.data.images import load_images
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sources import load_source
from hf_replearn.errors import InputError


def table(n, *, features=None, **columns) -> Dataset:
    """n one-colour PNG images, and what other columns are given."""
    images = []
    for level in range(n):
        file = io.BytesIO()
        Image.new("L", (6, 4), level).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": f"{level}.png"})
    rows = Dataset.from_dict({"image": images}, features=Features(image=datasets.Image(decode=False)))
    for name, values in columns.items():
        rows = rows.add_column(name, values, feature=(features or {}).get(name))
    return rows


def said(dataset, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        load_images(str(dataset), **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(rows) -> list[str]:
    return sorted(row["image"]["path"].rpartition("images/")[2] for row in rows)


# ---- folders


def test_class_folders_take_every_image_and_nothing_else(put):
    for name in ("cat/test_1.png", "cat/train_1.PNG", "cat/x [1].jpeg", "dog/a.JPG", "dog/b.bmp", "dog/.hidden.png"):
        root = put(name)
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "dog" / "Thumbs.db").write_text("not an image")
    (root / "empty").mkdir()
    data = load_images(str(root))
    assert data.label_names == ["cat", "dog"] and data.name == "images" and data.hub_id is None
    assert names([*data.train, *data.test]) == [
        "cat/test_1.png",
        "cat/train_1.PNG",
        "cat/x [1].jpeg",
        "dog/a.JPG",
        "dog/b.bmp",
    ]
    for row in [*data.train, *data.test]:
        assert data.label_names[row["label"]] == names([row])[0].split("/")[0]


def test_class_folder_with_a_single_image_keeps_it_for_training(put):
    for name in ("cat/0.png", *(f"dog/{i}.png" for i in range(9))):
        root = put(name)
    data = load_images(str(root))
    assert data.train["label"][:].count(0) == 1 and set(data.test["label"][:]) == {1}


def test_class_folder_may_be_a_symbolic_link(put, tmp_path):
    put("elsewhere/0.png"), put("elsewhere/1.png")
    root = put("root/dog/0.png") / "root"
    (root / "cat").symlink_to(tmp_path / "images" / "elsewhere")
    data = load_images(str(root))
    assert data.label_names == ["cat", "dog"] and len(data.train) + len(data.test) == 3


@pytest.mark.parametrize("name", ["test", "validation", "val"])
def test_split_folders_with_classes(put, name):
    for file in ("train/cat/0.png", "train/dog/1.png", f"{name}/cat/2.png"):
        root = put(file)
    data = load_images(str(root))
    assert data.label_names == ["cat", "dog"]
    assert names(data.train) == ["train/cat/0.png", "train/dog/1.png"] and names(data.test) == [f"{name}/cat/2.png"]
    assert data.test_source.startswith(f"split `{'test' if name == 'test' else 'validation'}`")


def test_flat_folders_have_no_labels(put):
    for name in ("0.png", "1.png", "2.png"):
        root = put(name)
    data = load_images(str(root))
    assert data.train.column_names == ["image"] and len(data.train) == 3
    assert data.label_names is None and data.test is None and not data.single_label


def test_flat_split_folders_are_no_classes(put):
    for name in ("train/0.png", "train/1.png", "test/2.png"):
        root = put(name)
    data = load_images(str(root))
    assert data.label_names is None and names(data.test) == ["test/2.png"]


def test_class_that_only_the_test_split_has(put):
    for name in ("train/cat/0.png", "train/dog/1.png", "val/images/2.png"):
        root = put(name)
    assert "'images'" in said(root) and "'validation'" in said(root)


def test_split_or_class(put):
    for name in ("train/0.png", "car/1.png", "bus/2.png"):
        root = put(name)
    assert "bus, car, train" in said(root)


def test_parts_of_a_download_are_not_taken_for_classes(put):
    for number in (1, 2):
        for name in "abcd":
            root = put(f"images_part_{number}/{number}{name}.png")
    assert "images_part_1, images_part_2" in said(root) and "parts" in said(root)
    assert load_images(str(root), label_type="classes").label_names == ["images_part_1", "images_part_2"]
    assert load_images(str(root), label_type="ignored").label_names is None


def test_two_levels_of_folders_that_may_be_classes(put):
    for name in "01234":
        for folder in ("amazon/photos/mug", "amazon/photos/pen", "webcam/photos/mug", "webcam/photos/pen"):
            root = put(f"{folder}/{name}.png")
    assert "amazon, webcam, or mug, pen, which lie in each" in said(root)
    assert load_images(str(root), label_type="classes").label_names == ["amazon", "webcam"]
    put("amazon/loose.png")
    put("screen/photos/tv/0.png")
    assert load_images(str(root)).label_names == ["amazon", "screen", "webcam"]


def test_image_beside_the_class_folders(put):
    for name in ("cat/0.png", "dog/1.png", "logo.png"):
        root = put(name)
    data = load_images(str(root))
    assert len(data.train) == 3 and len(data.labelled) == 2 and "1 of the 3" in data.notes[0]


def test_too_little(put, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no images" in said(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("text")
    assert "no images" in said(tmp_path / "empty")
    assert "no folder or file" in said(tmp_path / "missing")
    assert "1 image" in said(put("cat/0.png"))
    assert ".parquet" in said(tmp_path / "empty" / "notes.txt")


def test_missing_name_may_have_been_a_hub_id(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("missing", "somebody/missing"):
        assert name in said(name) and "folder" in said(name) and "Hub" in said(name)


# ---- tables


@pytest.mark.parametrize("test_name", ["test", "validation"])
def test_parquet_folder(tmp_path, test_name):
    table(8, label=[0, 1] * 4).to_parquet(tmp_path / "train.parquet")
    table(3, label=[0, 1, 1]).to_parquet(tmp_path / f"{test_name}.parquet")
    data = load_images(str(tmp_path))
    assert (len(data.train), len(data.test)) == (8, 3) and data.test_source.startswith(f"split `{test_name}`")
    assert data.label_names == ["0", "1"] and data.single_label
    assert data.common_size == (4, 6)


def test_copy_of_a_hub_repository(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        table(2).to_parquet(tmp_path / "data" / f"{name}.parquet")
    data = load_images(str(tmp_path))
    assert (len(data.train), len(data.test)) == (4, 2)


def test_arrow_file_and_parquet_file_and_saved_folder_are_the_same_data(tmp_path):
    rows = table(10, label=[0, 1] * 5, features={"label": ClassLabel(names=["even", "odd"])})
    rows.to_parquet(tmp_path / "some [1].parquet")
    rows.save_to_disk(tmp_path / "saved")
    DatasetDict(train=rows).save_to_disk(tmp_path / "saved_dict")
    [arrow] = (tmp_path / "saved").glob("*.arrow")
    shutil.copy(arrow, tmp_path / "some.arrow")
    found = [load_images(str(tmp_path / name)) for name in ("some [1].parquet", "some.arrow", "saved", "saved_dict")]
    assert {data.fingerprint for data in found} == {found[0].fingerprint}
    assert all(data.label_names == ["even", "odd"] and len(data.train) == 8 for data in found)
    assert found[0].train[:] == found[2].train[:]


def test_saved_dictionary_of_splits(tmp_path):
    DatasetDict(train=table(4), test=table(2)).save_to_disk(tmp_path)
    data = load_images(str(tmp_path))
    assert (len(data.train), len(data.test)) == (4, 2)
    DatasetDict(all=table(4)).save_to_disk(tmp_path / "unnamed")
    assert "'train'" in said(tmp_path / "unnamed") and "all" in said(tmp_path / "unnamed")


def test_nothing_is_written_into_the_users_folder(tmp_path):
    table(4).save_to_disk(tmp_path / "saved")
    before = sorted((tmp_path / "saved").iterdir())
    load_images(str(tmp_path / "saved"))
    assert sorted((tmp_path / "saved").iterdir()) == before


def test_damaged_table(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 or not")
    assert "cannot be read" in said(tmp_path)


# ---- columns


def save(tmp_path, rows):
    rows.to_parquet(tmp_path / "train.parquet")
    return tmp_path


def test_image_column_by_type(tmp_path):
    plain = table(4).cast(Features(image={"bytes": Value("binary"), "path": Value("string")}))
    for rows in (
        table(4, caption=list("abcd")).rename_column("image", "picture"),
        plain.rename_column("image", "picture"),
        Dataset.from_dict({"picture": [image["bytes"] for image in table(4)["image"]]}),
    ):
        data = load_images(str(save(tmp_path, rows)))
        assert data.train.features == Features(image=datasets.Image(decode=False))
        assert [row["image"]["bytes"] for row in data.train] == [image["bytes"] for image in table(4)["image"]]


def test_image_column_missing_or_ambiguous(tmp_path):
    one = table(4)
    two = one.add_column("mask", one["image"][:], feature=datasets.Image(decode=False))
    assert "image, mask" in said(save(tmp_path, two)) and "--image_column" in said(tmp_path)
    assert load_images(str(tmp_path), image_column="mask").train.column_names == ["image"]
    assert "'masks'" in said(tmp_path, image_column="masks") and "image, mask" in said(tmp_path, image_column="masks")
    message = said(save(tmp_path, Dataset.from_dict({"text": ["a", "b"], "score": [1, 2]})))
    assert "text, score" in message and "--image_column" in message


@pytest.mark.parametrize(
    "labels, expected", [(["b", "a", "b", "a"], ["a", "b"]), ([10, 9, 10, 9], ["9", "10"]), ([3, 3, 7, 7], ["3", "7"])]
)
def test_plain_labels_become_classes_in_order(tmp_path, labels, expected):
    data = load_images(str(save(tmp_path, table(4, label=labels))))
    assert data.label_names == expected
    images = {row["image"]["path"]: data.label_names[row["label"]] for row in [*data.train, *data.test]}
    assert images == {f"{i}.png": str(label) for i, label in enumerate(labels)}


def test_plain_labels_are_numbered_alike_in_both_splits(tmp_path):
    table(3, label=["b", "c", "a"]).to_parquet(tmp_path / "train.parquet")
    table(2, label=["c", "b"]).to_parquet(tmp_path / "test.parquet")
    data = load_images(str(tmp_path))
    assert data.label_names == ["a", "b", "c"]
    assert data.train["label"][:] == [1, 2, 0] and data.test["label"][:] == [2, 1]


def test_label_column_by_type(tmp_path):
    kind = ClassLabel(names=["x", "y"])
    fine = {"fine": [0, 1, 0, 1]}
    data = load_images(str(save(tmp_path, table(4, **fine, caption=list("abcd"), features={"fine": kind}))))
    assert data.label_names == ["x", "y"]
    both = table(4, **fine, coarse=[0, 0, 1, 1], features={"fine": kind, "coarse": kind})
    message = said(save(tmp_path, both))
    assert "fine, coarse" in message and "--label_column" in message
    data = load_images(str(tmp_path), label_column="coarse")
    assert [row["label"] for row in sorted([*data.train, *data.test], key=lambda r: r["image"]["path"])] == [0, 0, 1, 1]
    assert "'caption'" in said(save(tmp_path, table(4)), label_column="caption")
    assert load_images(str(save(tmp_path, table(4, score=[0.5] * 4)))).label_names is None


def test_multi_label(tmp_path):
    kind = List(ClassLabel(names=["car", "dog", "sky"]))
    rows = table(10, objects=[[0, 2], []] * 5, features={"objects": kind})
    data = load_images(str(save(tmp_path, rows)))
    assert data.label_names == ["car", "dog", "sky"] and not data.single_label
    assert (len(data.train), len(data.test)) == (8, 2)
    assert all(row["label"] == [[0, 2], []][int(row["image"]["path"][0]) % 2] for row in [*data.train, *data.test])


def test_split_without_labels_is_no_test_split(tmp_path):
    """As ImageNet on the Hub: the labels of test are all -1."""
    kind = {"label": ClassLabel(names=["x", "y"])}
    table(4, label=[0, 1, 0, 1], features=kind).to_parquet(tmp_path / "train.parquet")
    table(3, label=[-1] * 3, features=kind).to_parquet(tmp_path / "test.parquet")
    table(2, label=[0, 1], features=kind).to_parquet(tmp_path / "validation.parquet")
    assert load_images(str(tmp_path)).test_source.startswith("split `validation`")
    (tmp_path / "validation.parquet").unlink()
    assert "of the 4 images of `train`" in load_images(str(tmp_path)).test_source


def test_some_labels_missing(tmp_path):
    kinds = {"label": ClassLabel(names=["x", "y"])}
    data = load_images(str(save(tmp_path, table(5, label=[0, 1, -1, 1, 1], features=kinds))))
    assert "1 of the 5 images of 'train' have no label" in data.notes[0] and "1 of the 4 labelled" in data.test_source
    assert sorted(data.labelled["label"][:]) == [0, 1, 1] and len(data.train) == 4


# ---- metadata of datasets' imagefolder


def metadata(root, rows, name="metadata.csv"):
    (root / name).write_text("".join(f"{row}\n" for row in rows))
    return root


def test_labels_from_metadata(put):
    for number in range(6):
        root = put(f"{number}.png", number)
    metadata(root, ["file_name,label,caption", *(f"{n}.png,{'ab'[n % 2]},text {n}" for n in range(6))])
    data = load_images(str(root))
    assert data.label_names == ["a", "b"]
    for row in [*data.train, *data.test]:
        assert row["label"] == int(row["image"]["path"][-5]) % 2
    other = [f"{n}.png,a,{'xy'[n // 3]}" for n in range(6)]
    assert load_images(str(metadata(root, ["file_name,label,kind", *other])), label_column="kind").label_names == [
        "x",
        "y",
    ]


def test_metadata_of_each_split_as_json_lines(put):
    for split, level in (("train", 0), ("test", 9)):
        for number in range(4):
            root = put(f"{split}/{number}.png", level + number)
        rows = [f'{{"file_name": "{n}.png", "label": "{"ab"[n % 2]}"}}' for n in range(4)]
        metadata(root / split, rows, "metadata.jsonl")
    data = load_images(str(root))
    assert (len(data.train), len(data.test), data.label_names) == (4, 4, ["a", "b"])
    assert data.test["label"][:] == [0, 1, 0, 1]


def test_images_without_a_row_and_rows_without_an_image_are_named(put):
    for number in range(6):
        root = put(f"{number}.png", number)
    metadata(root, ["file_name,label", *(f"{n}.png,{'ab'[n % 2]}" for n in range(5)), "9.png,a", "../secret.png,b"])
    data = load_images(str(root))
    assert len(data.train) + len(data.test) == 5
    assert [item.file for item in data.left_out] == ["metadata.csv row 6", "metadata.csv row 7", "5.png"]
    assert "train: 5 files" in data.taken
    assert "do not fit" in said(metadata(root, ["file_name,label", "0.png,a", "1.png,b"]))
    assert "two rows" in said(metadata(root, ["file_name,label", "0.png,a", "0.png,b"]))
    assert "file_name" in said(metadata(root, ["image,label", "0.png,a", "1.png,b"]))


def test_metadata_that_contradicts_the_class_folders(put):
    for name in ("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png"):
        root = put(name, int(name[4]))
    files = ("cat/0.png", "cat/1.png", "dog/2.png", "dog/3.png")
    assert load_images(str(metadata(root, ["file_name,label", *(f"{f},{f[:3]}" for f in files)]))).label_names == [
        "cat",
        "dog",
    ]
    message = said(metadata(root, ["file_name,label", *(f"{f},cat" for f in files)]))
    assert "'dog'" in message and "'cat'" in message


# ---- paths


def test_paths_that_lead_nowhere_are_not_looked_up_on_the_hub(monkeypatch, tmp_path):
    def hub(*args, **kwargs):
        raise AssertionError("looked up")

    monkeypatch.setattr(datasets, "load_dataset", hub)
    monkeypatch.chdir(tmp_path)
    for path in (
        "./missing",
        "../missing",
        "~/missing",
        "a/b/missing",
        "missing/",
        "train.csv",
        "a/train.parquet",
        "a\\b",
    ):
        assert "no folder or file" in said(path)
    assert "empty" in said("") and "empty" in said("  ")


def test_home_is_expanded_and_is_local_data(put, monkeypatch, tmp_path):
    put("cat/0.png"), put("dog/1.png"), put("dog/2.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    data = load_images("~/images")
    assert (data.name, data.hub_id) == ("images", None)


def test_splits_of_the_hub_have_their_usual_names(monkeypatch):
    found = DatasetDict(train=table(6).select(range(4)), dev=table(6).select([4, 5]), unsupervised=table(3))
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: found)
    data = load_images("somebody/something")
    assert (data.test_source, data.hub_id) == ("split `validation`", "somebody/something")
    assert data.taken == "train: 4 images; validation: 2 images; not used: the split 'unlabeled' (3 rows)"


def test_a_column_that_names_the_split_is_not_passed_over(tmp_path):
    table(4, split=["train", "train", "test", "test"]).to_parquet(tmp_path / "data.parquet")
    assert "'split'" in said(tmp_path) and "test, train" in said(tmp_path)
    table(4, split=["a", "b", "a", "b"]).to_parquet(tmp_path / "data.parquet")
    load_images(str(tmp_path))


def test_files_that_are_left_out_are_listed(put, tmp_path):
    for name in ("cat/0.png", "dog/1.png", "dog/2.png"):
        root = put(name)
    (root / "cat" / "x.heic").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")
    data = load_images(str(root))
    write_skipped(tmp_path / "skipped.txt", data.left_out)
    assert (tmp_path / "skipped.txt").read_text() == "cat/x.heic (.heic is not read)\n"
    write_skipped(tmp_path / "skipped.txt", [])
    assert not (tmp_path / "skipped.txt").exists()


# ---- datasets' cache


@pytest.mark.parametrize("damage", [b"", b"\xff" * 1000])
def test_what_a_damaged_cache_holds_is_read_anew(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "a.csv").write_text("text,label\n" + "some words,1\n" * 9)
    first = load_source(str(tmp_path / "a.csv"), purpose="texts").splits["train"]
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".arrow", ".json")]
    assert kept
    for path in kept:
        path.unlink()
        path.write_bytes(damage)
    assert load_source(str(tmp_path / "a.csv"), purpose="texts").splits["train"][:] == first[:]


def test_a_cache_that_cannot_be_used_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "a.csv").write_text("text,label\n" + "some words,1\n" * 9)
    with pytest.raises(InputError, match=r"datasets cannot use its cache .*cache' \(.*\): set HF_DATASETS_CACHE"):
        load_source(str(tmp_path / "a.csv"), purpose="texts")
