"""Weights, gradients and optimizer state of which each process holds a part: FSDP2; HSDP, replicas of it; and tensor
parallelism (tensor_parallel.py), where processes share the work on one batch too.

A profile of `accelerate launch` says what is wanted. accelerate itself would do it on GPUs alone, and gives modules a
part of their own whose weights our losses use outside of them; here torch does it, alike on every device, so that what
is tested on a CPU is what runs on GPUs.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from accelerate.utils import FullyShardedDataParallelPlugin, ParallelismConfig
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate

from hf_replearn.errors import InputError
from hf_replearn.training.tensor_parallel import split_matrices

FSDP, SIZES = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_PARALLELISM_CONFIG"  # what accelerate's launcher tells a process
POLICY = "FSDP_AUTO_WRAP_POLICY"
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Layout:
    """What each process holds.

    replicas: how often all weights are there.
    shards:   processes that share one copy of them, each with a batch of its own.
    tensor:   processes that compute one batch together, each with a part of the matrices.
    reshard:  whether a process forgets the parts of others after the forward pass, and asks again in the backward pass.
    """

    replicas: int = 1
    shards: int = 1
    reshard: bool = True
    tensor: int = 1

    def __str__(self) -> str:
        shards = f"{self.replicas} x {self.shards} shards" if self.replicas > 1 else f"{self.shards} shards"
        return f"{shards} x {self.tensor} tensor parallel" if self.tensor > 1 else shards

    def mesh(self, device: torch.device) -> DeviceMesh:
        """The processes, by accelerate's names of the dimensions."""
        sizes = {"dp_replicate": self.replicas, "dp_shard": self.shards, "tp": self.tensor}
        sizes = {name: size for name, size in sizes.items() if name == "dp_shard" or size > 1}
        return init_device_mesh(device.type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))


def asked_layout(processes: int) -> Layout | None:
    """What the profile of `accelerate launch` asks of so many processes; None where each has to hold all weights.

    Raises InputError where that cannot be had.
    """
    if not (_says(FSDP) or _says(SIZES)):
        return None
    try:
        sizes = ParallelismConfig() if _says(SIZES) else ParallelismConfig(dp_shard_size=processes)
    except ValueError as error:
        raise InputError(f"parallelism_config of the profile: {' '.join(str(error).split())}") from error
    if sizes.cp_size > 1 or sizes.sp_size > 1:
        raise InputError("parallelism_config of the profile: cp_size and sp_size must be 1, sequences are not split")
    if not _says(FSDP):
        if sizes.total_size == 1:
            return None
        raise InputError("parallelism_config of the profile: it needs distributed_type FSDP, see fsdp2.yaml")
    if sizes.total_size != processes:
        product = f"{sizes.dp_replicate_size} x {sizes.dp_shard_size}" + f" x {sizes.tp_size}" * (sizes.tp_size > 1)
        raise InputError(f"the profile shares the weights among {product} processes, and {processes} were started")
    if sizes.tp_size > 1 and sizes.dp_replicate_size > 1:
        raise InputError("parallelism_config of the profile: with tp_size above 1, dp_replicate_size must be 1")
    layout = Layout(sizes.dp_replicate_size, sizes.dp_shard_size, _reshard(), sizes.tp_size)
    return layout if processes > 1 else None


def _says(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"


def _reshard() -> bool:
    """Whether the fsdp_config wants parts to be given back. Raises InputError for what it may not say."""
    told = FullyShardedDataParallelPlugin()
    wrong = {
        "fsdp_version: 1": told.fsdp_version != 2,
        "fsdp_offload_params: true": isinstance(told.cpu_offload, CPUOffloadPolicy),
        "fsdp_activation_checkpointing: true": told.activation_checkpointing,
        "fsdp_cpu_ram_efficient_loading: true": told.cpu_ram_efficient_loading,
        f"fsdp_auto_wrap_policy: {os.environ.get(POLICY)}": os.environ.get(POLICY)
        not in (None, "TRANSFORMER_BASED_WRAP"),
        f"fsdp_state_dict_type: {told.state_dict_type.name}": told.state_dict_type.name != "SHARDED_STATE_DICT",
    }
    for line, found in wrong.items():
        if found:
            raise InputError(
                f"{line} in the profile is not understood here: take that of recipes/accelerate/fsdp2.yaml"
            )
    return told.reshard_after_forward


@contextmanager
def unseen_by_accelerate() -> Iterator[None]:
    """An Accelerator that is made in here leaves the weights alone."""
    told = {name: os.environ.pop(name) for name in (FSDP, SIZES) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(told)


def blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks that a network repeats, in their order: the outermost lists of modules that are of one class and have
    parts themselves."""
    found = []
    for child in network.children():
        items = list(child.children())
        lists = isinstance(child, nn.ModuleList | nn.Sequential) and len({type(item) for item in items}) == 1
        alike = lists and not isinstance(items[0], nn.ModuleList | nn.Sequential) and any(items[0].children())
        found += items if alike else blocks(child)
    return found


def shard(model: nn.Module, layout: Layout, mesh: DeviceMesh, *, travels: torch.dtype | None = None) -> None:
    """Leaves each process its part of the weights of `model`, in place. Those of a block come together while it is at
    work, those outside of blocks during the whole forward and backward pass.

    travels: the type in which the weights of blocks are sent, and used: that of autocast, which would make a copy of
    what it casts itself. Not beside batch normalisation, whose statistics are float32. Gradients are summed in float32.
    Raises InputError for a network that has no blocks to share, no plan for tensor parallelism, or a loss that needs
    whole weights.
    """
    if getattr(model, "needs_whole_weights", False):
        raise InputError(
            "the loss has gradients of gradients, for which each process needs all weights: take the profile ddp.yaml, "
            "and not one that shares them (FSDP)"
        )
    units = blocks(model)
    if len(units) < 2:
        raise InputError(
            f"the network has {len(units)} blocks, so that sharding (FSDP) saves no memory: take the profile ddp.yaml"
        )
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # of images they are channels_last, which FSDP does not take
    if layout.tensor > 1:
        split_matrices(model, mesh["tp"])
    over = mesh["dp_replicate", "dp_shard"] if layout.replicas > 1 else mesh["dp_shard"]
    for unit in units:
        plain = any(isinstance(module, BATCH_NORMS) for module in unit.modules())
        policy = _policy(None if plain else travels)
        fully_shard(unit, mesh=over, reshard_after_forward=layout.reshard, mp_policy=policy)
    fully_shard(model, mesh=over, reshard_after_forward=False, mp_policy=_policy(None))
    _begin_alike(model, mesh)


@torch.no_grad()
def _begin_alike(model: nn.Module, mesh: DeviceMesh) -> None:
    """Machines of several kinds may draw first weights that differ in a bit; the first replica's hold."""
    for name in {"dp_replicate", "tp"} & set(mesh.mesh_dim_names):
        for parameter in model.parameters():
            if not _is_split(parameter, name):
                dist.broadcast(parameter.to_local(), group=mesh.get_group(name), group_src=0)


@torch.no_grad()
def same_gradients(model: nn.Module, mesh: DeviceMesh) -> None:
    """The processes of one batch compute the gradients of what they do not split alike, and on a GPU may differ in a
    bit, by which their weights would drift apart: all take the mean."""
    if "tp" not in mesh.mesh_dim_names:
        return
    alike = [p.grad.to_local() for p in model.parameters() if p.grad is not None and not _is_split(p, "tp")]
    together = torch.cat([gradient.flatten() for gradient in alike])
    dist.all_reduce(together, group=mesh.get_group("tp"))
    together /= mesh["tp"].size()
    for gradient, mean in zip(alike, together.split([gradient.numel() for gradient in alike]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The norm () of all gradients together, whole or in parts, of whatever processes."""
    by_mesh: dict[DeviceMesh | None, list[Tensor]] = {}
    for gradient in gradients:
        by_mesh.setdefault(getattr(gradient, "device_mesh", None), []).append(gradient)
    norms = [nn.utils.get_total_norm(alike) for alike in by_mesh.values()]
    return nn.utils.get_total_norm([norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms])


def _is_split(parameter: DTensor, name: str) -> bool:
    """Whether each process of that dimension has another part."""
    placed = dict(zip(parameter.device_mesh.mesh_dim_names, parameter.placements, strict=True))
    return name in placed and not isinstance(placed[name], Replicate)


def _policy(travels: torch.dtype | None) -> MixedPrecisionPolicy:
    return MixedPrecisionPolicy(param_dtype=travels, reduce_dtype=torch.float32, cast_forward_inputs=False)


class Sharded(nn.Module):
    """A sharded model at its training, as DistributedDataParallel is one that each process has whole: buffers, such as
    running statistics, are those of the first process, and autocast is `autocast()`."""

    def __init__(self, module: nn.Module, autocast=nullcontext):
        super().__init__()
        self.module, self.autocast = module, autocast
        saved = module.state_dict()
        self.of_first = [buffer for name, buffer in module.named_buffers() if name in saved]

    def forward(self, *args, **kwargs):
        """As of the model."""
        if self.training:
            broadcast(self.of_first)
        with self.autocast():
            return self.module(*args, **kwargs)


@torch.no_grad()
def broadcast(tensors: list[Tensor]) -> None:
    """Gives all processes what the first has."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        together = torch.cat([tensor.flatten() for tensor in alike])
        dist.broadcast(together, 0)
        for tensor, values in zip(alike, together.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(values.view_as(tensor))


def without_weights(model: nn.Module) -> nn.Module:
    """A copy whose parameters have a shape and no numbers."""
    return copy.deepcopy(model, {id(p): _parameter(p, torch.empty_like(p, device="meta")) for p in model.parameters()})


@torch.no_grad()
def whole(sharded: nn.Module, empty: nn.Module) -> nn.Module | None:
    """The model with all its weights, on the CPU, in the first process; None in the others, which help. All call it.

    empty: what the model was before, `without_weights`.
    """
    memo, first = {}, dist.get_rank() == 0
    for place, part in zip(empty.parameters(), sharded.parameters(), strict=True):
        full = part.full_tensor() if isinstance(part, DTensor) else part
        if first:
            memo[id(place)] = _parameter(part, full.cpu().clone())
    if not first:
        return None
    model = copy.deepcopy(empty, memo).cpu()
    for buffer, now in zip(model.buffers(), sharded.buffers(), strict=True):
        buffer.copy_(now)
    return model.train(sharded.training)


def _parameter(like: nn.Parameter, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=like.requires_grad)
