"""bfloat16 weights with float32 masters: beside a float32 run, beside plain bfloat16, saved and resumed."""

import copy
import io

import pytest
import torch
from torch import nn

from hf_replearn.training.masters import Masters, to_bfloat16
from hf_replearn.training.optimizers import adamw, leave_out, muon

ROWS, TARGETS = torch.randn(64, 16, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))


def with_muon(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return muon(model, lr, matrices=[model[2].weight], muon_lr=lr, weight_decay=0.1)


def with_adamw(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return adamw(model, lr, weight_decay=0.1)


BOTH = pytest.mark.parametrize("make", [with_adamw, with_muon])


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    rows = ROWS.to(next(model.parameters()).dtype)
    loss = nn.functional.cross_entropy(model(rows).float(), TARGETS)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def numbers(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return [value.clone() for number in sorted(state) for _, value in sorted(state[number].items())]


@BOTH
def test_masters_follow_the_float32_run(make):
    """Up to the noise of bfloat16 gradients, which have 8 bits; the weights are the masters, rounded, at any time."""
    plain, model = network(), network()
    whole, optimizer = make(plain, 3e-3), Masters(make(model, 3e-3))
    start = [weight.detach().clone() for weight in plain.parameters()]
    losses = [(step(plain, whole), step(model, optimizer)) for _ in range(30)]
    assert losses[-1][0] < 0.7 * losses[0][0]
    assert losses[-1][1] == pytest.approx(losses[-1][0], rel=0.03)
    order = {id(weight): master for weight, master in zip(optimizer.weights, optimizer.masters, strict=True)}
    for one, other, before in zip(plain.parameters(), model.parameters(), start, strict=True):
        master = order[id(other)]
        assert other.dtype == torch.bfloat16 and master.dtype == torch.float32
        assert torch.equal(other, master.bfloat16())
        way = (one - before).norm()
        assert (master - one).norm() < 0.1 * way


def test_steps_too_small_for_bfloat16_are_not_lost():
    """Below 1 the next number is 1 - 1/256: a hundred steps of 1e-4 are seen in the end, and plain bfloat16 stays."""

    def trained(masters: bool) -> tuple[torch.Tensor, torch.Tensor]:
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        if not masters:
            to_bfloat16(model.parameters())
        inner = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
        optimizer = Masters(inner) if masters else inner
        for _ in range(100):
            model.weight.grad = torch.ones_like(model.weight)
            optimizer.step()
        return model.weight.detach(), optimizer.masters[0] if masters else model.weight

    assert trained(False)[0].item() == 1.0
    weight, master = trained(True)
    assert master.item() == pytest.approx(1 - 100 * 1e-4, abs=1e-5)
    assert weight.item() == pytest.approx(0.99, abs=1 / 512)


@BOTH
@pytest.mark.parametrize("steps", [0, 3])
def test_what_is_saved_goes_on_to_the_same_bits(make, steps):
    """Weights as bfloat16 and the optimizer's state, through a file; learning rates as they are set from outside."""
    model = network()
    optimizer = Masters(make(model, 3e-3))
    for _ in range(steps):
        step(model, optimizer)
    optimizer.param_groups[0]["lr"] = 1e-3
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert all(kept["master"].dtype == torch.float32 for kept in state["state"].values())
    resumed = network()
    resumed.load_state_dict(weights)  # float32 until there is an optimizer, as in a run that goes on
    again = Masters(make(resumed, 1.0))
    again.load_state_dict(state)
    assert again.param_groups[0]["lr"] == 1e-3
    for _ in range(3):
        assert step(model, optimizer) == step(resumed, again)
    assert all(map(torch.equal, model.parameters(), resumed.parameters()))
    assert all(map(torch.equal, numbers(optimizer), numbers(again)))


def test_a_float32_run_can_go_on():
    """Its optimizer knows no masters: they are the weights."""
    model = network()
    optimizer = with_adamw(model, 3e-3)
    step(model, optimizer)
    before = copy.deepcopy(list(model.parameters()))
    masters = Masters(with_adamw(model, 3e-3))
    masters.load_state_dict(optimizer.state_dict())
    kept = {id(weight): master for weight, master in zip(masters.weights, masters.masters, strict=True)}
    assert all(torch.equal(kept[id(now)], then) for now, then in zip(model.parameters(), before, strict=True))
    saved = masters.state_dict()["state"]
    assert all({"exp_avg", "exp_avg_sq", "master"} <= state.keys() for state in saved.values())


@BOTH
def test_a_step_that_is_left_out_changes_nothing(make):
    model = network()
    optimizer = Masters(make(model, 3e-3))
    step(model, optimizer)
    before, weights = numbers(optimizer), copy.deepcopy(list(model.parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    leave_out(optimizer, torch.ones(()))
    optimizer.step()
    assert all(map(torch.equal, before, numbers(optimizer)))
    assert all(map(torch.equal, weights, model.parameters()))
    leave_out(optimizer, torch.zeros(()))
    optimizer.zero_grad()
    step(model, optimizer)
    assert not torch.equal(weights[0], model[0].weight)


def test_buffers_stay_as_they_are():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    to_bfloat16(model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model[1].running_mean.dtype == torch.float32
