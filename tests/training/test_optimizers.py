"""Learning-rate rules and LARS against the paper's numbers and a hand-written step."""

import copy
import multiprocessing
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from timm.optim.muon import zeropower_via_newtonschulz
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.utils._pytree import tree_leaves

from hf_replearn.errors import InputError
from hf_replearn.recipes.simclr import SimCLRSettings
from hf_replearn.training import optimizers
from hf_replearn.training.optimizers import adamw, lars, leave_out, muon, parameter_groups


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


def network() -> nn.Module:
    """Three matrices of one shape, one wider than tall, and others for AdamW."""
    torch.manual_seed(0)
    hidden = [nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 16)]
    return nn.Sequential(nn.Embedding(10, 8), *hidden)


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [layer.weight for layer in model[1:]]


def with_muon(model: nn.Module) -> torch.optim.Optimizer:
    return muon(model, 1e-2, matrices=matrices(model), muon_lr=0.02, weight_decay=0.1)


TOKENS = torch.arange(32).reshape(4, 8) % 10


def step(model: nn.Module, *optimizers: torch.optim.Optimizer, rows: slice = slice(None)) -> None:
    model(TOKENS[rows]).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def fast(request, monkeypatch):
    """Whether the CPU is one that has bfloat16; if not, torch's own Muon is in float32 too, for comparison."""
    monkeypatch.setattr(optimizers, "has_bf16", lambda device: request.param)
    if not request.param:
        monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    return request.param


def test_muon_and_adamw_together_are_torchs_apart(fast):
    model = network()
    apart, together = copy.deepcopy(model), with_muon(model)
    rest = [apart[0].weight, *(layer.bias for layer in apart[1:])]
    parts = [
        torch.optim.Muon(matrices(apart), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1e-2, weight_decay=0.0),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)) for o in (together, *parts)]
    for _ in range(3):
        step(model, together)
        step(apart, *parts)
        for schedule in schedules:
            schedule.step()
    for one, other in zip(model.parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_many_matrices_at_once_are_each_alone():
    """What a GPU does: timm's rule over a stack, and at most so many numbers in it."""
    stack = torch.randn(5, 24, 16)
    rule = partial(zeropower_via_newtonschulz, steps=5, coefficients=[(3.4445, -4.775, 2.0315)], dtype=torch.float32)
    torch.testing.assert_close(rule(stack), torch.stack([rule(matrix) for matrix in stack]), rtol=1e-5, atol=1e-6)
    model = network()
    few, together = copy.deepcopy(model), with_muon(model)
    piecewise = with_muon(few)
    piecewise.optimizers[0].AT_ONCE = 2 * 8 * 16  # two of three
    step(model, together)
    step(few, piecewise)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), few.parameters(), strict=True))


def as_earlier_versions_saved_it(state: dict, counts: tuple[int, int]) -> dict:
    """A state dict for each of the two optimizers."""
    parts, first = [], 0
    for group, count in zip(state["param_groups"], counts, strict=True):
        numbered = {n: state["state"][first + n] for n in range(count)}
        parts.append({"state": numbered, "param_groups": [group | {"params": list(range(count))}]})
        first += count
    return {"optimizers": parts}


@pytest.mark.parametrize("earlier", [False, True])
def test_muon_resumes_with_the_same_bits(earlier):
    model = network()
    optimizer = with_muon(model)
    step(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    assert {len(state) for state in saved["state"].values()} == {1, 3}  # a momentum; a step and two moments
    saved = as_earlier_versions_saved_it(saved, (5, 6)) if earlier else saved
    resumed = copy.deepcopy(model)
    again = muon(resumed, 1.0, matrices=matrices(resumed), muon_lr=1.0, weight_decay=0.0)
    again.load_state_dict(saved)
    for _ in range(2):
        step(model, optimizer)
        step(resumed, again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def one_of_two(rank: int, folder: Path, train) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(train(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()


def in_two_processes(train, folder: Path) -> list[list[torch.Tensor]]:
    """What train(rank) returns in each of them."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=one_of_two, args=(rank, folder, train), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def trained(rank: int = 0) -> list[torch.Tensor]:
    model = network()
    optimizer = with_muon(model)
    for _ in range(2):
        step(model, optimizer)
    return [parameter.detach() for parameter in model.parameters()]


def test_two_processes_share_the_matrices_and_get_the_bits_of_one(tmp_path, monkeypatch):
    rule, count = optimizers.zeropower_via_newtonschulz, multiprocessing.Value("i")

    def counted(*args, **kwargs):
        with count.get_lock():
            count.value += 1
        return rule(*args, **kwargs)

    monkeypatch.setattr(optimizers, "zeropower_via_newtonschulz", counted)
    alone = trained()
    assert count.value == 2 * 5
    for together in in_two_processes(trained, tmp_path):
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert count.value == 2 * 2 * 5  # once in one of the processes, not in both


def trained_in_parts(rank: int) -> list[torch.Tensor]:
    model = network()
    mesh = init_device_mesh("cpu", (2,))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = with_muon(model)
    for _ in range(2):
        step(model, optimizer, rows=slice(2 * rank, 2 * rank + 2))
    momentum = optimizer.state_dict()["state"][0]["momentum_buffer"]
    assert momentum.to_local().shape == (8, 8)  # of (16, 8): it stays a part
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()["state"]])
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    leave_out(optimizer, torch.ones(()))
    optimizer.step()
    after = [model.state_dict(), optimizer.state_dict()["state"]]
    local = [[getattr(x, "_local_tensor", x) for x in tree_leaves(found)] for found in (before, after)]
    assert len(local[0]) > 10 and all(torch.equal(one, other) for one, other in zip(*local, strict=True))
    return [parameter.detach().full_tensor() for parameter in model.parameters()]


def test_muon_under_fully_shard(tmp_path):
    alone, parts = trained(), in_two_processes(trained_in_parts, tmp_path)
    for together in parts:
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def split_over_a_grid(rank: int) -> list[torch.Tensor]:
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("shard", "rows"))
    model = parallelize_module(nn.Sequential(nn.Linear(8, 8)), mesh["rows"], {"0": ColwiseParallel()})
    fully_shard(model, mesh=mesh["shard"])
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with pytest.raises(InputError) as refused:
        muon(model, 1e-2, matrices=[model[0].weight], muon_lr=0.02, weight_decay=0.1).step()
    return [torch.tensor(str(refused.value).endswith("take --optimizer adamw"))]


def test_matrices_that_are_split_twice_are_refused(tmp_path):
    assert in_two_processes(split_over_a_grid, tmp_path) == [[torch.tensor(True)]] * 2
