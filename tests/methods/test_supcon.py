"""SupCon against Python loops and NT-Xent, and what labels change."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from hf_replearn.methods.simclr import nt_xent
from hf_replearn.methods.supcon import SupConConfig, SupConForPreTraining, supcon


def supcon_by_hand(z: torch.Tensor, labels: list[int], temperature: float) -> float:
    """Equation 2, sum by sum. z: (B, 2, P)"""
    views, classes = z.flatten(0, 1), [label for label in labels for _ in (0, 1)]
    total = 0.0
    for i in range(len(views)):
        s = {k: cosine_similarity(views[i], views[k], dim=0).item() / temperature for k in range(len(views)) if k != i}
        log_all = math.log(sum(map(math.exp, s.values())))
        positives = [k for k in s if classes[k] == classes[i]]
        total += sum(log_all - s[p] for p in positives) / len(positives)
    return total / len(views)


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_supcon_is_equation_2(chunk):
    """Classes of one, two and three images: the mean is over each view's own positives."""
    z, labels = torch.randn(6, 2, 8), [4, 0, 4, 7, 7, 4]
    loss = supcon(z, torch.tensor(labels), 0.2, chunk=chunk)
    assert loss.item() == pytest.approx(supcon_by_hand(z, labels, 0.2), rel=1e-5)


def test_with_a_class_for_each_image_it_is_nt_xent_gradient_too():
    z = torch.randn(7, 2, 8)
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    one, other = supcon(ours, torch.randperm(7), 0.1, chunk=4), nt_xent(theirs, 0.1)
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_a_view_is_not_its_own_positive():
    """At equal points each of the other views is as likely; with itself among them the log were of 12."""
    loss = supcon(torch.ones(6, 2, 4), torch.zeros(6, dtype=torch.int64), 0.1)
    assert loss.item() == pytest.approx(math.log(11), rel=1e-6)


def test_classes_that_fall_together_are_better_than_classes_that_mix():
    corners = torch.eye(3)[[0, 0, 1, 1]][:, None].repeat(1, 2, 1)
    together = supcon(corners, torch.tensor([0, 0, 1, 1]), 0.1)
    mixed = supcon(corners, torch.tensor([0, 1, 0, 1]), 0.1)
    assert together.item() == pytest.approx(math.log(3), abs=1e-3)  # three other views of the class, all as near
    assert mixed > together + 1


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: supcon(z, labels, 0.2, chunk=5))) < 1e-5


def test_float32_under_autocast():
    z, labels = torch.randn(6, 2, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    with torch.autocast("cpu", torch.bfloat16):
        under = supcon(z, labels, 0.1)
    assert under.dtype == torch.float32
    assert under.item() == supcon(z, labels, 0.1).item()


def test_the_model_refuses_to_guess_labels():
    config = SupConConfig(backbone="resnet18", backbone_args={"layers": [1] * 4, "channels": [8] * 4})
    with pytest.raises(ValueError, match="needs labels"):
        SupConForPreTraining(config)(torch.randn(2, 2, 3, 32, 32))
