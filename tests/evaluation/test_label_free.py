import math

import pytest
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.label_free import (
    alignment,
    alpha_req,
    hoyer_sparsity,
    label_free,
    rankme,
    same_class_pairs,
    selectivity,
    separation,
    uniformity,
)
from hf_replearn.representation import Features


def with_spectrum(eigenvalues, n=400, seed=0):
    """(n, D) centred rows whose covariance has these eigenvalues, turned at random."""
    d = len(eigenvalues)
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, _, v = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return u * torch.tensor(eigenvalues, dtype=torch.float64).sqrt() @ v


def test_rankme_is_the_number_of_equal_directions():
    assert rankme(with_spectrum([1.0] * 8)) == pytest.approx(8, rel=1e-3)
    assert rankme(with_spectrum([1.0] * 5 + [0.0] * 3)) == pytest.approx(5, rel=1e-3)
    assert rankme(torch.ones(50, 8)) == pytest.approx(1, abs=1e-3)


def test_rankme_equals_its_formula_with_the_singular_values():
    x = torch.randn(30, 50, generator=torch.Generator().manual_seed(3)).double()
    s = torch.linalg.svdvals(x)
    p = s / s.sum() + 1e-7
    assert rankme(x) == pytest.approx((-(p * p.log()).sum()).exp().item(), rel=1e-4)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_finds_the_exponent_of_a_power_law(alpha):
    for width in (20, 120):  # all eigenvalues; and 11 to 100
        power_law = [float(i) ** -alpha for i in range(1, width + 1)]
        assert alpha_req(with_spectrum(power_law)) == pytest.approx(alpha, abs=0.01)
    assert math.isnan(alpha_req(torch.ones(10, 4)))


def test_uniformity_and_alignment_by_hand():
    square = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -5.0]])  # squared distances 2 and 4 on the circle
    assert uniformity(square) == pytest.approx(math.log((4 * math.exp(-4) + 2 * math.exp(-8)) / 6))
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert alignment(square[:2], square[1:3]) == pytest.approx(2)
    assert alignment(square, 7 * square) == pytest.approx(0)


def test_uniformity_from_a_sample_of_pairs_is_near_that_of_all(monkeypatch):
    x = torch.randn(600, 5, generator=torch.Generator().manual_seed(0))
    sampled = uniformity(x)
    monkeypatch.setattr("hf_replearn.evaluation.label_free.PAIRS", 10**6)
    assert sampled == pytest.approx(uniformity(x), abs=0.03)


def test_hoyer_sparsity_at_its_ends_and_by_hand():
    assert hoyer_sparsity(torch.eye(9)) == pytest.approx(1)
    assert hoyer_sparsity(torch.ones(2, 9)) == pytest.approx(0, abs=1e-6)
    assert hoyer_sparsity(torch.tensor([[1.0, 2.0, 0.0, 2.0]])) == pytest.approx((2 - 5 / 3) / 1)


def test_separation_and_selectivity_by_hand():
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert separation(apart, labels) == pytest.approx(1)
    assert separation(apart[[0, 2, 0, 2]], labels) == pytest.approx(0)
    x = torch.tensor([[0.0, 1.0, 5.0], [2.0, 1.0, 5.0], [4.0, 3.0, 5.0], [6.0, 3.0, 5.0]])
    # variances between / in all: 16 / 20 of feature 0, all of feature 1, none of the constant one
    assert selectivity(x, labels) == pytest.approx((0.8 + 1 + 0) / 3)


def test_separation_equals_loops_over_pairs():
    rng = torch.Generator().manual_seed(0)
    x, labels = torch.randn(30, 4, generator=rng), torch.arange(30) % 3
    x = torch.nn.functional.normalize(x)
    distance = lambda a, b: float(1 - a @ b)  # noqa: E731
    groups = [x[labels == c] for c in range(3)]
    within = [sum(distance(a, b) for a in g for b in g) / len(g) ** 2 for g in groups]
    overall = sum(distance(a, b) for g in groups for h in groups for a in g for b in h) / 900
    assert separation(x, labels) == pytest.approx(1 - sum(within) / 3 / overall, abs=1e-6)


def test_same_class_pairs_pair_every_example_of_a_class():
    labels = torch.tensor([5, 5, 1, 5, 1, 9])
    first, second = same_class_pairs(labels)
    assert (labels[first] == labels[second]).all() and (first != second).all()
    assert sorted(labels[first].tolist()) == [1, 5, 5]


def test_everything_at_once_and_what_is_refused():
    features = Features(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).relu(), torch.arange(40) % 4)
    found = label_free(features)
    assert 0.4 < found["zeros"] < 0.6 and found["dead"] == 0 and 1 < found["rankme"] <= 6.001
    assert set(found) == {
        "rankme", "alpha_req", "uniformity", "sparsity", "zeros", "dead", "alignment", "separation", "selectivity",
    }  # fmt: skip
    assert "alignment" not in label_free(Features(features.x))
    dead = torch.cat([features.x, torch.ones(40, 2)], dim=1)
    assert label_free(Features(dead))["dead"] == pytest.approx(0.25)
    with pytest.raises(InputError, match="finite"):
        label_free(Features(torch.full((3, 2), torch.nan)))
