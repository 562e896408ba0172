"""VICReg against Python loops and lightly, term by term."""

import pytest
import torch

from hf_replearn.methods.vicreg import vicreg


def terms_by_hand(z: torch.Tensor) -> tuple[float, float, float]:
    """Invariance, variance and covariance as in the authors' code, sum by sum. z: (N, 2, P)"""
    count, _, features = z.shape
    s = sum(float((z[n, 0, i] - z[n, 1, i]) ** 2) for n in range(count) for i in range(features)) / count / features
    v = c = 0.0
    for view in z.unbind(1):
        mean = view.mean(0)
        for i in range(features):
            for j in range(features):
                covariance = sum(float((x[i] - mean[i]) * (x[j] - mean[j])) for x in view) / (count - 1)
                if i == j:
                    v += max(0.0, 1 - (covariance + 1e-4) ** 0.5) / features / 2  # the paper has no / 2
                else:
                    c += covariance**2 / features  # of both views, here too without / 2
    return s, v, c


def test_each_term_is_that_of_the_authors_code():
    z = 0.7 * torch.randn(7, 2, 4)
    for given, expected in zip(torch.eye(3).tolist(), terms_by_hand(z), strict=True):
        assert vicreg(z, *given).item() == pytest.approx(expected, rel=1e-4)
    assert vicreg(z, 25.0, 25.0, 1.0).item() == pytest.approx(
        sum(weight * term for weight, term in zip((25, 25, 1), terms_by_hand(z), strict=True)), rel=1e-5
    )


def test_it_is_0_at_white_equal_views_and_the_hinge_is_all_of_a_collapse():
    white = torch.linalg.qr(torch.cat([torch.ones(32, 1), torch.randn(32, 8)], 1)).Q[:, 1:] * 31**0.5  # variance 1
    assert vicreg(white[:, None].repeat(1, 2, 1), 25.0, 25.0, 1.0).item() == pytest.approx(0, abs=1e-5)
    collapsed = torch.ones(32, 2, 8, requires_grad=True)
    loss = vicreg(collapsed, 25.0, 25.0, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(25 * (1 - 0.01))
    assert collapsed.grad.isfinite().all()


def test_views_are_centred_each_by_itself():
    """A shift of one view costs invariance, and nothing else (lightly#1445: centred twice, or together)."""
    z = torch.randn(16, 2, 5)
    shifted = z + torch.tensor([0.0, 3.0]).view(2, 1)
    assert vicreg(shifted, 0.0, 25.0, 1.0).item() == pytest.approx(vicreg(z, 0.0, 25.0, 1.0).item(), rel=1e-5)
    assert vicreg(shifted, 1.0, 0.0, 0.0) > vicreg(z, 1.0, 0.0, 0.0) + 1


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: vicreg(z, 25.0, 25.0, 1.0))) < 1e-5


def test_float32_under_autocast():
    z = torch.randn(6, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = vicreg(z, 25.0, 25.0, 1.0)
    assert under.dtype == torch.float32
    assert under.item() == vicreg(z, 25.0, 25.0, 1.0).item()


def test_loss_and_gradient_equal_lightly():
    peer = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra").VICRegLoss()
    z = 0.7 * torch.randn(32, 2, 16)
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    one, other = vicreg(ours, 25.0, 25.0, 1.0), peer(theirs[:, 0], theirs[:, 1])
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
