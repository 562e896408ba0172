"""extract keeps order, labels and mode; baselines equal their libraries; preprocessing is timm's."""

import resource
from functools import partial

import numpy as np
import pytest
import timm
import torch
from datasets import ClassLabel, Dataset, Sequence
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.decomposition import PCA
from torch import nn

from hf_replearn.data.decoding import decode_rgb
from hf_replearn.encoders.pooling import pool
from hf_replearn.errors import InputError
from hf_replearn.evaluation.knn import knn
from hf_replearn.representation import (
    Features,
    ImagePreprocessor,
    eigen,
    extract,
    extract_once,
    labels_of,
    pca,
    split_layers,
)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(7):
        height, width = rng.integers(30, 70, 2)
        smooth = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))
        smooth.save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    rows = Dataset.from_dict({"image": paths, "label": [0, 1, 0, 1, 1, 0, 1]})
    return rows.cast_column("image", ImageFeature(decode=False)).cast_column("label", ClassLabel(names=["a", "b"]))


def test_extract_keeps_order_labels_and_mode(photos):
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(12)).train()
    preprocess = ImagePreprocessor(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    features = extract(encoder, photos, preprocess=preprocess, batch_size=3)
    assert encoder.training and encoder[2].num_batches_tracked == 0  # left as it was found, and nothing was learned
    assert features.x.shape == (7, 12)
    assert features.labels.tolist() == [0, 1, 0, 1, 1, 0, 1]
    encoder.eval()
    for row in range(7):
        torch.testing.assert_close(features.x[row], encoder(preprocess([photos[row]]))[0])


def test_preprocessing_is_that_of_the_exported_encoder(photos):
    """timm rounds nothing between resizing and normalising, and neither do we: at most one grey level apart."""
    config = {"input_size": (3, 24, 24), "crop_pct": 0.875, "interpolation": "bilinear"}
    config |= {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    transform = timm.data.create_transform(**config)
    ours = ImagePreprocessor(24, config["mean"], config["std"], crop_pct=0.875)(list(photos))
    theirs = torch.stack([transform(decode_rgb(row["image"])) for row in photos])
    assert (ours - theirs).abs().max() <= 1.01 / 255 / 0.2


def test_several_labels_an_image_are_an_indicator_matrix():
    rows = Dataset.from_dict({"label": [[0], [], [1, 2]]}).cast_column("label", Sequence(ClassLabel(names=list("abc"))))
    assert labels_of(rows).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]
    assert labels_of(Dataset.from_dict({"x": [1, 2]})) is None


@pytest.mark.parametrize(("examples", "features"), [(50, 8), (20, 60)])
def test_pca_spans_what_scikit_learn_finds(examples, features):
    x = torch.randn(examples + 10, 6) @ torch.randn(6, features) + 0.1 * torch.randn(examples + 10, features)
    train, test = Features(x[:examples]), Features(x[examples:])
    [ours] = pca(train, test, components=3)
    theirs = torch.from_numpy(PCA(3).fit(train.x.numpy()).transform(test.x.numpy()))
    torch.testing.assert_close(ours.x.abs(), theirs.abs(), rtol=1e-3, atol=1e-3)  # signs are free
    all_of_them, _ = pca(train, train, test, components=64)
    assert all_of_them.x.shape == (examples, min(examples, features))
    distances = torch.cdist(train.x, train.x)
    torch.testing.assert_close(torch.cdist(all_of_them.x, all_of_them.x), distances, rtol=1e-3, atol=1e-2)
    same = Features(torch.ones(5, 9))
    assert pca(same, same, components=2)[0].x.abs().max() < 1e-4


def test_features_are_made_of_numbers_of_any_type():
    x = np.arange(6.0).reshape(3, 2)
    for given in (x, x.astype(np.float16), torch.from_numpy(x).half(), x.astype(np.uint8), x.tolist(), torch.tensor(x)):
        features = Features(given, [2, 0, 1])
        assert features.x.dtype == torch.float32 and features.x.tolist() == x.tolist()
        assert features.labels.dtype == torch.int64 and features.labels.tolist() == [2, 0, 1]
    assert not Features(torch.ones(2, 2, requires_grad=True)).x.requires_grad
    kinds = {"int64": [[1, 0, 1], np.array([1, 0, 1], np.uint16), [True, False, True], torch.tensor([1, 0, 1]).int()]}
    kinds |= {"float32": [[0.5, 0.0, 1.0], np.array([0.5, 0, 1])], "int8": [[[1, 0], [0, -1], [1, 1]], np.ones((3, 2))]}
    for kind, examples in kinds.items():
        for labels in examples:
            assert Features(x, labels).labels.dtype == getattr(torch, kind)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (torch.zeros(3), None, r"features must be \(N, D\), got \(3,\)"),
        (torch.zeros(3, 1), torch.zeros(2), "3 features but 2 labels"),
        ([["a"], ["b"]], None, "features must be numbers, got 'a'"),
        (torch.zeros(2, 1), ["cat", 1], "all numbers or all class names; that of row 1 is 1"),
        (torch.zeros(2, 1), ["cat", " "], "that of row 1 is ' '"),
        (torch.zeros(2, 1), ["cat", None], "that of row 1 is None"),
        (torch.zeros(2, 1), [["cat"], ["dog"]], "labels must be numbers, got 'cat'"),
        (torch.zeros(2, 1), [[1], [1, 0]], "labels must be rows of one length"),
        (torch.zeros(2, 1), [0.5, float("nan")], "1 of 2 labels are NaN or infinite, first in row 1"),
        ([[1.0, 2.0], [3.0]], None, "features must be rows of one length"),
        ([[1.0], [float("nan")], [float("inf")]], None, "2 of 3 features are NaN or infinite, first in row 1"),
        (np.array([[np.nan], [1.0]]), None, "1 of 2 features are NaN or infinite, first in row 0"),
        (torch.zeros(2, 1), [None, 1], "labels must be numbers, got 'None'"),
        (torch.zeros(2, 1), torch.zeros(2, 1, 1), r"labels must be \(N,\)"),
        (torch.zeros(2, 1), [[0, 7], [1, 2]], "1, 0 or -1"),
    ],
)
def test_features_refuse_what_does_not_fit(x, labels, message):
    with pytest.raises(InputError, match=message) as error:
        Features(x, labels)
    assert "\n" not in str(error.value)


def test_class_names_have_the_same_numbers_in_train_and_test():
    """In the order of the alphabet, as in data.labels; where the two sets differ, names= says which number is whose."""
    x = np.eye(3).tolist()
    train = Features(x, ["dog", "cat", "dog"])
    assert train.labels.tolist() == [1, 0, 1] and train.names == ("cat", "dog")
    assert train[torch.tensor([2, 1])].names == train.names == split_layers(train, [1, 2])[0].names
    assert Features(x, np.array(["dog", "cat", "dog"])).labels.tolist() == [1, 0, 1]
    assert knn(train, Features(x, ["dog", "cat", "dog"]), k=1) == {"knn@1": 1.0}
    for other in (["dog"] * 3, ["bird", "dog", "cat"], [1, 0, 1]):  # as numbers: 0 0 0, 0 2 1, 1 0 1
        with pytest.raises(InputError, match="a class must have the same number in both; give both Features"):
            knn(train, Features(x, other), k=1)
    assert knn(train, Features(x, ["dog"] * 3, names=train.names), k=1) == {"knn@1": 2 / 3}
    with pytest.raises(InputError, match="the label 'bird' is none of the names cat, dog"):
        Features(x, ["bird", "dog", "cat"], names=train.names)
    assert Features(x, [1, 0, 1], names=["cat", "dog"]).names == train.names


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.utils.data.TensorDataset(torch.zeros(4, 3)), "must be a datasets.Dataset, got TensorDataset"),
        ([{"x": 1}], "must be a datasets.Dataset, got list"),
        (Dataset.from_dict({"x": []}), "the dataset is empty"),
        (Dataset.from_dict({"x": [1, 2], "label": ["cat", "dog"]}), "labels must be numbers, got 'cat'"),
    ],
)
def test_what_cannot_be_represented_is_said_before_anything_is_computed(rows, message, tmp_path):
    for compute in (extract, partial(extract_once, cache=tmp_path)):
        with pytest.raises(InputError, match=message):
            compute(nn.Identity(), rows, preprocess=None)


@pytest.mark.parametrize(
    ("encode", "shape"),
    [
        (nn.Identity(), r"\[3, 3, 4, 4\]"),
        (lambda x: x.mean(), r"\[\]"),
        (lambda x: [x], "list"),
        (lambda x: x[:1, 0, 0], r"\[1, 4\]"),
    ],
)
def test_an_encoder_gives_one_vector_an_example(photos, encode, shape):
    with pytest.raises(InputError, match=f"gives {shape}.* for 3 examples, not one vector an example"):
        extract(encode, photos, preprocess=ImagePreprocessor(4, (0.5,) * 3, (0.5,) * 3), batch_size=3)


def test_features_are_computed_once_and_anew_for_whatever_changes_them(photos, tmp_path):
    """Other weights, other rows, a changed image file or another preprocessing are other features."""
    calls = []

    class Encoder(nn.Linear):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x.flatten(1))

    torch.manual_seed(0)
    encoder, preprocess = Encoder(3 * 8 * 8, 4), ImagePreprocessor(8, (0.5,) * 3, (0.5,) * 3)

    def once(rows=photos, preprocess=preprocess):
        calls.clear()
        found = extract_once(encoder, rows, preprocess=preprocess, cache=tmp_path / "cache", batch_size=3)
        return found, sum(calls)

    first, computed = once()
    again, none = once()
    assert (computed, none) == (7, 0)
    torch.testing.assert_close(again.x, extract(encoder, photos, preprocess=preprocess).x)
    assert torch.equal(again.x, first.x) and torch.equal(again.labels, first.labels)
    again.x.zero_()  # a copy in memory: the file stays as it is
    assert torch.equal(once()[0].x, first.x)
    assert once(rows=photos.select([1, 0, 2]))[1] == 3
    assert once(preprocess=ImagePreprocessor(8, (0.4,) * 3, (0.5,) * 3))[1] == 7
    Image.new("RGB", (20, 20), "red").save(photos[6]["image"]["path"])
    assert once()[1] == 7
    with torch.no_grad():
        encoder.bias += 1
    assert once()[1] == 7 and once()[1] == 0


def test_a_broken_extraction_leaves_nothing_that_would_be_read(photos, tmp_path):
    class Fails(nn.Linear):
        def forward(self, x):
            if len(x) < 4:
                raise RuntimeError("in the last batch")
            return super().forward(x.flatten(1))

    with pytest.raises(RuntimeError):
        preprocess = ImagePreprocessor(8, (0.5,) * 3, (0.5,) * 3)
        extract_once(Fails(192, 2), photos, preprocess=preprocess, cache=tmp_path / "cache", batch_size=4)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_pooling_by_hand():
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(states, mask, how="mean").tolist() == [[1, 2], [8, 9]]
    assert pool(states, mask, how="cls").tolist() == [[0, 1], [6, 7]]
    assert pool(states, mask, how="last").tolist() == [[2, 3], [10, 11]]
    assert pool(states, how="last").tolist() == [[4, 5], [10, 11]]
    assert pool(torch.ones(2, 5, 3, 3), how="cls").shape == (2, 5)  # a feature map has no first position


class Counting(nn.Linear):
    """An encoder that knows how many images it was shown."""

    shown = 0

    def forward(self, x):
        self.shown += len(x)
        return super().forward(x.flatten(1))


@pytest.fixture
def once(photos, tmp_path):
    """Extracts into a cache, and says how many images were encoded."""
    encoder = Counting(3 * 8 * 8, 4)

    def run(cache=tmp_path / "cache"):
        encoder.shown, preprocess = 0, ImagePreprocessor(8, (0.5,) * 3, (0.5,) * 3)
        return extract_once(encoder, photos, preprocess=preprocess, cache=cache), encoder.shown

    return run


def damage(path, how: str) -> None:
    whole, array = path.read_bytes(), np.load(path)
    contents = {
        "emptied": b"",
        "cut": whole[: len(whole) // 2],
        "last byte": whole[:-1] + bytes([whole[-1] ^ 1]),
        "noise": whole[:200] + b"\x00" * 8 + whole[208:],
        "garbled header": b"nonsense" + whole[8:],
    }
    if how in contents:
        path.write_bytes(contents[how])
    elif how == "a link to nothing":
        path.unlink()
        path.symlink_to("nowhere")
    else:
        array = {"NaN": np.full_like(array, np.nan), "other shape": array[:, :2], "numbers": array + 1}[how]
        np.save(path, array)


@pytest.mark.parametrize(
    "how",
    ["emptied", "cut", "last byte", "noise", "garbled header", "a link to nothing", "NaN", "other shape", "numbers"],
)
def test_kept_features_that_were_damaged_are_made_again(once, tmp_path, how):
    expected = once()[0].x.clone()  # not the mapped file that is about to be cut
    [path] = (tmp_path / "cache").iterdir()
    damage(path, how)
    again, shown = once()
    assert shown == 7 and torch.equal(again.x, expected)
    assert once()[1] == 0 and [file.name for file in (tmp_path / "cache").iterdir()] == [path.name]


def test_features_are_computed_where_they_cannot_be_kept(once, tmp_path, capsys):
    """A cache in a place that is a file; a disk without room, for which a limit on file sizes stands here."""
    expected, _ = once()
    (tmp_path / "file").touch()
    assert torch.equal(once(tmp_path / "file" / "cache")[0].x, expected.x)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert torch.equal(once(tmp_path / "full")[0].x, expected.x)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("features are computed but not kept: ") for line in lines] == [True, True]
    assert not list((tmp_path / "full").iterdir())
    assert once(tmp_path / "full")[1] == 7 and once(tmp_path / "full")[1] == 0


@pytest.mark.parametrize("seed", range(6))
def test_eigenvectors_of_features_that_are_mostly_zero(seed):
    """Of some of these, single precision gives nan or an error."""
    rng = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(272, 110, generator=rng)
    x[:, 32:] = 0
    group = torch.randint(0, 78, (272,), generator=rng) * (torch.rand(272, generator=rng) > 0.9)
    x[torch.arange(272), 32 + group] = 0.01 + 0.05 * torch.rand(272, generator=rng)
    x -= x.mean(0)
    matrix = x.T @ x
    values, vectors = eigen(matrix)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(110), atol=1e-5, rtol=0)
    torch.testing.assert_close((vectors * values) @ vectors.T, matrix, atol=1e-5 * matrix.max().item(), rtol=0)
