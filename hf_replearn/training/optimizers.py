"""Optimizers and learning-rate rules of pretraining. LARS itself is timm's, AdamW and Muon are torch's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.distributed as dist
from timm.optim import Lars
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from hf_replearn.errors import InputError
from hf_replearn.training.settings import has_bf16


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices and filters with weight decay; norms, biases and other vectors without (paper, appendix B.1)."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def lars(model: nn.Module, lr: float, *, weight_decay: float, momentum: float = 0.9) -> torch.optim.Optimizer:
    """LARS (You et al. 2017) with trust coefficient 0.001; norms and biases get neither decay nor trust ratio."""
    matrices, vectors = parameter_groups(model, weight_decay)
    matrices["always_adapt"] = True  # timm ties the trust ratio to a decay that is not zero
    return Lars([matrices, vectors], lr=lr, momentum=momentum, trust_coeff=0.001)


def sgd(model: nn.Module, lr: float, *, weight_decay: float, momentum: float = 0.9) -> torch.optim.Optimizer:
    """SGD with momentum; norms and biases get no decay."""
    return torch.optim.SGD(parameter_groups(model, weight_decay), lr=lr, momentum=momentum)


def adamw(
    model: nn.Module, lr: float, *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    """AdamW; norms and biases get no decay."""
    groups = parameter_groups(model, weight_decay)
    return torch.optim.AdamW(
        [g | {"params": p} for g in groups for p in by_mesh(g["params"])], lr=lr, betas=betas, fused=True
    )


def by_mesh(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Lists of those that the same processes share: torch takes a step of one list at once, and no mixture."""
    found: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in parameters:
        found.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
    return list(found.values()) or [[]]


@torch.no_grad()
def unchanged_where(flag: Tensor, tensors: list[Tensor], before: list[Tensor]) -> None:
    """Gives `tensors` the values that they had `before`, where `flag` (), on their device, is 1."""
    for tensor, earlier in zip(map(_local, tensors), map(_local, before), strict=True):
        tensor.copy_(torch.where(flag > 0, earlier, tensor))


def leave_out(optimizer: torch.optim.Optimizer, flag: Tensor) -> None:
    """Where `flag` (), on the device, is 1, the next step of `optimizer` will change neither weights nor state; the
    host need not know. To be called before each step.

    Fused AdamW, which takes the flag from torch's GradScaler too, and our Muon see to it. Others are given back what
    they had: it takes their memory once more.
    """
    for part in getattr(optimizer, "optimizers", [optimizer]):
        fused = isinstance(part, torch.optim.Adam) and all(group["fused"] for group in part.param_groups)
        if fused or isinstance(part, BatchedMuon):
            part.found_inf = flag
        else:
            _give_back_after_step(part, flag)


def _give_back_after_step(optimizer: torch.optim.Optimizer, flag: Tensor) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    before = [(weight.detach().clone(), _tensors(optimizer.state[weight])) for weight in weights]
    before = [(earlier, {name: value.clone() for name, value in state.items()}) for earlier, state in before]

    def give_back(*_) -> None:
        hook.remove()
        for weight, (earlier, state) in zip(weights, before, strict=True):
            now = _tensors(optimizer.state[weight])  # a momentum that begins in this step would have begun with 0
            earlier = [earlier, *(state[name] if name in state else torch.zeros_like(now[name]) for name in now)]
            unchanged_where(flag, [weight, *now.values()], earlier)

    hook = optimizer.register_step_post_hook(give_back)


def _tensors(state: dict) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


class Together(torch.optim.Optimizer):
    """Several optimizers, each of its own parameters, as one."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]):
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Groups and state of the whole are those of the parts: who changes them here changes them there."""
        groups = iter(self.param_groups)
        for optimizer in self.optimizers:
            optimizer.state = self.state
            optimizer.param_groups = [next(groups) for _ in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure=None):
        """One step of each."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict) -> None:
        """That of the whole, or those of the parts one by one, as earlier checkpoints have them."""
        super().load_state_dict(_one_state(state_dict["optimizers"]) if "optimizers" in state_dict else state_dict)
        self._share()


def _one_state(parts: list[dict]) -> dict:
    """The state dicts of several optimizers as that of one, whose parameters are numbered on from part to part."""
    whole, before = {"state": {}, "param_groups": []}, 0
    for part in parts:
        whole["state"] |= {before + number: state for number, state in part["state"].items()}
        groups = [group | {"params": [before + number for number in group["params"]]} for group in part["param_groups"]]
        whole["param_groups"] += groups
        before += sum(len(group["params"]) for group in groups)
    return whole


class BatchedMuon(torch.optim.Muon):
    """torch's Muon, where all matrices of one shape are orthogonalised at once: a GPU computes one product of many
    matrices many times faster than many products.

    Each of several processes orthogonalises its share, and all get all results. Matrices of which each process holds a
    part (FSDP2) are gathered for it; weights and momenta stay parts. The Newton-Schulz steps are in bfloat16, as
    torch's, but in float32 on a CPU that lacks it, where they would take 50 times as long.
    """

    AT_ONCE = 1 << 26  # numbers in the matrices of one product: each copy of them takes 128 MiB
    found_inf: Tensor | None = None  # (), 1 on the device where the step must change nothing, as of AdamW

    @torch.no_grad()
    def step(self, closure=None):
        """One step. Raises InputError for matrices that are neither whole nor split along one dimension."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            alike: dict[tuple, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault((matrix.shape, getattr(matrix, "placements", None)), []).append(matrix)
            for matrices in alike.values():
                size = max(self.AT_ONCE // matrices[0].numel(), _processes())
                for first in range(0, len(matrices), size):
                    self._step(matrices[first : first + size], group)
        return loss

    def _step(self, matrices: list[nn.Parameter], group: dict) -> None:
        """One step of matrices that have one shape."""
        updates, like = torch.stack([self._update(matrix, group) for matrix in matrices]), matrices[0]
        updates = _gathered(updates, like) if isinstance(like, DTensor) else updates
        updates = _shared(partial(_orthogonal, group=group), updates)
        updates = _own_part(updates, like) if isinstance(like, DTensor) else updates
        rate = group["lr"] * get_lr_scale(like.shape, group["adjust_lr_fn"])
        kept = 1 - group["lr"] * group["weight_decay"]
        if self.found_inf is not None:
            kept = torch.where(self.found_inf > 0, 1.0, kept)
            updates = updates.masked_fill(self.found_inf > 0, 0.0)
        for matrix, update in zip(map(_local, matrices), updates, strict=True):
            matrix.mul_(kept)
            matrix.add_(update, alpha=-rate)

    def _update(self, matrix: nn.Parameter, group: dict) -> Tensor:
        """What is to be orthogonalised, of this process's part of a matrix. The momentum takes its step."""
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix.grad)
        gradient, momentum = _local(matrix.grad), _local(state["momentum_buffer"])
        if self.found_inf is not None:
            gradient = torch.where(self.found_inf > 0, momentum, gradient)
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        return update.to(torch.bfloat16 if has_bf16(matrix.device.type) else torch.float32)


def _orthogonal(matrices: Tensor, *, group: dict) -> Tensor:
    """U V' of the singular value decomposition U S V' of each matrix, roughly. matrices: (n, rows, columns)."""
    rule = partial(
        zeropower_via_newtonschulz,
        steps=group["ns_steps"],
        coefficients=[group["ns_coefficients"]],
        eps=group["eps"],
        dtype=matrices.dtype,
    )
    on_cpu = matrices.device.type == "cpu"  # whose caches hold one matrix
    return torch.stack([rule(matrix) for matrix in matrices]) if on_cpu else rule(matrices)


def _shared(compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """compute(rows), a share of it in each process. rows: (n, ...), the same in all processes."""
    if _processes() == 1:
        return compute(rows)
    each = -(-len(rows) // _processes())
    own, computed = rows[dist.get_rank() * each :][:each], rows.new_zeros(each, *rows.shape[1:])
    if len(own):
        computed[: len(own)] = compute(own)
    gathered = rows.new_empty(_processes() * each, *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, computed)
    return gathered[: len(rows)]


def _processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _gathered(parts: Tensor, like: DTensor) -> Tensor:
    """Whole matrices (n, rows, columns) from this process's parts of them, which are split as those of `like`."""
    rows, columns = like.shape
    about = {"shape": torch.Size([len(parts), rows, columns]), "stride": (rows * columns, columns, 1)}
    return DTensor.from_local(parts, like.device_mesh, _of_a_stack(like), run_check=False, **about).full_tensor()


def _own_part(whole: Tensor, like: DTensor) -> Tensor:
    """The other way."""
    everywhere = [Replicate()] * like.device_mesh.ndim
    whole = DTensor.from_local(whole, like.device_mesh, everywhere, run_check=False)
    return whole.redistribute(placements=_of_a_stack(like)).to_local()


def _of_a_stack(like: DTensor) -> list[Placement]:
    """How a stack of matrices is split, each as `like`."""
    for placement in like.placements:
        if type(placement) not in (Shard, Replicate):
            raise InputError(f"Muon needs whole matrices, and these are split as {placement}: take --optimizer adamw")
    return [Shard(split.dim + 1) if isinstance(split, Shard) else split for split in like.placements]


def muon(
    model: nn.Module,
    lr: float,
    *,
    matrices: list[nn.Parameter],
    muon_lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.95,
) -> torch.optim.Optimizer:
    """Muon (Jordan 2024: momentum, orthogonalised by Newton-Schulz steps) for `matrices`, AdamW for all the rest.

    lr: of AdamW, which decays no weights. muon_lr: of Muon, its updates scaled to the size of AdamW's, so that one
    rate fits matrices of all shapes (Liu et al. 2025, arXiv:2502.16982).
    Raises InputError for matrices that are neither whole nor split along one dimension.
    """
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    about = {"weight_decay": weight_decay, "momentum": momentum, "adjust_lr_fn": "match_rms_adamw"}
    for matrix in matrices:
        if isinstance(matrix, DTensor):
            _of_a_stack(matrix)
    groups = [{"params": alike} for alike in by_mesh(rest)]
    adam = torch.optim.AdamW(groups, lr=lr, betas=betas, weight_decay=0.0, fused=True)
    return Together([BatchedMuon(matrices, lr=muon_lr, **about), adam])
