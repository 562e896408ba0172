"""What a folder is taken to hold: every file is used, or named with the reason; two readings are refused."""

import os
import random

import pytest

from hf_replearn.data.inventory import BESIDE, HIDDEN, LOOP, NOT_ASKED, OUTPUT, POINTER, SYSTEM, kind_of, take_inventory
from hf_replearn.data.splits import word_of
from hf_replearn.errors import InputError


@pytest.fixture
def tree(tmp_path):
    """tree("cat/0.png dog/1.png") makes these files, each with a few bytes, and returns their folder."""

    def make(names: str, root="data"):
        for name in names.split():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"some bytes")
        return str(tmp_path / root)

    return make


def splits(path, purpose, files=()):
    """Split -> its files, as one string."""
    found = take_inventory(path, purpose=purpose, files=files)
    return {split: " ".join(names) for split, names in found.splits.items()}


def said(path, purpose, files=()):
    with pytest.raises(InputError) as error:
        take_inventory(path, purpose=purpose, files=files)
    assert "\n" not in str(error.value)
    return str(error.value)


def reasons(path, purpose, files=()):
    return dict(take_inventory(path, purpose=purpose, files=files).left_out)


# ---- words


@pytest.mark.parametrize(
    "name, split",
    [
        ("train", "train"), ("Training", "train"), ("TRAIN_SET", "train"), ("trainset", "train"),
        ("train2017", "train"),
        ("Testing", "test"), ("my.test", "test"), ("imdb_Test", "test"), ("eval", "test"), ("evaluation", "test"),
        ("VAL", "validation"), ("valid", "validation"), ("dev", "validation"), ("validation", "validation"),
        ("train-00000-of-00002", "train"), ("test-00000-of-00001-a09b74b3ef9c3b56", "test"), ("TestImages", "test"),
        ("validation_matched", "validation_matched"), ("dev_mismatched", "validation_mismatched"),
        ("contest", None), ("valley", None), ("trainer", None), ("constrain", None), ("train_test", None), ("7", None),
        ("größe", None), ("latest", None), ("devices", None),
    ],
)  # fmt: skip
def test_words_that_name_splits_are_whole_words_of_any_case(name, split):
    word = word_of(name)
    assert (word and word.split) == split


@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.JPG", "images"), ("a.tif", "images"), ("a.heic", None), ("a.svg", None), ("a.csv", "csv"), ("a.TSV", "csv"),
        ("a.csv.gz", "csv"), ("a.jsonl.zst", "json"), ("a.ndjson", "json"), ("a.txt.bz2", "text"), ("a.txt.xz", "text"),
        ("a.parquet", "parquet"), ("a.parquet.gz", None), ("a.png.gz", None), ("a.tar.gz", None), ("a", None),
    ],
)  # fmt: skip
def test_kinds_of_files_go_by_their_suffix(name, kind):
    assert kind_of(name)[0] == kind


# ---- images


IMAGES = {
    "cat/0.png dog/1.png": {"train": "cat/0.png dog/1.png"},
    "train/cat/0.png test/cat/1.png": {"train": "train/cat/0.png", "test": "test/cat/1.png"},
    "Training/a/0.png Testing/a/1.png": {"train": "Training/a/0.png", "test": "Testing/a/1.png"},
    "TRAIN/0.png VAL/1.png": {"train": "TRAIN/0.png", "validation": "VAL/1.png"},
    "pets/train/a/0.png pets/test/a/1.png": {"train": "pets/train/a/0.png", "test": "pets/test/a/1.png"},
    "x/y/z/train/a/0.png x/y/z/dev/a/1.png": {"train": "x/y/z/train/a/0.png", "validation": "x/y/z/dev/a/1.png"},
    "training_set/a/0.png test_set/a/1.png": {"train": "training_set/a/0.png", "test": "test_set/a/1.png"},
    "seg_train/seg_train/a/0.png seg_test/seg_test/a/1.png": {
        "train": "seg_train/seg_train/a/0.png",
        "test": "seg_test/seg_test/a/1.png",
    },
    "train/0.png test/1.png unlabeled/2.png": {
        "train": "train/0.png", "test": "test/1.png", "unlabeled": "unlabeled/2.png",
    },
    "steam_train/0.png bullet_train/1.png": {"train": "bullet_train/1.png steam_train/0.png"},
    "crash_test/0.png car/1.png": {"train": "car/1.png crash_test/0.png"},
    "contest/0.png valley/1.png": {"train": "contest/0.png valley/1.png"},
    "cat/test_1.png cat/train_1.png dog/val.png": {"train": "cat/test_1.png cat/train_1.png dog/val.png"},
}  # fmt: skip


@pytest.mark.parametrize("names", IMAGES)
def test_splits_of_images_are_found_by_their_folders(tree, names):
    assert splits(tree(names), "images") == IMAGES[names]


@pytest.mark.parametrize(
    "names, classes",
    [
        ("cat/0.png dog/1.png", ["cat", "dog"]),
        ("pets/pets/cat/0.png pets/pets/dog/1.png pets/README.md", ["cat", "dog"]),
        ("train/cat/0.png train/dog/1.png test/cat/2.png", ["cat", "dog"]),
        ("train/animals/cat/0.png train/animals/dog/1.png test/animals/cat/2.png", ["cat", "dog"]),
        ("seg_train/seg_train/a/0.png seg_train/seg_train/b/1.png seg_test/seg_test/a/2.png", ["a", "b"]),
        ("train/train/0.png train/cat/1.png test/train/2.png test/cat/3.png", ["cat", "train"]),  # CIFAR-100 has trains
        ("0.png 1.png", [None]),
        ("cat/0.png cat/1.png", [None]),
    ],
)
def test_classes_are_the_first_folders_below_what_wraps_them(tree, names, classes):
    found = take_inventory(tree(names), purpose="images").classes["train"]
    assert sorted(set(found), key=str) == classes


@pytest.mark.parametrize(
    "names, both",
    [
        ("train/0.png car/1.png bus/2.png", ["bus, car, train"]),
        ("train/a/0.png test/a/1.png predict/2.png", ["predict", "train"]),
        ("seg_train/a/0.png seg_test/a/1.png seg_pred/2.png", ["seg_pred", "seg_test"]),
        ("valid/0.png invalid/1.png", ["valid", "invalid"]),
        ("cat/train/0.png cat/test/1.png dog/train/2.png dog/test/3.png", ["cat/train", "cat/test"]),
        ("cat_train/0.png cat_test/1.png dog_train/2.png dog_test/3.png", ["cat_train", "several"]),
        ("train/0.png test/1.png eval/2.png", ["test", "eval"]),
        ("train/a/0.png test/a/1.png logo.png", ["logo.png", "splits"]),
        ("train/cat/0.png train/dog/1.png train/test/2.png test/cat/3.png", ["'test'", "cat, dog"]),
        ("yes/0.png no/1.png all/yes/0.png all/no/1.png", ["'all'", "no, yes", "--files"]),
        ("train/a/0.png train/b/1.png train/train2/a/0.png train/train2/b/1.png test/a/2.png", ["'train2'", "a, b"]),
        ("images/0.png annotations/0.png", ["annotations", "images"]),
        ("test/cat/0.png test/dog/0.png", ["test", "no split to train on"]),
        ("cat/0.png x.parquet", ["0.png", "x.parquet", "--files"]),
    ],
)
def test_two_readings_of_images_are_refused_by_name(tree, names, both):
    message = said(tree(names), "images")
    assert all(word in message for word in both), message


@pytest.mark.parametrize(
    "names, words",
    [
        ("dog/0.png cat/0.heic cat/1.HEIC", ["'cat'", ".heic (2)"]),
        ("train/a/0.png test/a/0.svg", ["'test'", ".svg"]),
        ("train/a/0.png train/b/1.png test/a/0.png test/b/0.dcm", ["'test/b'", ".dcm"]),
        ("cat/0.png cat/1.heic cat/2.heic dog/3.png dog/4.heic", ["3 of the 5", ".heic (3)"]),
        ("images/0.png labels/0.txt", ["'labels'", ".txt"]),
        ("pictures.zip", [".zip", "unpack"]),
        ("a.heic b.heic", ["no images", ".heic (2)"]),
        ("notes.txt", ["no images", ".txt"]),
    ],
)
def test_a_lost_class_a_lost_split_and_lost_data_are_refused(tree, names, words):
    message = said(tree(names), "images")
    assert all(word in message for word in words), message


def test_what_is_left_out_is_named_with_the_reason(tree):
    path = tree(
        "cat/0.png cat/1.png dog/2.png dog/3.heic notes.txt labels.csv README.md train.py .DS_Store cat/._0.png"
    )
    tree("__MACOSX/cat/._0.png cat/Thumbs.db .git/config", "data")
    assert reasons(path, "images") == {
        "dog/3.heic": ".heic is not read",
        "notes.txt": ".txt is not read here",
        "labels.csv": "no images; labels are read from class folders or from metadata.csv with a column file_name",
        "README.md": BESIDE, "train.py": BESIDE,
        ".DS_Store": SYSTEM, "cat/._0.png": SYSTEM, "__MACOSX/": SYSTEM, "cat/Thumbs.db": SYSTEM, ".git/": SYSTEM,
    }  # fmt: skip
    assert reasons(tree("c/0.png java/1.png .net/2.png", "languages"), "images") == {".net/": HIDDEN}


# ---- links and what is no file


def test_each_real_folder_is_entered_once(tree, tmp_path):
    path = tree("a/0.png b/1.png")
    os.symlink(path, os.path.join(path, "a", "all"))
    os.symlink(".", os.path.join(path, "b", "self"))
    os.symlink(tmp_path, os.path.join(path, "up"))
    assert splits(path, "images") == {"train": "a/0.png b/1.png"}
    assert reasons(path, "images") == {"a/all/": LOOP, "b/self/": LOOP, "up/": LOOP}


def test_links_to_elsewhere_are_followed_and_two_names_of_a_folder_are_refused(tree, tmp_path):
    path, elsewhere = tree("a/0.png"), tree("1.png", "elsewhere")
    os.symlink(elsewhere, os.path.join(path, "b"))
    assert splits(path, "images") == {"train": "a/0.png b/1.png"}
    os.symlink(os.path.join(path, "a"), os.path.join(path, "c"))
    assert "'c'" in said(path, "images") and "'a'" in said(path, "images")


def test_pipes_devices_and_broken_links_are_not_read(tree):
    path = tree("a/0.png a/3.png a/4.png b/1.png")
    os.mkfifo(os.path.join(path, "a", "1.png"))
    os.symlink("/dev/zero", os.path.join(path, "b", "2.png"))
    os.symlink("nothing", os.path.join(path, "b", "3.png"))
    found = reasons(path, "images")
    assert found == {"a/1.png": "a named pipe", "b/2.png": "a device or socket", "b/3.png": "a link to nothing"}
    for file in ("a/1.png", "b/2.png"):
        assert "regular" in said(os.path.join(path, file), "images")


def test_names_that_are_not_utf8_are_left_out_and_printable(tree):
    path = tree("a/0.png b/1.png")
    try:
        open(os.path.join(os.fsencode(path), b"a", b"caf\xe9.png"), "wb").close()
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    assert reasons(path, "images") == {"a/caf\\xe9.png": "its name is not UTF-8"}
    os.mkdir(os.path.join(os.fsencode(path), b"\xff"))
    assert "\\xff" in said(path, "images")


def test_the_output_of_a_run_is_no_data(tree):
    path = tree("a/0.png b/1.png out/recipe.yaml out/augmentations.png")
    assert splits(path, "images") == {"train": "a/0.png b/1.png"} and reasons(path, "images") == {"out/": OUTPUT}


# ---- tables and texts


TABLES = {
    "train.csv test.csv": {"train": "train.csv", "test": "test.csv"},
    "imdb_train.csv imdb_test.csv": {"train": "imdb_train.csv", "test": "imdb_test.csv"},
    "Training.csv Validation.csv": {"train": "Training.csv", "validation": "Validation.csv"},
    "my.train.jsonl my.test.jsonl": {"train": "my.train.jsonl", "test": "my.test.jsonl"},
    "data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet data/test-00000-of-00001.parquet README.md": {
        "train": "data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet",
        "test": "data/test-00000-of-00001.parquet",
    },
    "train/a.parquet train/b.parquet test/a.parquet": {
        "train": "train/a.parquet train/b.parquet", "test": "test/a.parquet",
    },
    "data/train/0.parquet data/validation/0.parquet": {
        "train": "data/train/0.parquet", "validation": "data/validation/0.parquet",
    },
    "train.tsv dev_matched.tsv dev_mismatched.tsv": {
        "train": "train.tsv", "validation_matched": "dev_matched.tsv", "validation_mismatched": "dev_mismatched.tsv",
    },
    "train.csv.gz test.csv.gz": {"train": "train.csv.gz", "test": "test.csv.gz"},
    "a.jsonl b.jsonl": {"train": "a.jsonl b.jsonl"},
    "2019/a.csv 2020/b.csv": {"train": "2019/a.csv 2020/b.csv"},
    "contest.csv valley.csv": {"train": "contest.csv valley.csv"},
    "news_train.csv imdb_train.csv": {"train": "imdb_train.csv news_train.csv"},
    "train.csv unsupervised.csv test.csv": {
        "train": "train.csv", "unlabeled": "unsupervised.csv", "test": "test.csv",
    },
}  # fmt: skip


@pytest.mark.parametrize("names", TABLES)
@pytest.mark.parametrize("purpose", ["texts", "labels"])
def test_splits_of_tables_are_found_in_the_names_of_files_and_folders(tree, names, purpose):
    assert splits(tree(names), purpose) == TABLES[names]


TEXTS = {
    "a.txt b/c.txt b/d/e.txt": {"train": "a.txt b/c.txt b/d/e.txt"},
    "README.txt novels/one.txt": {"train": "README.txt novels/one.txt"},  # all of one kind: every file is used
    "train/pos/0.txt train/neg/test_1.txt test/pos/2.txt README.txt": {
        "train": "train/neg/test_1.txt train/pos/0.txt", "test": "test/pos/2.txt",
    },
    "wiki.train.txt wiki.valid.txt": {"train": "wiki.train.txt", "validation": "wiki.valid.txt"},
    "night_train.txt crash_test.txt emma.txt": {"train": "crash_test.txt emma.txt night_train.txt"},  # titles
    "book1.txt book2.txt metadata.json": {"train": "book1.txt book2.txt"},
    "book1.txt LICENSE cover.png": {"train": "book1.txt"},
}  # fmt: skip


@pytest.mark.parametrize("names", TEXTS)
def test_texts_are_read_wherever_they_lie(tree, names):
    assert splits(tree(names), "texts") == TEXTS[names]


@pytest.mark.parametrize(
    "names, both",
    [
        ("train.csv test.csv sample_submission.csv", ["sample_submission.csv", "test.csv"]),
        ("imdb_train.csv imdb_test.csv names.csv", ["names.csv", "imdb_test.csv"]),
        ("a.jsonl b.csv", ["a.jsonl", "b.csv", "--files"]),
        ("book.txt titles.json", ["book.txt", "titles.json"]),
        ("en/train.csv en/test.csv de/train.csv de/test.csv", ["en", "de", "several"]),
        ("in_domain_train.tsv in_domain_dev.tsv out_of_domain_dev.tsv", ["several"]),
        ("train.csv test.csv eval.csv", ["test", "eval"]),
        ("train/a.csv train/test.csv", ["train/test.csv"]),
        ("validation.parquet", ["validation", "no split to train on"]),
        ("train.csv test.xlsx", ["test.xlsx"]),
        ("train.parquet train.csv", ["train.parquet", "train.csv"]),
    ],
)
def test_two_readings_of_tables_are_refused_by_name(tree, names, both):
    message = said(tree(names), "texts")
    assert all(word in message for word in both), message


def test_pictures_beside_a_table_are_two_readings_only_where_both_may_have_labels(tree):
    path = tree("0.png 1.png table.csv")
    assert "table.csv" in said(path, "labels") and "0.png" in said(path, "labels")
    assert reasons(path, "images").keys() == {"table.csv"}
    assert "2 of the 3" in said(path, "texts")


def test_files_without_content_are_no_data(tree, tmp_path):
    path = tree("a.txt b.txt c.txt d.txt")
    (tmp_path / "data" / "a.txt").write_bytes(b"")
    (tmp_path / "data" / "b.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    assert reasons(path, "texts") == {"a.txt": "an empty file", "b.txt": POINTER}
    (tmp_path / "data" / "c.txt").write_bytes(b"")
    assert "3 of the 4" in said(path, "texts")
    (tmp_path / "data" / "d.txt").write_bytes(b"")
    assert "an empty file" in said(path, "texts")


@pytest.mark.parametrize("twin", ["train.csv.gz", "train (1).csv", "train - Copy.csv", "train_copy.csv"])
def test_the_same_table_twice_is_refused(tree, tmp_path, twin):
    root = tree("train.csv b.csv")
    (tmp_path / "data" / "b.csv").rename(tmp_path / "data" / twin)
    message = said(root, "texts", files=["*.csv*"])
    assert "'train.csv'" in message and repr(twin) in message and "twice" in message
    assert splits(root, "texts", files=["train.csv"]) == {"train": "train.csv"}
    if ".gz" not in twin:
        (tmp_path / "data" / twin).write_text("other rows")
        assert splits(root, "texts", files=["*.csv"])["train"].count(".csv") == 2


def test_metadata_of_imagefolder_is_no_table(tree):
    path = tree("0.png 1.png metadata.csv")
    for purpose in ("images", "labels"):
        found = take_inventory(path, purpose=purpose)
        assert (found.kind, found.metadata, found.left_out) == ("images", ["metadata.csv"], [])


def test_files_that_are_asked_for(tree):
    path = tree("a.jsonl b.csv c/d.csv notes.md")
    assert splits(path, "texts", ["*.csv"]) == {"train": "b.csv c/d.csv"}
    assert splits(path, "texts", ["b.csv", "c/*"]) == {"train": "b.csv c/d.csv"}
    assert splits(path, "texts", ["*.md"]) == {"train": "notes.md"}
    assert reasons(path, "texts", ["b.csv"]) == dict.fromkeys(["a.jsonl", "c/d.csv", "notes.md"], NOT_ASKED)
    assert "*.tsv" in said(path, "texts", ["*.tsv"])
    path = tree("en/train.csv de/train.csv", "two")
    assert splits(path, "texts", ["*"]) == {"train": "de/train.csv en/train.csv"}


def test_a_single_file_is_what_is_asked_for(tree):
    path = tree("test.csv notes.docx a.png")
    assert splits(f"{path}/test.csv", "labels") == {"train": ""}
    assert ".docx" in said(f"{path}/notes.docx", "texts") or ".csv" in said(f"{path}/notes.docx", "texts")
    assert "neither a folder" in said(f"{path}/a.png", "images")


def test_saved_datasets_are_found_under_what_wraps_them(tree):
    path = tree("x/dataset_dict.json x/train/state.json x/train/data-00000-of-00001.arrow x/train/dataset_info.json")
    found = take_inventory(path, purpose="images")
    assert (found.kind, found.splits) == ("saved", {"train": ["x"]})


def test_every_file_is_in_a_split_or_left_out_exactly_once(tmp_path):
    """Of a thousand random trees, those that are not refused."""
    rng, accepted = random.Random(0), 0
    folders = ["", "a", "b", "train", "test", "a/x", "train/a", "train/b", "test/a", ".hidden", "data", "data/train"]
    files = [
        "0.png",
        "1.JPG",
        "train.csv",
        "test.csv",
        "b.txt",
        "README.md",
        "x.heic",
        ".DS_Store",
        "t.jsonl",
        "m.parquet",
    ]
    for trial in range(1000):
        root = tmp_path / str(trial)
        names = {
            os.path.join(rng.choice(folders), rng.choice(files[: rng.randint(1, 10)])) for _ in range(rng.randint(1, 6))
        }
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        try:
            found = take_inventory(str(root), purpose=rng.choice(["images", "texts", "labels"]))
        except InputError:
            continue
        accepted += 1
        out = [item.file for item in found.left_out]
        hidden = [name for name in out if name.endswith("/")]
        used = [name for part in found.splits.values() for name in part] + found.metadata
        kept = [name for name in out if name not in hidden]
        assert sorted(used + kept) == sorted(name for name in names if not name.startswith(tuple(hidden)))
    assert 100 < accepted < 900
