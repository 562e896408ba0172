"""Classes that are held out, and episodes drawn from the others or read as they are published."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_replearn.data.episodes import Episodes, draw_from, load_classes, load_runs
from hf_replearn.data.sources import Source, load_source
from hf_replearn.errors import InputError


def picture(number: int) -> dict:
    """A file of 4 x 4 pixels, another one for each number."""
    pixels = np.zeros((4, 4), np.uint8)
    pixels.flat[:3] = number % 256, number // 256, 7
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def table(classes: dict[str, int], *, first: int = 0, groups: dict[str, str] | None = None) -> datasets.Dataset:
    """So many different images of each class, numbered from `first`."""
    labels = [name for name, count in classes.items() for _ in range(count)]
    columns = {"image": [picture(first + row) for row in range(len(labels))], "label": labels}
    columns |= {"alphabet": [groups[name] for name in labels]} if groups else {}
    kinds = {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=sorted(classes))}
    kinds |= {"alphabet": datasets.Value("string")} if groups else {}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


def source(**splits: datasets.Dataset) -> Source:
    return Source("letters", None, "saved", splits)


TEN = {f"c{number}": 6 for number in range(10)}


# ---- episodes


@pytest.fixture
def drawn():
    return Episodes([np.arange(6) + 6 * number for number in range(10)], way=4, each=5)


def test_an_episode_has_different_classes_and_no_image_twice(drawn):
    for number in range(50):
        rows = drawn[number]["rows"]
        assert len(set((rows // 6)[:, 0])) == 4  # classes, which are six rows each
        assert (rows // 6 == (rows // 6)[:, :1]).all()
        assert len(np.unique(rows)) == rows.size  # so that no support image is asked for


def test_an_episode_is_a_function_of_its_number_and_the_seed(drawn):
    again = Episodes(drawn.by_class, way=4, each=5)
    other = Episodes(drawn.by_class, way=4, each=5, seed=1)
    assert all((drawn[n]["rows"] == again[n]["rows"]).all() for n in range(5))
    assert any((drawn[n]["rows"] != other[n]["rows"]).any() for n in range(5))
    assert any((drawn[0]["rows"] != drawn[n]["rows"]).any() for n in range(1, 5))


def test_labels_are_drawn_anew_for_each_episode(drawn):
    """A class is at each place about as often: who learns that class 3 is label 1 learns nothing."""
    places = np.zeros((10, 4))
    for number in range(2000):
        for place, name in enumerate(drawn[number]["classes"]):
            places[name, place] += 1
    assert abs(places / 200 - 1).max() < 0.3  # expected 200 each, deviation 13


def test_turned_classes_are_further_classes_of_the_same_images():
    turned = Episodes([np.arange(6) + 6 * number for number in range(3)], way=12, each=2, turned=True)
    episode = turned[0]
    assert sorted(episode["classes"]) == list(range(12))
    assert (episode["rows"][:, 0] // 6 == episode["classes"] % 3).all()
    assert (episode["turns"] == episode["classes"] // 3).all()


def test_episodes_within_groups_are_of_one_group(drawn):
    within = Episodes(drawn.by_class, way=4, each=2, groups=[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [1, 2]])
    found = [{int(name) // 5 for name in within[number]["classes"]} for number in range(30)]
    assert {len(one) for one in found} == {1} and len(set(map(tuple, found))) == 2


def test_support_and_queries_of_fixed_episodes_are_disjoint(drawn):
    fixed = drawn.fixed(20, shots=2)
    assert fixed.name == "4w2s" and fixed.support.shape == (20, 4, 2) and fixed.query.shape == (20, 12)
    for support, query, answers in zip(fixed.support, fixed.query, fixed.answers, strict=True):
        assert not set(support.ravel()) & set(query)
        assert (support[answers][:, 0] // 6 == query // 6).all()  # the answer is the class of the query


# ---- classes


def test_without_a_word_a_fifth_of_the_classes_is_held_out():
    data = load_classes(source(train=table(TEN)))
    assert len(data.held_out) == 2 and sorted([*data.learnt, *data.held_out]) == list(range(10))
    assert load_classes(source(train=table(TEN))).held_out == data.held_out
    assert len(load_classes(source(train=table(TEN)), least=5).held_out) == 5


def test_a_test_split_with_other_classes_is_held_out():
    data = load_classes(source(train=table({"a": 4, "b": 4}), test=table({"x": 4, "y": 4}, first=50)))
    assert [data.names[number] for number in data.held_out] == ["x", "y"]
    assert [data.names[number] for number in data.learnt] == ["a", "b"]
    assert "split `test`" in data.where


def test_splits_with_a_class_in_common_are_refused():
    both = source(train=table({"a": 4, "b": 4}), test=table({"b": 4, "x": 4}, first=50))
    with pytest.raises(InputError, match="1 of the 2 classes of 'test' in 'train' too.*b.*--held_out 0.2"):
        load_classes(both)
    pooled = load_classes(both, held_out=("b", "x"))
    assert [pooled.names[number] for number in pooled.held_out] == ["b", "x"]
    assert len(pooled.rows_of(pooled.held_out)[0]) == 8  # of both splits


def test_groups_are_held_out_whole():
    groups = {f"c{number}": "greek" if number < 5 else "latin" for number in range(10)}
    data = load_classes(source(train=table(TEN, groups=groups)), group_by="alphabet", held_out=("latin",))
    assert {data.names[number] for number in data.held_out} == {f"latin/c{number}" for number in range(5, 10)}
    shared = load_classes(source(train=table(TEN, groups=groups)), group_by="alphabet")
    assert len({data.names[number].split("/")[0] for number in shared.held_out}) == 1
    with pytest.raises(InputError, match="--group_by 'script' does not exist; the columns are image, label, alphabet"):
        load_classes(source(train=table(TEN, groups=groups)), group_by="script")


def test_folders_of_groups_of_classes(tmp_path):
    for group in ("greek", "latin"):
        for letter in ("alpha", "beta", "gamma"):
            (tmp_path / group / letter).mkdir(parents=True)
            for number in range(3):
                place = tmp_path / group / letter / f"{number}.png"
                place.write_bytes(picture(hash((group, letter)) % 60_000 + number)["bytes"])
    data = load_classes(str(tmp_path), group_by="folder", held_out=("greek",))
    assert data.names[:2] == ["greek/alpha", "greek/beta"] and len(data.names) == 6 and len(data.held_out) == 3


def test_class_folders_of_splits_may_differ(tmp_path):
    """Elsewhere a class that only the test split has is refused."""
    for split, names in {"train": "abc", "test": "xy"}.items():
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(3):
                content = picture(1000 * ord(name) % 60_000 + number)["bytes"]
                (tmp_path / split / name / f"{number}.png").write_bytes(content)
    data = load_classes(str(tmp_path))
    assert data.names == ["a", "b", "c", "x", "y"] and [data.names[n] for n in data.held_out] == ["x", "y"]
    with pytest.raises(InputError, match="not in 'train'"):
        load_source(str(tmp_path), purpose="images")


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (("c11",), "--held_out 'c11' is no class here; there are c1"),
        (("1.5",), "--held_out 1.5: a share of the classes from 0 to below 1"),
    ],
)
def test_what_cannot_be_held_out(held_out, message):
    with pytest.raises(InputError, match=message):
        load_classes(source(train=table(TEN)), held_out=held_out)


def test_all_or_none_may_be_held_out():
    assert load_classes(source(train=table(TEN)), held_out=("0",)).held_out == []
    everything = load_classes(source(train=table(TEN)), held_out=("all",))
    assert everything.learnt == [] and len(everything.held_out) == 10


def test_images_without_classes_are_refused():
    one = datasets.Dataset.from_dict(
        {"image": [picture(number) for number in range(4)]},
        features=datasets.Features(image=datasets.Image(decode=False)),
    )
    with pytest.raises(InputError, match="'letters' has not one of several for each image"):
        load_classes(source(train=one))


def test_copies_of_a_class_are_left_out_and_copies_across_are_said():
    rows = table({"a": 4, "b": 4})
    twice = datasets.concatenate_datasets([rows, rows.select([0, 1])])
    data = load_classes(source(train=twice, test=table({"x": 3, "y": 3}, first=0)))  # images of a and b
    assert len(data.images) == 8 + 6
    assert "2 images are byte-identical copies of others of their class, and are left out" in data.notes
    assert "6 images of classes held out are byte-identical to images that are trained on" in data.notes


def test_classes_of_two_files_go_by_their_names(tmp_path):
    """The number 0 is `a` in one file and `b` in the other."""
    table({"a": 3, "c": 3}).to_parquet(tmp_path / "one.parquet")
    table({"b": 3, "c": 3}, first=20).to_parquet(tmp_path / "two.parquet")
    data = load_classes(str(tmp_path), held_out=("b",))
    assert data.names == ["a", "b", "c"] and [len(rows) for rows in data.rows_of([0, 1, 2])] == [3, 3, 6]


# ---- what can be drawn


def test_small_classes_are_left_out_and_named():
    data = load_classes(source(train=table(TEN | {"tiny": 2})), held_out=("0",))
    drawn, notes = draw_from(data, data.learnt, way=5, shots=1, queries=3)
    assert len(drawn.by_class) == 10
    assert notes == ["1 classes have fewer images than the 4 of an episode, and are left out: tiny"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"way": 11, "shots": 1, "queries": 1},
            "--way 11: 'letters' has 10 classes to draw episodes from: lower --way",
        ),
        ({"way": 5, "shots": 5, "queries": 2}, "0 classes.* 10 others, such as 'c0', have fewer images than the 7"),
        ({"way": 2, "shots": 1, "queries": 1, "within_group": True}, "name the column of the groups with --group_by"),
    ],
)
def test_episodes_that_cannot_be_drawn(asked, message):
    data = load_classes(source(train=table(TEN)), held_out=("0",))
    with pytest.raises(InputError, match=message):
        draw_from(data, data.learnt, **asked)


# ---- episodes as they are published


def test_runs_in_folders_as_omniglot_has_them(tmp_path):
    for run, order in (("run01", (1, 0)), ("run02", (0, 1))):
        for part in ("training", "test"):
            (tmp_path / run / part).mkdir(parents=True)
        for number in (1, 2):
            (tmp_path / run / "training" / f"class0{number}.png").write_bytes(picture(number)["bytes"])
            (tmp_path / run / "test" / f"item0{number}.png").write_bytes(picture(10 + number)["bytes"])
        lines = [f"{run}/test/item0{i + 1}.png {run}/training/class0{order[i] + 1}.png" for i in (0, 1)]
        (tmp_path / run / "class_labels.txt").write_text("\n".join(lines) + "\n")
    rows, fixed, _, taken = load_runs(str(tmp_path))
    assert fixed.name == "2w1s" and len(fixed) == 2 and "2 runs" in taken
    paths = [cell["path"] for cell in rows["image"]]
    for run, order in ((0, (1, 0)), (1, (0, 1))):
        for query, answer in zip(fixed.query[run], fixed.answers[run], strict=True):
            item = int(paths[query][-5]) - 1
            assert paths[fixed.support[run][answer][0]].endswith(f"run0{run + 1}/training/class0{order[item] + 1}.png")
    (tmp_path / "run02" / "test" / "item02.png").unlink()
    with pytest.raises(InputError, match=r"names 'run02/test/item02.png', and there is no such file"):
        load_runs(str(tmp_path))


def runs_table(parts, labels, runs=(1, 1, 1, 1)) -> Source:
    columns = {"image": [picture(n) for n in range(len(parts))], "run": runs, "part": parts, "label": labels}
    features = datasets.Features(
        image=datasets.Image(decode=False),
        run=datasets.Value("int32"),
        part=datasets.Value("string"),
        label=datasets.Value("int64"),
    )
    return source(train=datasets.Dataset.from_dict(columns, features=features))


def test_runs_in_a_table():
    rows, fixed, name, _ = load_runs(runs_table(["train", "train", "test", "test"], [5, 3, 3, 5]))
    assert name == "letters" and len(rows) == 4
    assert fixed.support.tolist() == [[[0], [1]]] and fixed.query.tolist() == [[2, 3]]
    assert fixed.answers.tolist() == [[1, 0]]
    assert load_runs(source(train=table(TEN))) is None


@pytest.mark.parametrize(
    ("parts", "labels", "message"),
    [
        (["train", "train", "test", "test"], [5, 3, 3, 4], "asks for 4, which it shows no image of"),
        (["train", "train", "train", "test"], [5, 5, 3, 3], "shows its classes different numbers of images"),
        (["train", "train", "train", "train"], [5, 3, 5, 3], "fewer than two classes, or asks for nothing"),
        (["train", "train", "dev", "test"], [5, 3, 3, 5], "'dev' of an episode"),
    ],
)
def test_runs_that_are_not_whole(parts, labels, message):
    with pytest.raises(InputError, match=message):
        load_runs(runs_table(parts, labels))


def test_glyphs_have_other_classes_to_test_on():
    data = load_classes("toy", group_by="alphabet")
    assert len(data.learnt) == 80 and len(data.held_out) == 20 and not data.notes
    assert {data.names[number].split("/")[0] for number in data.held_out} == {"ystra", "zeph"}
    assert {len(rows) for rows in data.rows_of(range(100))} == {20}
