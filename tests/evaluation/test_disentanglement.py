"""Metrics of disentanglement: by loops, by hand, and the facts that disentanglement_lib's own tests hold."""

import math
from collections import Counter

import numpy as np
import pytest

from hf_replearn.data.factors import Factors
from hf_replearn.errors import InputError
from hf_replearn.evaluation import disentanglement as module
from hf_replearn.evaluation.disentanglement import (
    PROTOCOLS,
    Coded,
    beta_vae_score,
    concentrated,
    dci,
    disentanglement,
    factor_vae_score,
    in_bins,
    information,
    known_codes,
    mig,
    modularity,
    mutual_information,
    protocols,
    refusal,
    sap,
)

SIZES, CLASSES = (3, 4, 5), [True, False, False]


def factors_of(values, is_class=None):
    values = np.asarray(values)
    words = [[str(v) for v in range(column.max() + 1)] for column in values.T]
    names = [f"f{k}" for k in range(values.shape[1])]
    return Factors(names, values, values.astype(float), is_class or [False] * values.shape[1], words)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [factors_of(np.stack([rng.integers(0, n, 600) for n in SIZES], 1), CLASSES) for _ in range(2)]


@pytest.fixture(scope="module")
def true(drawn):
    return [Coded(part.values.astype(float), part) for part in drawn]


@pytest.fixture(scope="module")
def mixed(drawn):
    """Codes that are a mixture of all factors, and noise."""
    rng = np.random.default_rng(1)
    turn = rng.normal(size=(3, 6))
    return [Coded(part.values @ turn + rng.normal(0, 0.3, (600, 6)), part) for part in drawn]


def informed_by_loops(coded):
    """Mutual information of each number and factor, with numpy's own histograms."""
    found = np.zeros((coded.codes.shape[1], len(coded.factors.names)))
    for d, code in enumerate(coded.codes.T):
        bins = np.digitize(code, np.histogram(code, 20)[1][:-1])  # as disentanglement_lib has it
        for k, values in enumerate(coded.factors.values.T):
            both, a, b = Counter(zip(bins, values, strict=True)), Counter(bins), Counter(values)
            n = len(bins)
            found[d, k] = sum(c / n * math.log(c * n / (a[x] * b[y])) for (x, y), c in both.items())
    return found


def test_mutual_information_and_mig_equal_loops(mixed):
    train = mixed[0]
    expected = informed_by_loops(train)
    np.testing.assert_allclose(mutual_information(train), expected, atol=1e-12)
    gaps = []
    for k, values in enumerate(train.factors.values.T):
        first, second = sorted(expected[:, k])[::-1][:2]
        shares = np.array(list(Counter(values).values())) / len(values)
        gaps.append((first - second) / -(shares * np.log(shares)).sum())
    assert mig(train) == pytest.approx(np.mean(gaps), abs=1e-12)


def test_modularity_equals_loops(mixed):
    told = informed_by_loops(mixed[0])
    scores = []
    for line in told:
        best = line.argmax()
        others = sum(line[k] ** 2 for k in range(3) if k != best)
        scores.append(1 - others / (line[best] ** 2 * 2))
    assert modularity(mixed[0]) == pytest.approx(np.mean(scores), abs=1e-12)


def test_bins_are_those_of_histograms():
    code = np.array([0.0, 0.04999, 0.05, 0.5, 0.949, 0.95, 1.0])
    assert in_bins(code[:, None])[:, 0].tolist() == [0, 0, 1, 10, 18, 19, 19]
    assert in_bins(np.full((3, 1), 7.0))[:, 0].tolist() == [0, 0, 0]
    beyond = in_bins(np.array([[-5.0], [5.0]]), low=np.array([0.0]), high=np.array([1.0]))
    assert beyond[:, 0].tolist() == [0, 19]


def test_information_of_known_tables():
    assert information(np.eye(4)) == pytest.approx(math.log(4))
    assert information(np.ones((3, 5))) == pytest.approx(0)
    assert information(np.array([[2, 0], [1, 1]])) == pytest.approx(
        0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    )


def test_of_the_factors_themselves_all_is_near_its_best(true):
    scores, missing, told = disentanglement(*true)
    assert missing == {} and scores.keys() == PROTOCOLS.keys()
    for metric in scores.keys() - {"sap"}:
        assert scores[metric] > 0.98, metric
    # Of the class, chance is a third; of the numbers, other numbers tell nothing.
    assert scores["sap"] == pytest.approx((2 / 3 + 1 + 1) / 3, abs=0.03)
    np.testing.assert_allclose(told, np.eye(3), atol=0.02)


def test_of_a_code_that_is_one_point_all_is_at_its_worst(drawn):
    scores, missing, _ = disentanglement(*(Coded(np.zeros((600, 10)), part) for part in drawn))
    assert missing == {}
    chance = {"beta_vae_score": 1 / 3, "dci_informativeness": 1 / 3 / 3}
    for metric, value in scores.items():
        assert value <= chance.get(metric, 0) + 0.06, metric


def test_a_code_that_says_all_twice_is_modular_but_not_compact(true):
    twice = [Coded(np.tile(part.codes, 2), part.factors) for part in true]
    assert mig(twice[0]) == 0 and sap(*twice) == pytest.approx(0, abs=1e-12)
    assert modularity(twice[0]) > 0.98
    found = dci(*twice)
    assert found["dci_disentanglement"] > 0.9
    assert found["dci_completeness"] == pytest.approx(1 - math.log(2) / math.log(6), abs=0.03)


def test_concentrated_by_hand():
    assert concentrated(np.eye(4)) == pytest.approx(1)
    assert concentrated(np.ones((4, 4))) == pytest.approx(0)
    one_for_two = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    assert concentrated(one_for_two) == pytest.approx(0.5 * (1 - math.log(2) / math.log(3)) + 0.5)
    assert concentrated(np.zeros((2, 3))) == 0


def test_votes_hardly_see_that_factors_are_mixed(drawn):
    """Why neither score may stand by itself."""
    codes = known_codes(drawn[0])
    mixed = Coded(codes["rotated factors"], drawn[0])
    assert np.allclose(codes["rotated factors"].var(0), 1, atol=0.1)
    assert mig(mixed) < 0.2 and beta_vae_score(mixed) > 0.8


def test_votes_name_the_factor_that_is_held(drawn, monkeypatch):
    """By a loop over the definition: global deviations, then the number that varies least among 64 images."""
    rng = np.random.default_rng(3)
    values = drawn[0].values
    codes = np.column_stack(
        [values @ [1.0, 0, 0], values @ [0, 1.0, 0.4], values @ [0, 0, 1.0], rng.normal(0, 0.01, 600)]
    )
    deviations, tables = codes.std(0), np.zeros((2, 3, 3))
    for table, votes in zip(tables, (1200, 600), strict=True):
        for vote in range(votes):
            held = rng.integers(600)
            like = np.flatnonzero(values[:, vote % 3] == values[held, vote % 3])
            some = rng.choice(like, 64)
            table[(codes[some].var(0) / deviations**2)[:3].argmin(), vote % 3] += 1  # the fourth hardly varies
    expected = tables[1][np.arange(3), tables[0].argmax(1)].sum() / 600
    found = factor_vae_score(Coded(codes, drawn[0]), learnt=1200, judged=600)
    assert found == pytest.approx(expected, abs=0.05)


def test_images_that_vote_share_the_value_and_vary_in_others(drawn):
    draws = module.Draws(drawn[0])
    rng = np.random.default_rng(0)
    held = rng.integers(600, size=50)
    rows = draws.like(held, 1, rng, size=(50, 64))
    assert (drawn[0].values[rows, 1] == drawn[0].values[held, 1][:, None]).all()
    assert (np.ptp(drawn[0].values[rows, 2], axis=1) == 4).all()
    pairs = draws.like(rows, 0, rng, size=rows.shape)
    assert (drawn[0].values[pairs, 0] == drawn[0].values[rows, 0]).all() and (pairs != rows).any()


def test_numbers_of_the_code_may_be_of_any_scale(mixed):
    """Which those of features are, other than of codes near a standard normal distribution."""
    small = [Coded(part.codes * 1e-3, part.factors) for part in mixed]
    for score in (mig, modularity, factor_vae_score, beta_vae_score):
        assert score(small[0]) == pytest.approx(score(mixed[0]), abs=0.01)
    assert sap(*small) == pytest.approx(sap(*mixed), abs=0.01)


def test_squared_correlation_of_numbers_and_balanced_accuracy_of_classes():
    rng = np.random.default_rng(0)
    values = np.stack([rng.choice(3, 900, p=[0.8, 0.1, 0.1]), rng.integers(0, 9, 900)], 1)
    factors = factors_of(values, [True, False])
    codes = np.column_stack([values[:, 0] == 0, values[:, 1] + rng.normal(0, 2, 900), rng.normal(size=900)]).astype(
        float
    )
    part = Coded(codes, factors)
    r2 = [np.corrcoef(codes[:, d], values[:, 1])[0, 1] ** 2 for d in range(3)]
    of_class = 2 / 3  # class 0 is told, and of the others only one is named
    second = module._by_thresholds(part, part, 0)[1:].max()
    assert 1 / 3 <= second < 0.5
    expected = ((of_class - second) + (r2[1] - max(r2[0], r2[2]))) / 2
    assert sap(part, part) == pytest.approx(expected, abs=0.01)


def test_factors_that_are_no_grid_have_what_can_be_measured():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 600)
    bound = factors_of(np.stack([first, (first + rng.integers(0, 2, 600)) % 4, rng.integers(0, 3, 600)], 1))
    part = Coded(bound.values.astype(float), bound)
    scores, missing, _ = disentanglement(part, part)
    assert missing.keys() == {"factor_vae_score", "beta_vae_score"}
    assert "not combined freely: f1 tells 50% of what f0 is" in missing["beta_vae_score"]
    assert scores["factor_vae_score"] is None and scores["mig"] > 0


def test_a_value_with_few_images_is_named():
    values = np.stack([np.r_[np.zeros(197, int), 1, 1, 1], np.tile([0, 1], 100)], 1)
    assert refusal(factors_of(values)) == "3 image(s) have the value 1 of f0: at least 10 are needed"


def test_factors_that_are_combined_freely_are_not_refused(drawn):
    assert refusal(drawn[0]) is None
    rng = np.random.default_rng(0)
    many = np.stack([rng.integers(0, n, 1000) for n in (32, 40)], 1)  # less than one in a cell
    assert refusal(factors_of(many)) is None


def test_trees_are_not_fitted_to_wide_codes(drawn):
    wide = [Coded(np.tile(part.values, 30).astype(float), part) for part in drawn]
    with pytest.raises(InputError, match="a code of 90 numbers"):
        dci(*wide)


def test_a_code_of_one_number(drawn):
    alone = [Coded(part.values[:, 2:].astype(float), part) for part in drawn]
    scores, missing, _ = disentanglement(*alone)
    assert missing == {} and scores["mig"] == pytest.approx(1 / 3, abs=0.05)  # of one factor of three


def test_what_is_no_code_is_refused(drawn):
    with pytest.raises(InputError, match="NaN or infinite"):
        Coded(np.full((600, 2), np.nan), drawn[0])
    with pytest.raises(InputError, match="10 codes but 600"):
        Coded(np.zeros((10, 2)), drawn[0])


def test_every_metric_is_defined():
    assert list(protocols(10_000, 5_000)) == [name for names in module.METRICS.values() for name in names]
    assert (
        "10,000 images" in protocols(10_000, 5_000)["mig"]
        and "2,000 images" in protocols(9_000, 1)["dci_disentanglement"]
    )
