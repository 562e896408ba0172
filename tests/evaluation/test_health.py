"""Collapse in its kinds and slow learning, told apart: on features made for it, and on logs of runs."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from hf_replearn.errors import InputError
from hf_replearn.evaluation.health import COLLAPSED, diagnose, spread, view_scores


def made(kind: str, n: int = 300, d: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, 2, D) and projections (N, 2, 16) of two views, as a network of that kind would give them."""
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(n, 1, d, generator=draw)
    view = torch.randn(n, 2, d, generator=draw)
    centre = torch.ones(1, 1, d)
    features = {
        "untrained": centre + 0.1 * (0.3 * image + view),
        "learnt": image + 0.3 * view,
        "unlearnt": 0.3 * image + view,
        "a point": centre + 0.001 * view,
        "a line": image * (torch.arange(d) == 0) + 0.001 * view,
        "six directions": (image + 0.3 * view) * (torch.arange(d) < 6),
    }[kind]
    return features, features[..., :16]


def test_spread_by_hand():
    assert spread(torch.ones(5, 3)) == 0
    assert spread(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(1)  # opposite points, their centre at 0
    assert spread(torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])) == pytest.approx(2**-0.5)


def test_relative_alignment_equals_its_loops():
    features, projections = made("learnt", n=7, d=5)
    found = view_scores(features, projections)
    first, second = normalize(features[:, 0], dim=1), normalize(features[:, 1], dim=1)
    squares = [[float((x - y).square().sum()) for y in second] for x in first]
    own = sum(squares[i][i] for i in range(7)) / 7
    others = sum(squares[i][j] for i in range(7) for j in range(7) if i != j) / 42
    assert found["alignment"] == pytest.approx(own, rel=1e-5)
    assert found["relative_alignment"] == pytest.approx(own / others, rel=1e-5)


def test_relative_alignment_is_one_of_noise_and_none_of_equal_views():
    noise = torch.randn(500, 2, 32, generator=torch.Generator().manual_seed(0))
    assert view_scores(noise)["relative_alignment"] == pytest.approx(1, abs=0.03)
    assert view_scores(noise[:, :1].expand(-1, 2, -1))["relative_alignment"] == pytest.approx(0, abs=1e-6)


def test_scores_of_nothing_and_of_nan_are_refused():
    for features in (torch.ones(1, 2, 4), torch.full((5, 2, 4), math.nan)):
        with pytest.raises(InputError, match="finite"):
            view_scores(features)


def log(kinds: list[str], *, knn: list[float] | None = None, rates: list[float] | None = None) -> list[dict]:
    """Of a run whose network is of these kinds before training, after 100 steps, after 200, …"""
    lines = []
    for place, kind in enumerate(kinds):
        if place:
            rate = rates[place - 1] if rates else 0.1
            lines.append({"step": 100 * place - 1, "loss": 1.0, "learning_rate": rate, "spread": 0.5})
        scores = view_scores(*made(kind)) | ({"knn@20": knn[place]} if knn else {})
        lines.append({"step": 100 * place, **scores})
    return lines


@pytest.mark.parametrize(
    ("kinds", "kind", "advice"),
    [
        (["untrained", "learnt", "learnt", "learnt", "learnt"], None, ""),
        (["a point"], None, ""),  # before training
        (["untrained", "learnt", "a point"], "complete collapse", "): every input gets nearly the same"),
        (["untrained", "a line"], "dimensional collapse", "differ in a few directions only"),
        (["six directions", "six directions", "six directions"], "", ""),  # simple images, whatever the network
        (["untrained", "unlearnt", "unlearnt", "unlearnt"], None, ""),  # it is too early to say
        (["unlearnt"] * 5, "no sign of learning", "raise --learning_rate"),
        (["unlearnt", *["unlearnt"] * 3, "learnt"], None, ""),
    ],
)
def test_kinds_are_told_apart(kinds, kind, advice):
    found = diagnose(log(kinds), directions=64)
    if kind:
        assert found[0] == kind and advice in found[1] and "\n" not in found[1]
    else:
        assert found is None


def test_few_directions_are_a_collapse_only_where_there_were_more():
    lines = [
        {"step": 100 * place, **view_scores(*made("learnt"))} | {"rankme": rank}
        for place, rank in enumerate((9, 40, 4))
    ]
    assert diagnose(lines, directions=128)[0] == "dimensional collapse"
    assert diagnose(lines, directions=64) is None  # 4 of 64 are more than a twentieth
    lines[0]["rankme"] = lines[1]["rankme"] = 7
    assert diagnose(lines, directions=128) is None


def test_projections_may_collapse_before_the_features_do():
    lines = log(["untrained", "unlearnt"])
    lines[-1]["projection_spread"] = COLLAPSED / 2
    assert diagnose(lines, directions=64)[0] == "collapsed projections"
    assert diagnose([{"step": 7, "spread": COLLAPSED / 2}], directions=64)[0] == "complete collapse"  # of a batch


def test_accuracy_that_rises_is_a_sign_of_learning():
    flat = ["unlearnt"] * 5
    assert diagnose(log(flat, knn=[0.5, 0.5, 0.52, 0.51, 0.52]), directions=64)[0] == "no sign of learning"
    assert diagnose(log(flat, knn=[0.5, 0.5, 0.52, 0.54, 0.52]), directions=64) is None
    assert diagnose(log(flat, knn=[0.96, 0.96, 0.96, 0.981, 0.98]), directions=64) is None  # half of what was missing
    found = diagnose(log(flat, knn=[0.5, 0.4, 0.3, 0.3, 0.3]), directions=64)
    assert "0.500 before training, 0.400 since" in found[1]


def test_slowness_is_not_told_while_the_rate_rises():
    flat = ["unlearnt"] * 6
    assert diagnose(log(flat, rates=[0.1, 0.2, 0.3, 0.4, 0.5]), directions=64) is None
    assert diagnose(log(flat, rates=[0.1, 0.2, 0.3, 0.4, 0.4]), directions=64)[0] == "no sign of learning"
