import numpy as np
import pytest

from hf_replearn.errors import InputError
from hf_replearn.evaluation.draws import in_words, proportional_subset

LABELS = np.random.default_rng(0).permutation([0] * 940 + [1] * 50 + [2] * 9 + [3])


def test_a_subset_has_the_proportions_of_the_whole():
    rows = proportional_subset(LABELS, 200, seed=0)
    assert np.bincount(LABELS[rows], minlength=4).tolist() == [188, 10, 2, 0]  # 0.2 of one example is none
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows.tolist() == proportional_subset(LABELS, 200, seed=0).tolist()
    assert rows.tolist() != proportional_subset(LABELS, 200, seed=1).tolist()


def test_where_every_class_must_be_there_the_rare_ones_keep_one():
    rows = proportional_subset(LABELS, 20, seed=0, every_class=True)
    assert np.bincount(LABELS[rows]).tolist() == [17, 1, 1, 1]
    with pytest.raises(InputError, match="3 examples are fewer than the 4 classes"):
        proportional_subset(LABELS, 3, seed=0, every_class=True)
    assert len(proportional_subset(LABELS, 3, seed=0)) == 3


def test_which_of_a_class_are_drawn_is_chance_and_not_their_place():
    drawn = np.zeros(len(LABELS))
    for seed in range(400):
        drawn[proportional_subset(LABELS, 200, seed=seed)] += 1 / 400
    share = drawn[LABELS == 0]
    assert share.mean() == pytest.approx(0.2)
    assert share.std() == pytest.approx((0.2 * 0.8 / 400) ** 0.5, rel=0.15)  # as of independent draws
    assert abs(np.corrcoef(np.arange(940), share)[0, 1]) < 0.1
    equal = np.array([0, 0, 0, 1, 1, 1])  # who gets the odd one is chance too
    assert 0.3 < np.mean([equal[proportional_subset(equal, 3, seed=seed)].sum() == 2 for seed in range(200)]) < 0.7


def test_a_draw_in_words():
    assert in_words(7, 7, "labels", seed=1) == "all 7 labels"
    some = in_words(2000, 10_000, "test examples", seed=42)
    assert some == "2,000 of 10,000 test examples (drawn at random in the proportions of their classes, seed 42)"
    assert in_words(2, 5, "pairs", seed=0, classes=False) == "2 of 5 pairs (drawn at random, seed 0)"
