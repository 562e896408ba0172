"""SimSiam's loss against Python loops and lightly; its stopped gradient and its predictor."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from hf_replearn.methods.simsiam import SimSiamConfig, SimSiamForPreTraining, simsiam

SMALL = {"backbone": "resnet18", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}}


def test_it_is_equation_4():
    p, z = torch.randn(5, 2, 8), torch.randn(5, 2, 8)
    by_hand = 0.0
    for b in range(5):
        for view in (0, 1):  # each view's prediction with the projection of the other view
            by_hand -= float(cosine_similarity(p[b, view], z[b, 1 - view], dim=0)) / 10
    assert simsiam(p, z).item() == pytest.approx(by_hand, rel=1e-5)
    assert simsiam(z.flip(1), z).item() == pytest.approx(-1, rel=1e-6)
    assert simsiam(-z.flip(1), z).item() == pytest.approx(1, rel=1e-6)


def test_the_projection_that_is_told_takes_no_gradient():
    z = torch.randn(5, 2, 8, requires_grad=True)
    weight = torch.randn(8, 8, requires_grad=True)
    simsiam(z.detach() @ weight, z).backward()
    assert z.grad is None
    assert weight.grad.abs().sum() > 0


def test_gradients_reach_the_encoder_through_the_predictor_alone():
    model = SimSiamForPreTraining(SimSiamConfig(**SMALL, projection_dim=16, predictor_hidden=4))
    model(torch.randn(4, 2, 3, 32, 32)).loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    model.zero_grad()
    nn.init.zeros_(model.predictor[-1].weight)  # a predictor that tells the same of every image
    model(torch.randn(4, 2, 3, 32, 32)).loss.backward()
    assert all(p.grad.abs().max() == 0 for p in model.model.parameters())


def test_heads_are_those_of_the_paper():
    model = SimSiamForPreTraining(SimSiamConfig(**SMALL))
    widths = lambda head: [m.out_features for m in head if isinstance(m, nn.Linear)]  # noqa: E731
    assert widths(model.projection) == [2048, 2048, 2048]
    assert isinstance(model.projection[-1], nn.BatchNorm1d) and not model.projection[-1].affine
    assert widths(model.predictor) == [512, 2048]
    assert isinstance(model.predictor[-1], nn.Linear)  # no batch normalisation: the paper's table 3, row c, against d


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: simsiam(z.flip(2), z))) < 1e-5


def test_float32_under_autocast():
    p, z = torch.randn(5, 2, 8), torch.randn(5, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = simsiam(p.bfloat16(), z.bfloat16())
    assert under.dtype == torch.float32
    assert under.item() == simsiam(p.bfloat16().float(), z.bfloat16().float()).item()


def test_loss_and_gradient_equal_lightly():
    loss = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra").NegativeCosineSimilarity()
    p, z = torch.randn(32, 2, 16), torch.randn(32, 2, 16)
    ours, theirs = p.clone().requires_grad_(), p.clone().requires_grad_()
    one = simsiam(ours, z)
    other = (loss(theirs[:, 0], z[:, 1]) + loss(theirs[:, 1], z[:, 0])) / 2
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
