"""BYOL's loss against Python loops and lightly; its heads. What its teacher does is in test_teachers.py."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from hf_replearn.methods.byol import BYOLConfig, BYOLForPreTraining, byol

SMALL = {"backbone": "resnet18", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}}


def test_it_is_equation_2_from_0_to_4():
    p, z = torch.randn(5, 2, 8), torch.randn(5, 2, 8)
    by_hand = 0.0
    for b in range(5):
        for view in (0, 1):  # each view's prediction and the teacher's projection of the other view
            q, k = normalize(p[b, view], dim=0), normalize(z[b, 1 - view], dim=0)
            by_hand += sum((float(q[i]) - float(k[i])) ** 2 for i in range(8)) / 10
    assert byol(p, z).item() == pytest.approx(by_hand, rel=1e-5)
    assert byol(z.flip(1), z).item() == pytest.approx(0, abs=1e-6)
    assert byol(-z.flip(1), z).item() == pytest.approx(4, rel=1e-6)


def test_no_gradient_reaches_the_targets():
    z, weight = torch.randn(5, 2, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    byol(z.detach() @ weight, z).backward()
    assert z.grad is None
    assert weight.grad.abs().sum() > 0


def test_gradients_reach_the_student_through_the_predictor_alone():
    model = BYOLForPreTraining(BYOLConfig(**SMALL, projection_dim=16, projection_hidden=8, predictor_hidden=4))
    nn.init.zeros_(model.predictor[-1].weight)  # a predictor that tells the same of every image
    model(torch.randn(4, 2, 3, 32, 32)).loss.backward()
    assert all(p.grad.abs().max() == 0 for p in model.model.parameters())
    assert model.predictor[-1].weight.grad.abs().max() > 0


def test_heads_are_those_of_the_paper():
    model = BYOLForPreTraining(BYOLConfig(**SMALL))
    widths = lambda head: [m.out_features for m in head if isinstance(m, nn.Linear)]  # noqa: E731
    for head in (model.projection, model.predictor):
        assert widths(head) == [4096, 256]
        assert [type(m) for m in head] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: byol(z, z.roll(1, -1)))) < 1e-5


def test_float32_under_autocast():
    p, z = torch.randn(5, 2, 8).bfloat16(), torch.randn(5, 2, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        under = byol(p, z)
    assert under.dtype == torch.float32
    assert under.item() == byol(p.float(), z.float()).item()


def test_loss_and_gradient_equal_lightly():
    loss = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra").NegativeCosineSimilarity()
    p, z = torch.randn(32, 2, 16), torch.randn(32, 2, 16)
    ours, theirs = p.clone().requires_grad_(), p.clone().requires_grad_()
    one = byol(ours, z)
    other = 2 + loss(theirs[:, 0], z[:, 1]) + loss(theirs[:, 1], z[:, 0])
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
