"""Cached gradients are those of one big batch; accumulated ones are not."""

import pytest
import torch
from torch import nn

from hf_replearn.methods.simclr import nt_xent
from hf_replearn.training.cached_gradients import cached_gradient_step

IMAGES = torch.randn(12, 2, 6, generator=torch.Generator().manual_seed(0))


def network(*, dropout: float = 0.0, norm: type[nn.Module] | None = None) -> nn.Module:
    torch.manual_seed(1)
    middle = [norm(16)] if norm else []
    return nn.Sequential(nn.Linear(6, 16), *middle, nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4)).double()


def loss(projections):
    return nt_xent(projections, 0.2)


def gradient(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def cached(model: nn.Module, batches: int) -> torch.Tensor:
    parts = IMAGES.double().chunk(batches)
    return cached_gradient_step(lambda i: model(parts[i]), loss, batches=batches, model=model)


@pytest.mark.parametrize("batches", [2, 3, 12])
def test_equal_to_the_big_batch(batches):
    whole, parts = network(), network()
    expected = loss(whole(IMAGES.double()))
    expected.backward()
    value = cached(parts, batches)
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (gradient(parts) - gradient(whole)).abs().max() / gradient(whole).abs().max() < 1e-6


def test_accumulated_gradients_are_not():
    """The fallacy this avoids: the negatives of a small batch stay those of a small batch."""
    whole, parts = network(), network()
    loss(whole(IMAGES.double())).backward()
    for part in IMAGES.double().chunk(3):
        (loss(parts(part)) / 3).backward()
    assert (gradient(parts) - gradient(whole)).abs().max() / gradient(whole).abs().max() > 0.05


def test_dropout_is_the_same_in_both_passes():
    model = network(dropout=0.5)
    torch.manual_seed(5)
    cached(model, 3)
    after = torch.rand(1)

    again = network(dropout=0.5)
    torch.manual_seed(5)
    loss(torch.cat([again(part) for part in IMAGES.double().chunk(3)])).backward()
    torch.testing.assert_close(gradient(model), gradient(again), rtol=1e-5, atol=1e-7)
    assert torch.equal(torch.rand(1), after)  # and later random numbers are those of a single pass


def test_running_statistics_move_once():
    class Views(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(x.flatten(0, 1)).view_as(x)

    model, once = network(norm=Views), network(norm=Views)
    cached(model, 3)
    for part in IMAGES.double().chunk(3):
        once(part)
    torch.testing.assert_close(model[1].running_mean, once[1].running_mean, rtol=1e-6, atol=0)
    assert model[1].momentum == once[1].momentum
