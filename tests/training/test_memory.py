"""What a step needs is told from shapes alone."""

import pytest
import torch
from torch import nn

from hf_replearn.errors import InputError
from hf_replearn.training import memory
from hf_replearn.training.memory import check_memory, total_memory


def wide():
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())


def test_what_fits_is_silent_and_what_cannot_fit_is_refused(monkeypatch):
    cpu = torch.device("cpu")
    check_memory(wide, (2, 3, 32, 32), examples=256, device=cpu, lower="--x")
    with pytest.raises(
        InputError, match=r"a step needs at least [\d,.]+ GB of memory, and there are [\d,.]+ GB: lower --x"
    ):
        check_memory(wide, (2, 3, 4096, 4096), examples=1024, device=cpu, lower="--x")
    # By hand: the input, of 3 channels, and three maps of 64; a lower bound counts the half of what is kept.
    kept = 4 * 64 * 64 * (3 + 64 + 64 + 64)
    monkeypatch.setattr("hf_replearn.training.memory.total_memory", lambda device: kept * 100 // 2 + 4 * 4 * 40_000)
    check_memory(wide, (2, 3, 64, 64), examples=100, device=cpu, lower="--x")
    with pytest.raises(InputError):
        check_memory(wide, (2, 3, 64, 64), examples=110, device=cpu, lower="--x")


def test_the_memory_of_the_machine():
    assert total_memory(torch.device("cpu")) > 2**30


# ---- as many examples as fit


class Map(nn.Module):
    """Of 1,000 features; autograd keeps the input of each of its layers, 4,000 bytes an example."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(1000, 1000, bias=False) for _ in range(3)))

    def forward(self, x):
        return self.layers(x)


WEIGHTS, EACH = 3 * 4_000_000, 3 * 4_000


def step(model, examples):
    return model(torch.randn(examples, 1000)).sum()


def find(room, **options):
    options = {"sizes": [2**power for power in range(12)], "device": torch.device("cpu"), "take_steps": False} | options
    return memory.largest_batch(step, Map(), **options)


@pytest.mark.parametrize("examples", [4, 64, 1024])
def test_the_batch_that_is_found_is_the_largest_that_fits(monkeypatch, examples):
    """Weights, gradients and two moments, and what autograd keeps, half as much again for its way back."""
    needed = 4 * WEIGHTS + 2 * EACH + memory.BACKWARD * EACH * (examples - 2)
    for room, found in ((needed + 1000, examples), (needed - 1000, examples // 2)):
        monkeypatch.setattr(memory, "available_memory", lambda room=room: room / memory.ROOM)
        assert find(room) == found
        monkeypatch.setattr(memory, "available_memory", lambda room=room: 2 * room / memory.ROOM)
        assert find(room, processes=2) == found
    assert find(1e12, sizes=[8, 32]) in (8, 32)


def test_nothing_is_left_of_the_attempt(monkeypatch):
    model = nn.Sequential(nn.Linear(1000, 4), nn.BatchNorm1d(4)).eval()
    before, drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.random.get_rng_state()
    found = memory.largest_batch(step, model, sizes=[4], device=torch.device("cpu"), take_steps=False)
    assert found == 4 and not model.training and torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_where_nothing_fits_it_is_said(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1e6)
    with pytest.raises(InputError, match="a training step of 1 examples does not fit into the memory at hand, 0.0 GB"):
        find(0)


@pytest.mark.parametrize(("most", "found"), [(100, 64), (0, 0)])
def test_steps_that_do_not_fit_are_taken_smaller(monkeypatch, most, found):
    """What a GPU says, without one."""
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share: None)
    tried = []

    def limited(model, examples):
        tried.append(examples)
        if examples > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return step(model, examples)

    assert memory._first_that_runs(limited, Map(), [256, 128, 64, 2]) == found
    assert tried == [size for size in (256, 128, 64, 2) if size >= found]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        memory._first_that_runs(lambda model, examples: model(torch.ones(examples, 3)).sum(), Map(), [4])


def test_a_container_has_less_than_its_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    free = memory.available_memory()
    for name, value in (("memory.max", "max"), ("memory.current", "100")):
        (tmp_path / name).write_text(f"{value}\n")
    assert memory.available_memory() == pytest.approx(free, rel=0.2)
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.available_memory() == 999_900


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_batch_that_is_found_runs_on_a_gpu_and_twice_as_many_do_not():
    device = torch.device("cuda")
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4096, 4096), nn.GELU()) for _ in range(8)))

    def wide(model, examples):
        return model(torch.randn(examples, 256, 4096, device=device)).sum()

    sizes = [2**power for power in range(16)]
    found = memory.largest_batch(wide, model, sizes=sizes, device=device, take_steps=True)
    model.to(device)
    wide(model, found).backward()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        wide(model, 4 * found).backward()
