import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from hf_replearn.errors import InputError
from hf_replearn.evaluation import k_shot, knn, linear_probe
from hf_replearn.evaluation import knn as knn_function
from hf_replearn.representation import Features


def blobs(n: int, dimensions: int = 8, classes: int = 5, spread: float = 1.0, seed: int = 0) -> Features:
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(classes, (n,), generator=rng)
    labels[:classes] = torch.arange(classes)
    return Features(centres[labels] + spread * torch.randn(n, dimensions, generator=rng), labels)


def test_equals_a_loop_over_queries():
    train, test = blobs(120, spread=1.5), blobs(60, spread=1.5, seed=1)
    correct = 0
    for query, label in zip(test.x, test.labels, strict=True):
        similarity = [float(query @ key / (query.norm() * key.norm())) for key in train.x]
        votes = [0.0] * 5
        for i in sorted(range(120), key=lambda i: -similarity[i])[:20]:
            votes[train.labels[i]] += np.exp(similarity[i] / 0.07)
        correct += int(np.argmax(votes) == label)
    assert knn(train, test, k=20) == {"knn@20": correct / 60}


def test_equals_sklearn_with_the_same_weights(monkeypatch):
    train, test = blobs(500, spread=2.0), blobs(300, spread=2.0, seed=1)
    peer = KNeighborsClassifier(50, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1))
    expected = peer.fit(train.x.numpy(), train.labels.numpy()).score(test.x.numpy(), test.labels.numpy())
    assert knn(train, test, k=50, temperature=0.1) == {"knn@50_T0.1": pytest.approx(expected, abs=1e-9)}
    # In chunks of one query the answer is the same.
    monkeypatch.setitem(knn_function.__globals__, "SIMILARITIES", 1)
    assert knn(train, test, k=50, temperature=0.1) == {"knn@50_T0.1": pytest.approx(expected, abs=1e-9)}


def test_key_names_the_neighbours_that_voted():
    assert list(knn(blobs(30), blobs(10, seed=1))) == ["knn@30"]


def test_tiny_temperature_is_the_nearest_neighbour():
    train, test = blobs(200, spread=2.0), blobs(100, spread=2.0, seed=1)
    nearest = knn(train, test, k=1)["knn@1"]
    assert knn(train, test, k=100, temperature=1e-4)["knn@100_T0.0001"] == nearest


EVALUATORS = [knn, linear_probe, k_shot]


@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_bad_features_and_labels_are_named(evaluate):
    good = blobs(40)
    broken = good.x.clone()
    broken[7, 3] = float("nan")
    with pytest.raises(InputError, match="1 of 40 test features.* row 7"):
        evaluate(good, Features(broken, good.labels))
    with pytest.raises(InputError, match="all train labels are 3"):
        evaluate(Features(good.x, torch.full((40,), 3)), good)
    with pytest.raises(InputError, match="train features have no labels"):
        evaluate(Features(good.x), good)
    with pytest.raises(InputError, match="8 dimensions and test features 5"):
        evaluate(good, Features(good.x[:, :5], good.labels))
    with pytest.raises(InputError, match="multi-label"):
        evaluate(Features(good.x, torch.ones(40, 2, dtype=torch.int8)), good)


@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_constant_features_score_no_better_than_one_class(evaluate):
    train, test = blobs(60), blobs(60, seed=1)
    flat = [Features(torch.ones(60, 4), f.labels) for f in (train, test)]
    largest = test.labels.bincount().max().item() / 60
    assert next(iter(evaluate(*flat).values())) <= largest


@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_class_unseen_in_training_counts_as_errors(evaluate):
    train, test = blobs(60, spread=0.01), blobs(60, spread=0.01, seed=1)
    seen = train.labels != 2
    score = next(iter(evaluate(train[seen], test).values()))
    assert score == pytest.approx((test.labels != 2).double().mean().item())


@pytest.mark.parametrize("evaluate", EVALUATORS)
def test_class_numbers_need_not_be_0_1_2(evaluate):
    train, test = blobs(60), blobs(60, seed=1)
    renamed = [Features(f.x, 7 * f.labels + 3) for f in (train, test)]
    assert evaluate(*renamed) == evaluate(train, test)


def test_a_single_example_of_each_class_leaves_none_to_choose_a_cost_on():
    one = Features(torch.eye(3), torch.arange(3))
    with pytest.raises(InputError, match="none is left to choose the cost"):
        linear_probe(one, one)
