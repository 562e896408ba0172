import numpy as np
import pytest
import scipy.stats
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.sentences import resampled_spearman, sts
from hf_replearn.evaluation.side_by_side import Protocol, check_labels
from hf_replearn.evaluation.statistics import (
    bootstrap,
    half_width,
    holm,
    mean_half_width,
    paired_test,
    stated,
    t_half_width,
)


def right_or_wrong(n, share, seed):
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def test_the_interval_equals_scipys():
    outcomes = right_or_wrong(400, 0.7, seed=0)
    peer = scipy.stats.bootstrap((outcomes,), np.mean, n_resamples=5000, method="percentile", rng=1).confidence_interval
    assert half_width(bootstrap(outcomes, resamples=5000)) == pytest.approx((peer.high - peer.low) / 2, rel=0.06)


def test_draws_widen_the_interval_as_the_whole_two_way_bootstrap_does():
    rng = np.random.default_rng(0)
    chance = 0.6 + 0.1 * rng.standard_normal((8, 1)) + 0.1 * rng.standard_normal((1, 300))
    outcomes = (rng.random((8, 300)) < chance).astype(float)
    whole = [outcomes[rng.integers(0, 8, 8)][:, rng.integers(0, 300, 300)].mean() for _ in range(3000)]
    additive = half_width(bootstrap(outcomes))
    assert additive == pytest.approx(half_width(np.array(whole)), rel=0.15)
    assert additive > 1.3 * half_width(bootstrap(outcomes.mean(axis=0)))


def test_intervals_cover_the_truth_about_95_times_in_100():
    covered = 0
    for seed in range(300):
        outcomes = right_or_wrong(150, 0.8, seed)
        covered += abs(outcomes.mean() - 0.8) <= half_width(bootstrap(outcomes, resamples=400))
    assert 0.91 <= covered / 300 <= 0.98


def test_the_paired_test_agrees_with_mcnemar():
    rng = np.random.default_rng(3)
    a = right_or_wrong(500, 0.8, seed=0)
    b = np.where(rng.random(500) < 0.12, 1 - a, a)  # right and wrong together most of the time
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    exact = scipy.stats.binomtest(only_a, only_a + only_b).pvalue
    found = paired_test(a, b, resamples=20000)
    assert found["difference"] == pytest.approx((only_a - only_b) / 500)
    assert found["p"] < 0.01 and exact < 0.01
    assert found["ci95"] < half_width(bootstrap(a))  # pairs know more than two separate samples
    same = paired_test(a, a)
    assert same == {"difference": 0.0, "ci95": 0.0, "p": 1.0}


def test_two_equal_encoders_differ_significantly_5_times_in_100():
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(300):
        shared = rng.random(200)
        a, b = ((shared + 0.3 * rng.random(200) < 0.9).astype(float) for _ in range(2))
        rejected += paired_test(a, b, resamples=400)["p"] < 0.05
    assert 0.01 <= rejected / 300 <= 0.09


def test_outcomes_of_other_examples_are_refused():
    with pytest.raises(ValueError, match="not of the same examples"):
        paired_test(np.ones(3), np.ones(4))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_sts_equals_scipys_spearman_on_cosines():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(60, 8, generator=generator), torch.randn(60, 8, generator=generator)
    scores = torch.randint(0, 6, (60,), generator=generator).float()
    cosines = [float(a @ b / a.norm() / b.norm()) for a, b in zip(first, second, strict=True)]
    found = sts(first, second, scores)
    assert found["sts_spearman"] == pytest.approx(scipy.stats.spearmanr(cosines, scores).statistic, abs=1e-6)
    assert 0.1 < found["sts_spearman_ci95"] < 0.4
    with pytest.raises(InputError, match="equally similar"):
        sts(torch.ones(60, 8), torch.ones(60, 8), scores)
    with pytest.raises(InputError, match="the same score"):
        sts(first, second, torch.full((60,), 3.0))
    with pytest.raises(InputError, match="NaN or infinite, first in row 0"):
        sts(first * torch.nan, second, scores)
    with pytest.raises(InputError, match="2 pairs"):
        sts(first[:2], second[:2], scores[:2])


def test_resampled_correlations_equal_scipys_on_the_same_rows():
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=30), rng.integers(0, 5, 30)
    rows = np.random.default_rng(4).integers(0, 30, (1000, 30))[:5]
    expected = [scipy.stats.spearmanr(u[row], v[row]).statistic for row in rows]
    assert resampled_spearman(u, v, seed=4)[:5] == pytest.approx(expected)


def test_where_all_are_right_the_interval_is_that_of_clopper_and_pearson():
    for outcome, share in ((np.ones(60), 60), (np.zeros((3, 60)), 0)):
        low, high = scipy.stats.binomtest(share, 60).proportion_ci(0.95, method="exact")
        assert mean_half_width(outcome) == pytest.approx(high - low)
    assert mean_half_width(np.array([0.5, 0.5])) is None  # no spread, and no share of anything
    assert mean_half_width(right_or_wrong(400, 0.7, seed=0)) == pytest.approx(0.045, abs=0.005)


def test_an_interval_that_says_nothing_is_not_stated():
    assert t_half_width([0.4, 0.5]) is None  # t of one degree of freedom is 12.7
    assert t_half_width([0.4, 0.5, 0.6]) == pytest.approx(scipy.stats.t.ppf(0.975, 2) * 0.1 / 3**0.5)
    assert t_half_width([0.0, 0.0, 1.0]) is None and t_half_width([0.7, 0.7, 0.7]) is None
    assert stated(0.6) is None and stated(0.6, low=-1.0) == 0.6 and stated(float("nan")) is None


def test_scores_of_pairs_that_nothing_can_be_correlated_with_are_refused_at_the_start():
    protocol = Protocol(kind="scores", shots=None, draws=3, neighbours=(20,), queries=9, seed=0)
    with pytest.raises(InputError, match="are all 3: nothing has a correlation with them"):
        check_labels(protocol, torch.rand(9), torch.full((9,), 3.0), names=None)
    with pytest.raises(InputError, match="are only 2"):
        check_labels(protocol, torch.rand(9), torch.rand(2), names=None)
    assert check_labels(protocol, torch.rand(9), torch.rand(9), names=None) is None


def test_a_class_that_no_test_image_has_is_refused_at_the_start_by_its_name():
    protocol = Protocol(kind="several", shots=(1,), draws=3, neighbours=(20,), queries=9, seed=0)
    labels = torch.tensor([[1, 0], [0, 1], [1, 0]], dtype=torch.int8)
    with pytest.raises(InputError, match="class 'cat' has no positive example among the 1 test examples"):
        check_labels(protocol, labels, labels[:1], names=["dog", "cat"])
