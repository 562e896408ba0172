"""The chunked cross entropy against PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from hf_replearn.losses import chunked_cross_entropy, rows_at_once


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


def test_a_gpu_takes_as_many_rows_as_fit_into_a_gibibyte_and_a_cpu_few():
    assert rows_at_once(50_304, torch.bfloat16, "cpu") == rows_at_once(100, torch.float32, "cpu") == 512
    for vocabulary, dtype, size in ((30_528, torch.bfloat16, 2), (151_936, torch.float32, 4)):
        rows = rows_at_once(vocabulary, dtype, "cuda")
        assert 0.99 * 2**30 < rows * vocabulary * size <= 2**30
    assert rows_at_once(2**31, torch.float32, "cuda") == 1


def test_the_weight_is_cast_once_and_its_gradients_are_added_in_float32():
    """Of bfloat16 weights too: 400 chunks of 1 row are as good as one of 400."""
    torch.manual_seed(0)
    casts = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal casts
            casts += func is torch.ops.aten._to_copy.default and args[0].shape == (30, 16)
            return func(*args, **(kwargs or {}))

    hidden, labels = torch.randn(400, 16).bfloat16(), torch.randint(30, (400,))
    exact = (torch.randn(30, 16) / 4).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), Watch():
        chunked_cross_entropy(hidden, exact, labels, chunk=100)
    assert casts == 1
    weight, bias = exact.detach().bfloat16().requires_grad_(), torch.zeros(30).bfloat16().requires_grad_()
    chunked_cross_entropy(hidden, weight, labels, bias=bias, chunk=1).backward()
    assert weight.grad.dtype == bias.grad.dtype == torch.bfloat16
    plain = weight.detach().float().requires_grad_()
    F.cross_entropy(hidden.float() @ plain.T, labels, reduction="sum").backward()
    torch.testing.assert_close(weight.grad.float(), plain.grad, rtol=0.02, atol=0.02 * plain.grad.abs().max().item())
