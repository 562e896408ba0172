import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hf_replearn.errors import InputError
from hf_replearn.evaluation import k_shot
from hf_replearn.representation import Features

sample = k_shot.__globals__["_sample"]


@pytest.fixture(scope="module")
def digits() -> tuple[Features, Features]:
    x, labels = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
    return Features(x[:1300].float(), labels[:1300]), Features(x[1300:].float(), labels[1300:])


def test_equals_sklearn_on_the_same_rows(digits):
    train, test = digits
    scores = k_shot(train, test, shots=(1, 4), draws=3)
    for k in (1, 4):
        accuracy = []
        for rows in sample(train.labels, 4, 3, 0)[:, :, :k].flatten(1):
            mean = train.x[rows].mean(dim=0)
            scale = (train.x[rows] - mean).square().sum(dim=1).mean().sqrt()
            peer = LogisticRegression(C=10.0, max_iter=1000)
            peer.fit(((train.x[rows] - mean) / scale).numpy(), train.labels[rows].numpy())
            accuracy.append(peer.score(((test.x - mean) / scale).numpy(), test.labels.numpy()))
        assert scores[f"k_shot@{k}"] == pytest.approx(np.mean(accuracy), abs=0.003)
        low, high = stats.t.interval(0.95, 2, np.mean(accuracy), stats.sem(accuracy))
        assert scores[f"k_shot@{k}_ci95"] == pytest.approx((high - low) / 2, abs=0.01)


def test_samples_are_nested_and_hold_k_of_every_class(digits):
    labels = digits[0].labels
    large = sample(labels, 8, 4, 7)
    assert torch.equal(large[:, :, :2], sample(labels, 2, 4, 7))
    assert torch.equal(labels[large], torch.arange(10)[None, :, None].expand(4, 10, 8))
    assert all(len(draw.flatten().unique()) == 80 for draw in large)
    assert not torch.equal(large[0], large[1])
    assert not torch.equal(large, sample(labels, 8, 4, 8))


def test_draws_do_not_depend_on_their_number_or_on_the_shots(digits):
    train, test = digits
    assert torch.equal(sample(train.labels, 4, 2, 0), sample(train.labels, 4, 5, 0)[:2])
    alone = k_shot(train, test, shots=(2,), draws=3)
    assert alone["k_shot@2"] == k_shot(train, test, shots=(2, 16), draws=3)["k_shot@2"]


def test_more_labels_help_and_the_interval_narrows(digits):
    scores = k_shot(*digits)
    means = [scores[f"k_shot@{k}"] for k in (1, 2, 4, 8, 16, 32, 64)]
    assert means == sorted(means)
    assert scores["k_shot@64_ci95"] < scores["k_shot@1_ci95"]


def test_default_shots_stop_at_the_smallest_class_and_larger_ones_are_refused(digits):
    train, test = digits
    few = torch.cat([(train.labels != 6).nonzero().flatten(), (train.labels == 6).nonzero().flatten()[:5]])
    assert [key for key in k_shot(train[few], test) if "ci95" not in key] == ["k_shot@1", "k_shot@2", "k_shot@4"]
    with pytest.raises(InputError, match="shots contains 8, class 6 has 5 of the 1,175 training examples"):
        k_shot(train[few], test, shots=(1, 8))
    with pytest.raises(InputError, match="shots contains 0"):
        k_shot(train, test, shots=(0, 1))
    with pytest.raises(InputError, match="draws is 1"):
        k_shot(train, test, draws=1)


def test_a_guess_is_worth_a_guess_whatever_the_mixture_of_the_test_set():
    """Features that are all alike tell nothing; class 0 is nine tenths of the test set."""
    labels = torch.tensor([0] * 90 + [1] * 10)
    flat = Features(torch.ones(100, 3), labels)
    assert k_shot(flat, flat, shots=(1, 4), draws=3)["k_shot@4"] == pytest.approx(0.5)


def test_classes_without_enough_examples_are_called_by_their_names(digits):
    with pytest.raises(InputError, match="class 'nine' has 1 of the 3 training examples"):
        k_shot.__globals__["feasible_shots"](torch.tensor([0, 0, 1]), [2], names=["zero", "nine"])
