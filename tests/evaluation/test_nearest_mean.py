"""What features are worth in episodes: by hand, and by what must not matter."""

import numpy as np
import pytest
import torch

from hf_replearn.data.episodes import Episodes, Fixed
from hf_replearn.errors import InputError
from hf_replearn.evaluation.episodes import judge_features, nearest_mean, protocols, right, scores_of, to_look_at

BY_HAND = Fixed(np.array([[[0, 1], [2, 3]]]), np.array([[4, 5, 6]]), np.array([[0, 1, 1]]))
POINTS = torch.tensor([[0.0, 1], [2, 1], [9, 1], [11, 1], [3, 1], [4, 1], [6, 1]])  # means (1, 1) and (10, 1)


def test_the_nearest_mean_tells_by_hand():
    scores = nearest_mean(POINTS, BY_HAND)
    assert scores[0].tolist() == [[-4, -49], [-9, -36], [-25, -16]]
    assert right(scores, BY_HAND).tolist() == [pytest.approx(2 / 3)]  # the second is nearer to the wrong mean


def test_by_cosine_lengths_do_not_matter():
    scores = nearest_mean(POINTS, BY_HAND, cosine=True)
    longer = nearest_mean(POINTS * torch.rand(7, 1).add(0.1), BY_HAND, cosine=True)
    assert torch.allclose(scores, longer, atol=1e-5)
    unit = POINTS / POINTS.norm(dim=1, keepdim=True)
    mean = (unit[0] + unit[1]) / 2
    assert scores[0, 0, 0].item() == pytest.approx((unit[4] @ mean / mean.norm()).item(), abs=1e-6)


def test_features_that_are_all_alike_are_worth_a_guess():
    episodes = Episodes([np.arange(6) + 6 * number for number in range(8)], way=4, each=4).fixed(30, shots=1)
    assert right(nearest_mean(torch.ones(48, 3), episodes), episodes) == pytest.approx(np.full(30, 0.25))
    known = torch.nn.functional.one_hot(torch.arange(48) // 6).float()
    assert {name: set(shares) for name, shares in judge_features(known, [episodes]).items()} == {
        "nearest_mean@4w1s": {1.0},
        "nearest_mean_cosine@4w1s": {1.0},
    }


def test_a_score_has_a_t_interval_over_episodes():
    episodes = Episodes([np.arange(6) + 6 * number for number in range(8)], way=4, each=4).fixed(50, shots=1)
    x = torch.nn.functional.one_hot(torch.arange(48) // 6).float() + 0.7 * torch.randn(48, 8)
    shares = judge_features(x, [episodes])["nearest_mean@4w1s"]
    scores = scores_of(x, [episodes])
    assert scores["nearest_mean@4w1s"] == pytest.approx(shares.mean())
    half = 2.0096 * shares.std(ddof=1) / 50**0.5  # t of 49 degrees of freedom
    assert scores["nearest_mean@4w1s_ci95"] == pytest.approx(half, rel=1e-4)
    assert "no answer depends on other queries" in protocols(list(scores), what="Of 50.")["nearest_mean"]


def test_many_numbers_go_part_by_part(monkeypatch):
    episodes = Episodes([np.arange(6) + 6 * number for number in range(8)], way=4, each=4).fixed(9, shots=2)
    x = torch.randn(48, 5)
    whole = nearest_mean(x, episodes)
    monkeypatch.setattr("hf_replearn.evaluation.episodes.AT_ONCE", 5 * 16 * 2)
    assert torch.equal(nearest_mean(x, episodes), whole)


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="1 of 7 image features are NaN or infinite, first in row 2"):
        nearest_mean(POINTS.index_fill(0, torch.tensor([2]), float("nan")), BY_HAND)


def test_what_is_drawn_says_what_was_told():
    from hf_replearn.data.toy import digits

    rows = digits()["train"].select(range(7))
    [classes] = to_look_at(rows, nearest_mean(POINTS, BY_HAND), BY_HAND, count=3)
    assert [[told for _, told, _ in line["asked"]] for line in classes] == [[0], [0, 1]]
    assert classes[0]["shown"].shape == (56, 56, 3)
