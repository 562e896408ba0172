"""Losses over the images of all processes."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def network() -> nn.Module:
    """(B, 2, 12) -> (B, 2, 8), without statistics of the batch, so that a process may see a part of it."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 8))


def step(model: nn.Module, loss: Callable, rows: slice) -> tuple[Tensor, Tensor]:
    """loss: of projections (B, 2, 8) and labels (B,). Returns its value and the gradient of all parameters."""
    images = torch.randn(16, 2, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) // 3  # one class stands in both halves
    value = loss(model(images[rows]), labels[rows])
    value.backward()
    return value.detach(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def one_of_two(rank: int, folder: Path, loss: Callable) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    value, gradient = step(DistributedDataParallel(network()), loss, slice(8 * rank, 8 * rank + 8))
    dist.all_reduce(value)
    if rank == 0:
        torch.save((value / 2, gradient), folder / "together.pt")
    dist.destroy_process_group()


@pytest.fixture
def difference_of_two_processes(tmp_path):
    """Of a loss, and of its gradient under DistributedDataParallel: the largest difference, relative to the largest
    value, between two gloo processes with eight images each and one with sixteen. They are forked: starting two
    processes that import everything anew takes seconds."""

    def measure(loss: Callable) -> tuple[float, float]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=one_of_two, args=(rank, folder, loss), daemon=True) for rank in (0, 1)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)  # under load, a minute is not enough
        assert [process.exitcode for process in processes] == [0, 0]
        together = torch.load(folder / "together.pt", weights_only=True)
        alone = step(network(), loss, slice(None))
        return tuple(
            float((one - other).abs().max() / other.abs().max()) for one, other in zip(together, alone, strict=True)
        )

    return measure
