"""Learning-rate rules and LARS against the paper's numbers and a hand-written step."""

import copy

import pytest
import torch
from torch import nn

from hf_replearn.recipes.simclr import SimCLRSettings
from hf_replearn.training import optimizers
from hf_replearn.training.optimizers import Float32Muon, adamw, lars, muon, parameter_groups


def test_both_rules_agree_at_4096_as_the_paper_says():
    linear, sqrt = (
        SimCLRSettings(dataset="toy", output_dir="out", learning_rate_rule=rule).peak_learning_rate
        for rule in ("linear", "sqrt")
    )
    assert linear(4096) == pytest.approx(4.8)
    assert sqrt(4096) == pytest.approx(4.8)
    assert linear(256) == pytest.approx(0.3)
    assert sqrt(256) == pytest.approx(1.2)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_have_no_decay():
    model = small()
    matrices, vectors = parameter_groups(model, 0.1)
    assert {p.shape for p in matrices["params"]} == {model[0].weight.shape, model[3].weight.shape}
    assert len(vectors["params"]) == 4
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert adamw(model, 1e-3, weight_decay=0.1).param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_lars_by_hand(decay):
    """You et al. 2017: a matrix moves by lr * 0.001 |w| / (|g| + decay |w|) * (g + decay w), a vector by lr * g."""
    model = small()
    optimizer = lars(model, 0.5, weight_decay=decay)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]  # timm may add the decay in place
    optimizer.step()
    for old, gradient, new in zip(before, gradients, model.parameters(), strict=True):
        step = 0.5 * gradient
        if new.ndim > 1:
            ratio = 0.001 * old.norm() / (gradient.norm() + decay * old.norm())
            step = 0.5 * ratio * (gradient + decay * old)
        torch.testing.assert_close(new.detach(), old - step, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fast", [True, False])
def test_muon_and_adamw_together_are_the_two_apart_and_resume(monkeypatch, fast):
    monkeypatch.setattr(optimizers, "has_bf16", lambda device: fast)
    orthogonal = torch.optim.Muon if fast else Float32Muon

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 16), nn.Linear(16, 8))
    matrices = [model[1].weight, model[2].weight]
    apart = copy.deepcopy(model)
    together = muon(model, 1e-2, matrices=matrices, muon_lr=0.02, weight_decay=0.1)
    rest = [apart[0].weight, apart[1].bias, apart[2].bias]
    parts = [
        orthogonal([apart[1].weight, apart[2].weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1e-2, weight_decay=0.0),
    ]
    tokens = torch.randint(10, (32,))

    def step(network, optimizers):
        network(tokens).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)) for o in (together, *parts)]
    for _ in range(3):
        step(model, [together])
        step(apart, parts)
        for schedule in schedules:
            schedule.step()
    for one, other in zip(model.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other)

    resumed = copy.deepcopy(model)
    again = muon(resumed, 1.0, matrices=[resumed[1].weight, resumed[2].weight], muon_lr=1.0, weight_decay=0.0)
    again.load_state_dict(copy.deepcopy(together.state_dict()))
    step(model, [together])
    step(resumed, [again])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_muon_in_float32_is_torchs_up_to_the_rounding_of_bfloat16():
    torch.manual_seed(0)
    one, other = nn.Linear(48, 16, bias=False), nn.Linear(48, 16, bias=False)
    other.load_state_dict(one.state_dict())
    arguments = {"lr": 0.1, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    float32, bfloat16 = Float32Muon([one.weight], **arguments), torch.optim.Muon([other.weight], **arguments)
    for _ in range(3):
        before = one.weight.detach().clone()
        one.weight.grad = torch.randn(16, 48)
        other.weight.grad = one.weight.grad.clone()
        float32.step()
        bfloat16.step()
        assert (one.weight - other.weight).norm() < 0.05 * (one.weight - before).norm()
