"""Optimizers and learning-rate rules of pretraining. LARS itself is timm's, AdamW and Muon are torch's."""

from __future__ import annotations

import torch
from timm.optim import Lars
from timm.optim.muon import get_lr_scale, zeropower_via_newtonschulz
from torch import nn

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


def adamw(model: nn.Module, lr: float, *, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; norms and biases get no decay."""
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, fused=True)


class Together(torch.optim.Optimizer):
    """Several optimizers, each of its own parameters, as one."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]):
        self.optimizers = optimizers
        # The very groups of the parts: a scheduler that changes them here changes them there.
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})

    @torch.no_grad()
    def step(self, closure=None):
        """One step of each."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]


class Float32Muon(torch.optim.Muon):
    """torch's Muon with the Newton-Schulz steps in float32: bfloat16 is 50 times slower on a CPU that lacks it."""

    @torch.no_grad()
    def step(self, closure=None):
        """One step."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            matrices, gradients, momenta = [], [], []
            self._init_group(group, matrices, gradients, momenta)
            for matrix, gradient, momentum in zip(matrices, gradients, momenta, strict=True):
                momentum.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
                update = zeropower_via_newtonschulz(
                    update, group["ns_steps"], [group["ns_coefficients"]], eps=group["eps"], dtype=torch.float32
                )
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * get_lr_scale(matrix.shape, group["adjust_lr_fn"]))
        return loss


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
    """
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    make = torch.optim.Muon if has_bf16(matrices[0].device.type) else Float32Muon
    return Together(
        [
            make(matrices, lr=muon_lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=0.0, fused=True),
        ]
    )
