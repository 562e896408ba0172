"""SIGReg against Python loops, closed forms and lightly; its slices in a run."""

import math

import pytest
import torch

from hf_replearn.methods.sigreg import SIGRegConfig, SIGRegForPreTraining, draw_slices, lejepa, sigreg


def sigreg_by_hand(z: torch.Tensor, slices: torch.Tensor) -> float:
    """Knot by knot, slice by slice, view by view. z: (N, V, P), slices: (P, S)"""
    knots = [3 * k / 16 for k in range(17)]
    total = 0.0
    for view in z.unbind(1):
        for direction in slices.T:
            values, integral = [float(row @ direction) for row in view], 0.0
            for k, t in enumerate(knots):
                gaussian = math.exp(-(t**2) / 2)
                cosine = sum(math.cos(t * x) for x in values) / len(values)
                sine = sum(math.sin(t * x) for x in values) / len(values)
                width = 3 / 16 * (0.5 if k in (0, 16) else 1)
                integral += 2 * width * gaussian * ((cosine - gaussian) ** 2 + sine**2)
            total += len(values) * integral
    return total / (z.shape[1] * slices.shape[1])


def test_it_is_the_statistic_of_epps_and_pulley_on_slices():
    z, slices = torch.randn(6, 2, 5), draw_slices(5, 3, seed=0)
    assert sigreg(z, slices).item() == pytest.approx(sigreg_by_hand(z, slices), rel=1e-5)


@pytest.mark.parametrize("images", [8, 256])
def test_a_perfect_gaussian_scores_1_0525_and_not_0(images):
    """The mean over many samples, whatever their size: expecting 0 at the optimum is the classic misreading."""
    slices = draw_slices(4, 4, seed=0)
    scores = [sigreg(torch.randn(images, 8, 4), slices).item() for _ in range(160)]
    error = torch.tensor(scores).std().item() / 160**0.5
    assert error < 0.02
    assert sum(scores) / 160 == pytest.approx(1.0525, abs=4 * error)


def test_a_collapse_to_the_origin_scores_its_size_and_is_left():
    slices = draw_slices(4, 16, seed=0)
    assert sigreg(torch.zeros(50, 2, 4), slices).item() == pytest.approx(0.402 * 50, rel=2e-3)
    near = (0.01 * torch.randn(50, 2, 4)).requires_grad_()
    sigreg(near, slices).backward()
    spread = sigreg(near.detach() - 1.0 * near.grad, slices)
    assert spread < sigreg(near.detach(), slices)


def test_scale_and_mean_of_the_gaussian_count():
    z, slices = torch.randn(512, 1, 3), draw_slices(3, 64, seed=0)
    for other in (2 * z, 0.5 * z, z + 0.5):
        assert sigreg(other, slices) > 5 * sigreg(z, slices)


def test_lejepa_is_a_share_of_each_term():
    z, slices = torch.randn(6, 4, 5), draw_slices(5, 3, seed=0)
    distance = sum(float((z[b, v] - z[b].mean(0)).square().sum()) for b in range(6) for v in range(4)) / (6 * 4 * 5)
    assert lejepa(z, slices, 0.0).item() == pytest.approx(distance, rel=1e-5)
    assert lejepa(z, slices, 0.05).item() == pytest.approx(0.95 * distance + 0.05 * sigreg(z, slices).item(), rel=1e-5)


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    slices = draw_slices(8, 10, seed=0)
    assert max(difference_of_two_processes(lambda z, labels: lejepa(z, slices, 0.5))) < 1e-5


def test_float32_under_autocast():
    z, slices = torch.randn(6, 2, 8), draw_slices(8, 4, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        under = lejepa(z, slices, 0.5)
    assert under.dtype == torch.float32
    assert under.item() == lejepa(z, slices, 0.5).item()


def test_slices_are_directions_and_a_function_of_the_seed():
    slices = draw_slices(8, 1000, seed=3)
    torch.testing.assert_close(slices.norm(dim=0), torch.ones(1000))
    assert slices.mean(1).abs().max() < 0.05
    torch.manual_seed(99)
    assert torch.equal(slices, draw_slices(8, 1000, seed=3))
    assert not torch.equal(slices, draw_slices(8, 1000, seed=4))


def test_a_model_draws_new_slices_for_each_loss_and_a_saved_one_goes_on_with_them(tmp_path):
    small = {"backbone_args": {"layers": [1] * 4, "channels": [8] * 4}, "projection_hidden": 16, "projection_dim": 4}
    model = SIGRegForPreTraining(SIGRegConfig(backbone="resnet18", slices=8, **small))
    z = torch.randn(6, 2, 4)
    first = model.objective(z).item()
    model.save_pretrained(tmp_path)
    again = SIGRegForPreTraining.from_pretrained(tmp_path).train()
    second = model.objective(z).item()
    assert second != first
    assert again.objective(z).item() == second
    model.eval()
    assert model.objective(z).item() == model.objective(z).item()  # looking on does not change the run


def test_the_statistic_equals_lightly_on_the_same_slices():
    peer = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra")
    if not hasattr(peer, "SIGReg"):
        pytest.skip("lightly before 1.6 has no SIGReg")
    statistic, z = peer.SIGReg(num_vectors=32), torch.randn(16, 2, 8)
    torch.manual_seed(5)
    expected = statistic(z.transpose(0, 1))
    torch.manual_seed(5)
    slices = torch.randn(8, 32)
    assert sigreg(z, slices / slices.norm(dim=0)).item() == pytest.approx(expected.item(), rel=1e-5)
