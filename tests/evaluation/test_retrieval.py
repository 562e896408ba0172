import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from hf_replearn.errors import InputError
from hf_replearn.evaluation.projection import pca_map, tsne_map
from hf_replearn.evaluation.retrieval import neighbours, retrieval
from hf_replearn.representation import Features


def examples(n=80, classes=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return Features(torch.randn(classes, 5, generator=rng)[labels] + torch.randn(n, 5, generator=rng), labels)


def test_equals_scikit_learns_average_precision_and_a_loop():
    found = examples()
    x = torch.nn.functional.normalize(found.x)
    outcomes = retrieval(found, ranks=(1, 3))
    for query in range(len(found)):
        others = [row for row in range(len(found)) if row != query]
        relevant = (found.labels[others] == found.labels[query]).numpy()
        similarity = (x[others] @ x[query]).numpy()
        assert outcomes["map"][query].item() == pytest.approx(average_precision_score(relevant, similarity), abs=1e-6)
        best = sorted(range(len(others)), key=lambda i: -similarity[i])
        assert outcomes["recall@1"][query] == relevant[best[0]]
        assert outcomes["recall@3"][query] == relevant[best[:3]].any()


def test_many_queries_are_ranked_in_parts(monkeypatch):
    whole = retrieval(examples())
    monkeypatch.setattr("hf_replearn.evaluation.retrieval.QUERIES", 7)
    for name, outcome in retrieval(examples()).items():
        torch.testing.assert_close(outcome, whole[name])


def test_some_queries_are_the_same_for_every_encoder():
    one, other = (retrieval(examples(seed=seed), queries=20) for seed in (0, 1))
    assert len(one["map"]) == len(other["map"]) == 20
    everyone = Features(examples().x, examples().labels)
    everyone.x[::2] = everyone.x[0]  # rows are drawn by place, whatever the features
    assert len(retrieval(everyone, queries=20)["map"]) == 20


def test_who_is_alone_in_a_class_does_not_ask():
    alone = Features(torch.randn(5, 3), torch.tensor([0, 0, 1, 2, 2]))
    assert len(retrieval(alone)["map"]) == 4
    with pytest.raises(InputError, match="single example"):
        retrieval(Features(torch.randn(3, 2), torch.arange(3)))
    with pytest.raises(InputError, match="one class: whatever is found is right"):
        retrieval(Features(torch.randn(3, 2), torch.zeros(3, dtype=torch.long)))


def test_neighbours_are_the_nearest_first():
    keys = Features(torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]))
    assert neighbours(keys, torch.tensor([[5.0, 1.0]]), k=3).tolist() == [[0, 1, 2]]


def test_maps_keep_far_groups_apart():
    labels = torch.arange(60) % 2
    features = Features(10 * torch.nn.functional.one_hot(labels, 8) + torch.randn(60, 8), labels)
    for points in (pca_map(features), tsne_map(features)):
        groups = [points[labels.numpy() == c] for c in (0, 1)]
        spread = max(group.std(axis=0).max() for group in groups)
        assert points.shape == (60, 2)
        assert abs(groups[0].mean(axis=0) - groups[1].mean(axis=0)).max() > 2 * spread
    assert pca_map(Features(torch.randn(5, 1))).shape == (5, 2)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-12])
def test_a_map_of_an_encoder_that_has_collapsed(value):
    """scikit-learn's t-SNE ends the whole process where all points are one, by rounding not always at 0."""
    x = torch.full((36, 32), value)
    assert tsne_map(Features(x)).tolist() == [[0, 0]] * 36
    x[::2, 0] += 1e-6
    assert np.isfinite(tsne_map(Features(x))).all()


def test_equals_are_ranked_by_chance_and_not_by_their_place():
    """Of an encoder that has collapsed, on rows that are sorted by class."""
    labels = torch.arange(300) // 100
    found = retrieval(Features(torch.ones(300, 4), labels))
    for name in ("recall@1", "map"):
        assert found[name].mean().item() == pytest.approx(1 / 3, abs=0.1)
        assert max(found[name][labels == c].mean() for c in range(3)) < 0.8


def test_fewer_others_than_are_asked_for():
    assert neighbours(Features(torch.eye(3)), torch.eye(3)[:1], k=7).shape == (1, 3)
    broken = Features(torch.tensor([[1.0, torch.nan], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0, 1]))
    with pytest.raises(InputError, match="NaN or infinite, first in row 0"):
        retrieval(broken)
