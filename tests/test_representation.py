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

from hf_replearn.data.images import decode_rgb
from hf_replearn.representation import Features, ImagePreprocessor, extract, labels_of, pca


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


def test_pca_spans_what_scikit_learn_finds():
    x = torch.randn(60, 8) @ torch.randn(8, 8)
    train, test = Features(x[:50]), Features(x[50:])
    ours = pca(train, test, components=3)[1].x
    theirs = torch.from_numpy(PCA(3).fit(train.x.numpy()).transform(test.x.numpy()))
    torch.testing.assert_close(ours.abs(), theirs.abs(), rtol=1e-3, atol=1e-4)  # signs are free
    assert pca(train, test, components=64)[0].x.shape == (50, 8)


def test_features_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        Features(torch.zeros(3))
    with pytest.raises(ValueError, match="3 features but 2 labels"):
        Features(torch.zeros(3, 1), torch.zeros(2))
