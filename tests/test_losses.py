"""The chunked cross entropy against PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from hf_replearn.losses import chunked_cross_entropy


@pytest.mark.parametrize("chunk", [1, 5, 64])
@pytest.mark.parametrize("with_bias", [True, False])
def test_loss_and_gradients_are_those_of_the_plain_cross_entropy(chunk, with_bias):
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(23, 8), torch.randn(50, 8), torch.randn(50) if with_bias else None
    labels = torch.randint(50, (23,))
    labels[[0, 7, 8]] = -100
    ours, plain = [[x.clone().requires_grad_() for x in (hidden, weight, bias) if x is not None] for _ in "ab"]
    loss = chunked_cross_entropy(*ours[:2], labels, bias=ours[2] if with_bias else None, chunk=chunk)
    expected = F.cross_entropy(F.linear(*plain), labels, reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (3 * loss / 20).backward()
    (3 * expected / 20).backward()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-6)


def test_nothing_as_large_as_all_logits_is_held():
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max(largest, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    hidden, weight = torch.randn(400, 4, requires_grad=True), torch.randn(30, 4, requires_grad=True)
    with Watch():
        chunked_cross_entropy(hidden, weight, torch.randint(30, (400,)), chunk=16).backward()
    assert largest <= 400 * 4


def test_autocast_is_close_and_without_gradient_too():
    hidden, weight, labels = torch.randn(64, 16), torch.randn(100, 16), torch.randint(100, (64,))
    expected = F.cross_entropy(hidden @ weight.T, labels, reduction="sum").item()
    with torch.autocast("cpu", torch.bfloat16):
        assert chunked_cross_entropy(hidden, weight, labels).item() == pytest.approx(expected, rel=1e-2)
    with torch.no_grad():
        assert chunked_cross_entropy(hidden, weight, labels).item() == pytest.approx(expected, rel=1e-5)


def test_label_whose_probability_is_no_number_of_its_type_still_has_a_loss():
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[300.0], [-300.0]])
    assert chunked_cross_entropy(hidden, weight, torch.tensor([1])).item() == 600
