"""Weights in bfloat16, whose optimizer keeps them in float32."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Masters(torch.optim.Optimizer):
    """An optimizer of float32 copies of weights ("master weights", Micikevicius et al. 2018, arXiv:1710.03740), which
    then become bfloat16: the network computes with these, and they are set to the copies, rounded, after each step.

    bfloat16 has 8 bits of precision: a step of less than 1/512 of a weight would be lost in it, as most steps are.
    Gradients are bfloat16, their moments float32.

    optimizer: of float32 weights, before its first step. Its state, and with it the copies ("master" of each weight),
    is that of the whole: what is saved goes on with the same bits.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.inner, self.optimizers = optimizer, getattr(optimizer, "optimizers", [optimizer])
        self.weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.masters = [nn.Parameter(weight.detach().float().clone()) for weight in self.weights]
        super().__init__([dict(group) for group in optimizer.param_groups], {})
        masters = iter(self.masters)
        for group in optimizer.param_groups:
            group["params"] = [next(masters) for _ in group["params"]]
        to_bfloat16(self.weights)

    @torch.no_grad()
    def step(self, closure=None):
        """One step of the copies, which the weights follow. Weights without a gradient stay."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        self._tell(self.param_groups, self.inner.param_groups)
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
        self.inner.step()
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad = None
            weight.copy_(master)
        return loss

    def state_dict(self) -> dict:
        """As of any optimizer; the state of each weight has its `master` too."""
        self._tell(self.param_groups, self.inner.param_groups)
        saved = self.inner.state_dict()
        state = {n: {**saved["state"].get(n, {}), "master": m.detach()} for n, m in enumerate(self.masters)}
        return {**saved, "state": state}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict) -> None:
        """What was saved. A run that began with float32 weights has no copies: those made of them stay."""
        state = {number: dict(kept) for number, kept in state_dict["state"].items()}
        for number, master in enumerate(self.masters):
            master.copy_(state.get(number, {}).pop("master", master))
        state = {number: kept for number, kept in state.items() if kept}  # an optimizer takes what is empty for begun
        self.inner.load_state_dict({**state_dict, "state": state})
        self._tell(self.inner.param_groups, self.param_groups)
        for weight, master in zip(self.weights, self.masters, strict=True):
            weight.copy_(master)

    @staticmethod
    def _tell(some: list[dict], others: list[dict]) -> None:
        """Learning rates and the like of some groups to others."""
        for group, other in zip(some, others, strict=True):
            other.update({name: value for name, value in group.items() if name != "params"})


def to_bfloat16(weights: Iterable[Tensor]) -> None:
    """Makes weights bfloat16 in place. Not buffers: rotary positions, among others, need their precision."""
    for weight in weights:
        weight.data = weight.data.bfloat16()
