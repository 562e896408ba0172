"""Whether a training step fits into memory, found out without taking any: on tensors with a shape and no numbers."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn

from hf_replearn.errors import InputError


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
