"""Checkpoints of which each process writes its part: safetensors files with the place of each part in the whole, so
that any number of processes can go on with them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from transformers import PreTrainedModel

from hf_replearn.errors import InputError

WEIGHTS, OPTIMIZER = "weights", "optimizer"  # folders of a checkpoint
NUMBER = "()"  # ends the names of tensors without a dimension, which the files cannot tell in parts


def is_sharded(checkpoint: str | Path) -> bool:
    return Path(checkpoint, WEIGHTS).is_dir()


def save_sharded(checkpoint: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Writes the weights and the optimizer's state. All processes call it; the folder is one that they share.

    Raises torch's CheckpointException where a process cannot write.
    """
    for folder, tensors in ((WEIGHTS, _weights(model)), (OPTIMIZER, _state(model, optimizer))):
        path = Path(checkpoint, folder)
        path.mkdir(parents=True, exist_ok=True)
        own = {name: _in_one_piece(x) for name, x in tensors.items() if isinstance(x, DTensor) or _is_first()}
        dcp.save(own, storage_writer=dcp.HuggingFaceStorageWriter(str(path), save_distributed=True))


@torch.no_grad()
def load_sharded_weights(checkpoint: str | Path, model: nn.Module) -> None:
    """Gives `model`, sharded in whatever way or whole, the weights and buffers of a checkpoint."""
    reader = dcp.HuggingFaceStorageReader(str(Path(checkpoint, WEIGHTS)))
    weights = _weights(model)
    pieces = {name: _in_one_piece(tensor) for name, tensor in weights.items()}
    _load(pieces, reader)
    for name, tensor in weights.items():
        if pieces[name] is not tensor:
            tensor.copy_(pieces[name].redistribute(placements=tensor.placements))


def load_sharded_optimizer(checkpoint: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Gives the optimizer of `model` the state of a checkpoint. What its groups say, such as rates, stays."""
    reader = dcp.HuggingFaceStorageReader(str(Path(checkpoint, OPTIMIZER)))
    about = reader.read_metadata().state_dict_metadata
    named = _named(model, optimizer)
    found = {
        key: _room(tensor, weight, key) for name, weight in named for key, tensor in about.items() if _is_of(key, name)
    }
    _load(found, reader)
    state = {}
    for number, (name, weight) in enumerate(named):
        of_weight = {key: value for key, value in found.items() if _is_of(key, name)}
        if of_weight:
            state[number] = {
                key.rpartition("/")[2].removesuffix(NUMBER): _as_in_training(value, weight, key)
                for key, value in of_weight.items()
            }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


@torch.no_grad()
def load_whole_weights(checkpoint: str | Path, model: nn.Module) -> None:
    """Gives a sharded model the weights and buffers of a checkpoint that one process wrote."""
    state = {}
    for path in sorted(Path(checkpoint).glob("*.safetensors")):
        state |= load_file(path)
    weights = _weights(model)
    if absent := [name for name in weights if name.removesuffix(NUMBER) not in state]:
        raise InputError(
            f"{checkpoint} has no weights {absent[0]!r} ({len(absent)} are missing): it is of another network"
        )
    for name, tensor in weights.items():
        tensor.copy_(_in_parts(state[name.removesuffix(NUMBER)].view(tensor.shape), tensor))


def load_whole_optimizer(checkpoint: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Gives the optimizer of a sharded model the state that one process wrote. What its groups say stays.

    Raises InputError where it cannot be told which state is of which weight.
    """
    saved = torch.load(Path(checkpoint, "optimizer.pt"), map_location="cpu", weights_only=True, mmap=True)
    named = _named(model, optimizer)
    if "state" not in saved or len({getattr(weight, "device_mesh", None) for _, weight in named}) > 1:
        raise InputError(
            f"{checkpoint} is of a run whose weights were not in parts, and cannot go on in these: go on so"
        )
    state = {
        number: {
            key: _in_parts(value, weight) if value.shape == weight.shape else value
            for key, value in saved["state"][number].items()
        }
        for number, (_, weight) in enumerate(named)
        if number in saved["state"]
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _in_parts(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of it, as it has of another."""
    if not isinstance(like, DTensor):
        return whole
    plain = [placed if isinstance(placed, Replicate) else Shard(placed.dim) for placed in like.placements]
    parts = distribute_tensor(whole.to(like.device), like.device_mesh, plain, src_data_rank=None)
    return parts.redistribute(placements=like.placements)


def model_of(checkpoint: str | Path, kind: type[PreTrainedModel]) -> PreTrainedModel:
    """The model of a checkpoint, whole, whether it was saved in parts or not."""
    if not is_sharded(checkpoint):
        return kind.from_pretrained(checkpoint, trust_remote_code=False)
    model = kind(kind.config_class.from_pretrained(checkpoint, trust_remote_code=False))
    load_sharded_weights(checkpoint, model)
    return model.eval()  # as from_pretrained


def _load(tensors: dict[str, Tensor], reader: dcp.StorageReader) -> None:
    """Fills the tensors, or this process's parts of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process needs none
        dcp.load(tensors, storage_reader=reader, no_dist=not dist.is_initialized())


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Each once, where several modules share it, and the buffers that are saved."""
    saved = model.state_dict()
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers()) if name in saved]
    return dict(_with_dimensions(name, saved[name]) for name in names)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    named = enumerate(_named(model, optimizer))
    each = ((name, state[number]) for number, (name, _) in named if number in state)
    return dict(_with_dimensions(f"{name}/{key}", value) for name, kept in each for key, value in kept.items())


def _named(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[str, nn.Parameter]]:
    """The parameters of an optimizer, in the order in which its state numbers them, and their names in the model."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    return [(names[id(weight)], weight) for group in optimizer.param_groups for weight in group["params"]]


def _with_dimensions(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    return (name, tensor.detach()) if tensor.ndim else (f"{name}{NUMBER}", tensor.detach().view(1))


def _is_of(key: str, name: str) -> bool:
    """Whether that is the name of a number of an optimizer's state of this weight."""
    return key.rpartition("/")[0] == name


def _room(about: dcp.TensorStorageMetadata, weight: nn.Parameter, key: str) -> Tensor:
    """What state of a weight is read into: in parts like it where it has its shape."""
    dtype = about.properties.dtype
    if about.size == weight.shape and not key.endswith(NUMBER):
        return _in_one_piece(torch.zeros_like(weight, dtype=dtype, requires_grad=False))
    return torch.zeros(about.size, dtype=dtype, device=weight.device)


def _as_in_training(value: Tensor, weight: nn.Parameter, key: str) -> Tensor:
    if key.endswith(NUMBER):
        return value.view(())
    return value.redistribute(placements=weight.placements) if isinstance(value, DTensor) else value


def _in_one_piece(tensor: Tensor) -> Tensor:
    """The same, where each process has one piece of it. By FSDP and tensor parallelism together a process may have
    several, of which the files would tell one."""
    if not isinstance(tensor, DTensor) or all(type(placed) in (Shard, Replicate) for placed in tensor.placements):
        return tensor
    placements = [placed if isinstance(placed, Replicate) else Shard(placed.dim) for placed in tensor.placements]
    return tensor.redistribute(placements=placements)


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0
