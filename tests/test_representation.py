"""extract keeps order, labels and mode; baselines equal their libraries; preprocessing is timm's."""

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
from hf_replearn.representation import Features, ImagePreprocessor, extract, extract_once, labels_of, pca


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


def test_features_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        Features(torch.zeros(3))
    with pytest.raises(ValueError, match="3 features but 2 labels"):
        Features(torch.zeros(3, 1), torch.zeros(2))


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
