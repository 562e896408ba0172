"""DCL against Python loops, NT-Xent and lightly."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize
from torch.utils._python_dispatch import TorchDispatchMode

from hf_replearn.methods.dcl import dcl
from hf_replearn.methods.simclr import nt_xent


def dcl_by_hand(z: torch.Tensor, temperature: float) -> float:
    """Equation 6, sum by sum. z: (B, 2, P)"""
    total = 0.0
    for i in range(len(z)):
        for view in (0, 1):
            others = [z[j, k] for j in range(len(z)) for k in (0, 1) if j != i]
            negatives = sum(math.exp(cosine_similarity(z[i, view], x, dim=0) / temperature) for x in others)
            total += math.log(negatives) - cosine_similarity(z[i, 0], z[i, 1], dim=0).item() / temperature
    return total / (2 * len(z))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_dcl_is_equation_6(temperature, chunk):
    z = torch.randn(5, 2, 8)
    assert dcl(z, temperature, chunk=chunk).item() == pytest.approx(dcl_by_hand(z, temperature), rel=1e-5)


def test_dcl_is_nt_xent_plus_the_log_of_what_its_positive_leaves():
    """So the negatives are in one sum: with one sum for each view (lightly before 1.5.21) this does not hold."""
    z = torch.randn(6, 2, 8)
    rows = normalize(z, dim=-1).flatten(0, 1)
    p = (rows @ rows.T / 0.3).fill_diagonal_(-math.inf).softmax(1)[torch.arange(12), torch.arange(12) ^ 1]
    per_row = torch.log1p(-p).mean()
    assert dcl(z, 0.3).item() == pytest.approx((nt_xent(z, 0.3) + per_row).item(), rel=1e-5)


def test_dcl_is_negative_where_positives_are_found_and_its_gradient_does_not_fade():
    z = torch.eye(4)[:, None].repeat(1, 2, 1)  # equal views, orthogonal images
    assert dcl(z, 0.1).item() == pytest.approx(math.log(6) - 10, rel=1e-5)
    near = (z + 0.05 * torch.randn(4, 2, 4)).requires_grad_()
    (strong,) = torch.autograd.grad(dcl(near, 0.1), near)
    (faded,) = torch.autograd.grad(nt_xent(near, 0.1), near)
    assert strong.norm() > 10 * faded.norm()


def test_gradient_is_that_of_the_plain_formula_and_nothing_as_large_as_the_square_of_the_batch_is_held():
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            largest = max(largest, result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    z = torch.randn(128, 2, 8, dtype=torch.float64)
    ours, plain = z.float().requires_grad_(), z.clone().requires_grad_()
    with Largest():
        dcl(ours, 0.2, chunk=16).backward()
    assert largest <= 16 * 256
    rows = normalize(plain, dim=-1).flatten(0, 1)
    logits = rows @ rows.T / 0.2
    image = torch.arange(256) // 2
    negatives = logits.masked_fill(image[:, None] == image, -math.inf).logsumexp(1)
    (negatives - logits[torch.arange(256), torch.arange(256) ^ 1]).mean().backward()
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=1e-4, atol=1e-7)


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: dcl(z, 0.2, chunk=5))) < 1e-5


def test_float32_under_autocast_and_a_lone_image_is_refused():
    z = torch.randn(6, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = dcl(z, 0.1)
    assert under.dtype == torch.float32
    assert under.item() == dcl(z, 0.1).item()
    with pytest.raises(ValueError, match="one image has no negatives"):
        dcl(torch.randn(1, 2, 8), 0.1)


def test_loss_and_gradient_equal_lightly():
    peer = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra").DCLLoss(0.3)
    z = torch.randn(32, 2, 16)
    ours, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    one, other = dcl(ours, 0.3), peer(theirs[:, 0], theirs[:, 1])
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
