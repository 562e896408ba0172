"""A GPU that is not there: tensors that are on another device than the CPU, as they say, and compute on the CPU. What
would make the host wait for a GPU can be refused."""

from __future__ import annotations

import sys
from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("meta")  # PyTorch asks no driver for it
aten = torch.ops.aten
# Their result, or the shape of it, has to be known to the host.
ASKING = {
    aten._local_scalar_dense, aten.is_nonzero, aten.equal, aten.item, aten.nonzero, aten.masked_select, aten._unique2,
    aten.unique_dim, aten.unique_consecutive, aten.bincount, aten.repeat_interleave, aten.nonzero_numpy,
}  # fmt: skip
COPYING = {aten._to_copy, aten.copy_, aten.copy}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


def of_the_cpu(function, kind: str = "cpu", *args, **kwargs):
    return function("cpu" if kind == GPU.type else kind, *args, **kwargs)


def made_and_copied(make, data, *args, device=None, **kwargs):
    """What torch.tensor does for a GPU: it makes a tensor on the CPU and waits for a copy of it."""
    made = make(data, *args, **kwargs)
    return made if device is None else made.to(device)


def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
    return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


class HostWaits(AssertionError):
    """The host would wait for the GPU."""


class There(torch.Tensor):
    """A tensor on the pretended GPU; `here` holds its numbers."""

    @staticmethod
    def __new__(cls, here: torch.Tensor):
        about = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, here.shape, device=GPU, **about)

    def __init__(self, here: torch.Tensor):
        self.here = here

    def __repr__(self) -> str:
        return f"There({self.here})"

    def __format__(self, how: str) -> str:
        return format(self.item(), how)

    def tolist(self) -> list:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class PretendedGPU(TorchDispatchMode):
    """While it is entered, GPU can be used. With `strict`, what would make the host wait raises HostWaits."""

    strict = False

    def __init__(self, monkeypatch):
        super().__init__()
        for name in ("autocast", "is_autocast_enabled", "get_autocast_dtype"):
            monkeypatch.setattr(torch, name, partial(of_the_cpu, getattr(torch, name)))
        monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *_: None)
        for name in ("tensor", "as_tensor"):
            monkeypatch.setattr(torch, name, partial(made_and_copied, getattr(torch, name)))
        monkeypatch.setattr(torch.Tensor, "new_tensor", new_tensor)

    def take(self, model: torch.nn.Module) -> torch.nn.Module:
        """`model.to(GPU)`, which PyTorch does not do in place for tensors of another class."""
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            return model.to(GPU)
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(False)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {}, refuse=self.strict)


def compute(function, args, kwargs, *, refuse: bool = False):
    """What `function` gives, on the CPU."""
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in given if isinstance(tensor, There)]
    assert not any(tensor.device == GPU and not isinstance(tensor, There) for tensor in given), (
        "a tensor without numbers"
    )
    device = kwargs.get("device")
    on_gpu = bool(there) if device is None else torch.device(device).type == GPU.type
    if there or on_gpu:
        check(function, args, kwargs, given, refuse=refuse)
    inner = {**kwargs, "device": torch.device("cpu")} if device is not None else kwargs
    inner = {name: value for name, value in inner.items() if name != "pin_memory"}
    bring = lambda leaf: leaf.here if isinstance(leaf, There) else leaf  # noqa: E731
    found = function(*tree_map(bring, args), **tree_map(bring, inner))
    if function.overloadpacket is aten.copy_:
        return args[0]
    if not on_gpu:
        return found
    send = lambda leaf: There(leaf) if isinstance(leaf, torch.Tensor) else leaf  # noqa: E731
    return return_and_correct_aliasing(function, args, kwargs, tree_map(send, found))


def check(function, args, kwargs, given, *, refuse: bool) -> None:
    packet = function.overloadpacket
    here = [tensor for tensor in given if not isinstance(tensor, There)]
    if packet in COPYING:
        target = kwargs.get("device") if packet is not aten.copy_ else args[0].device
        source = args[1].device if packet is aten.copy_ else args[0].device
        crossing = target is not None and torch.device(target).type != source.type
        waiting = not (kwargs.get("non_blocking") or (packet is aten.copy_ and args[2:3] == (True,)))
        if refuse and crossing and waiting:
            raise HostWaits(f"{function}: a copy from {source} to {target} that the host waits for")
        return
    if packet in INDEXING:
        indices = [index for index in args[1] if index is not None]
        if refuse and any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            raise HostWaits(f"{function}: the number of rows depends on a mask")
        if refuse and not all(isinstance(index, There) for index in indices):
            raise HostWaits(f"{function}: the indices have to be copied first")
        here = [tensor for tensor in here if not any(tensor is index for index in indices)]
    if any(tensor.ndim for tensor in here) and len(here) < len(given):
        raise RuntimeError(f"{function}: tensors of the CPU and of the GPU together")
    if refuse and packet in ASKING:
        raise HostWaits(f"{function}: the host asks for a number")
