"""The loss of Barlow Twins against Python loops and lightly, and what it does not see."""

import pytest
import torch

from hf_replearn.methods.barlow_twins import barlow_twins


def barlow_by_hand(z: torch.Tensor, redundancy: float) -> float:
    """Equations 1 and 2, sum by sum. z: (N, 2, P)"""
    first, second = ((view - view.mean(0)).double() for view in z.unbind(1))
    loss = 0.0
    for i in range(z.shape[2]):
        for j in range(z.shape[2]):
            a, b = first[:, i], second[:, j]
            c = float((a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt()))
            loss += (1 - c) ** 2 if i == j else redundancy * c**2
    return loss


def test_it_is_equation_1():
    z = torch.randn(9, 2, 5)
    assert barlow_twins(z, 0.3).item() == pytest.approx(barlow_by_hand(z, 0.3), rel=1e-4)


def test_scale_and_shift_of_a_feature_do_not_count():
    """Of each view on its own: views that are standardised together would show a shift between them."""
    z = torch.randn(16, 2, 6)
    changed = z * torch.linspace(0.5, 20, 12).view(2, 6) + torch.linspace(-5, 5, 12).view(2, 6)
    assert barlow_twins(changed, 0.1).item() == pytest.approx(barlow_twins(z, 0.1).item(), rel=1e-4)
    mixed = z @ torch.linalg.qr(torch.randn(6, 6)).Q  # but what features are does
    assert abs(barlow_twins(mixed, 0.1) - barlow_twins(z, 0.1)) > 1e-2


def test_it_is_0_at_equal_views_of_uncorrelated_features_and_counts_all_of_a_collapse():
    white = torch.linalg.qr(torch.randn(32, 8) - torch.randn(32, 8).mean(0)).Q
    white = torch.linalg.qr(torch.cat([torch.ones(32, 1), white], 1)).Q[:, 1:]  # columns of mean 0
    assert barlow_twins(32 * white[:, None].repeat(1, 2, 1), 1.0).item() == pytest.approx(0, abs=1e-5)
    collapsed = torch.ones(32, 2, 8, requires_grad=True)
    loss = barlow_twins(collapsed, 1.0)
    loss.backward()
    assert loss.item() == 8
    assert collapsed.grad.isfinite().all()


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: barlow_twins(z, 0.1))) < 1e-5


def test_float32_under_autocast():
    z = torch.randn(6, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = barlow_twins(z, 0.1)
    assert under.dtype == torch.float32
    assert under.item() == barlow_twins(z, 0.1).item()


def test_loss_and_gradient_equal_lightly():
    peer = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra").BarlowTwinsLoss(0.0051)
    z = torch.randn(32, 2, 16)
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    one, other = barlow_twins(ours, 0.0051), peer(theirs[:, 0], theirs[:, 1])
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
