"""Whether a training step fits into memory, found out without taking any, on tensors with a shape and no numbers; and
how many examples fit, found out by steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor, nn

from hf_replearn.errors import InputError

ROOM = 0.9  # share of the memory at hand that a batch may take: what is kept apart from it is in pieces
BACKWARD = 1.5  # memory of a step on a CPU, times what autograd keeps for it: gradients of activations come and go
CGROUP = Path("/sys/fs/cgroup")  # where Linux says what a container may use


def check_memory(
    make: Callable[[], nn.Module], shape: tuple[int, ...], *, examples: int, device: torch.device, lower: str
) -> None:
    """Raises InputError, naming `lower`, where a step needs more memory than the device has at all.

    make:     the network, whose forward takes one tensor.
    shape:    of the tensor of two examples.
    examples: that go through the network at once.

    What is counted is a lower bound: weights, gradients and two moments, and half of what autograd keeps, because many
    tensors are kept twice. Raises whatever the network raises for a shape that it does not take.
    """
    kept = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.device("meta"):
        network = make().eval()
        batch = torch.empty(shape)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(batch)
    weights = sum(parameter.nbytes for parameter in network.parameters())
    activations = max(0, kept - weights) // 2 // 2 * examples
    needed, there = 4 * weights + activations, total_memory(device)
    if needed > there:
        much = f"at least {needed / 1e9:,.1f} GB of memory, and there are {there / 1e9:,.1f} GB"
        raise InputError(f"a step needs {much}: lower {lower}")


def total_memory(device: torch.device) -> int:
    """Bytes of memory of the machine, or of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total


def largest_batch(
    step: Callable[[nn.Module, int], Tensor],
    model: nn.Module,
    *,
    sizes: Sequence[int],
    device: torch.device,
    take_steps: bool,
    processes: int = 1,
) -> int:
    """The largest of `sizes` of which a training step fits into the memory at hand.

    step:       (model, examples) -> the loss of so many. The model is a copy; random numbers are put back.
    take_steps: whether steps are taken on a GPU. Of several processes, whose steps wait for one another, they are not.
    processes:  that share the memory of this machine. GPUs are not shared.

    Counted are weights, gradients, two moments of the optimizer, and what autograd keeps for one example more. On a GPU
    a step is then taken, and smaller ones as long as it does not fit; on a CPU, where the system would swap, or end the
    process, the count decides. Raises InputError where not even the smallest fits.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        tried = copy.deepcopy(model).to(device).train()
        low, high = (_kept(step, tried, examples) for examples in (2, 4))
        each, weights = max(0, high - low) / 2, sum(p.nbytes for p in tried.parameters())
        room = total_memory(device) if on_gpu else available_memory() / processes
        there, backward = (room, 1.0) if on_gpu and take_steps else (ROOM * room, BACKWARD)
        fit = [n for n in sorted(sizes, reverse=True) if 4 * weights + low + backward * each * (n - 2) <= there]
        found = next(iter(fit), 0)
        if found and on_gpu and take_steps:
            found = _first_that_runs(step, tried, fit)
    if not found:
        raise InputError(
            f"a training step of {min(sizes)} examples does not fit into the memory at hand, {there / 1e9:,.1f} GB: "
            "take a smaller model, or smaller examples"
        )
    return found


def _kept(step: Callable[[nn.Module, int], Tensor], model: nn.Module, examples: int) -> int:
    """Bytes that autograd keeps for a step, besides the weights."""
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = step(model, examples)  # while it lives, no storage is given to another tensor
    del loss
    return sum(kept.values())


def _first_that_runs(step: Callable[[nn.Module, int], Tensor], model: nn.Module, sizes: Sequence[int]) -> int:
    """The first of these numbers of examples of which a whole step runs on the GPU; 0 where none does."""
    left = [*sizes, 0]

    def attempt(batch_size: int) -> int:
        state = [torch.zeros_like(p) for p in model.parameters() if p.requires_grad for _ in range(2)]
        try:
            step(model, batch_size).backward()
            torch.cuda.synchronize()
        finally:
            del state
            model.zero_grad(set_to_none=True)
        return batch_size

    def smaller() -> int:
        left.pop(0)
        return left[0]

    torch.cuda.set_per_process_memory_fraction(ROOM)
    try:
        return find_executable_batch_size(attempt, left[0], smaller)()
    except RuntimeError:
        if left[0]:  # something else than a lack of memory
            raise
        return 0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def available_memory() -> int:
    """Bytes of memory that are free on this machine, or in this container."""
    free = psutil.virtual_memory().available
    try:
        most, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:  # no container, or another system
        return free
    return min(free, int(most) - int(used)) if most.isdecimal() else free
