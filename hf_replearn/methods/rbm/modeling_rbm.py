"""Restricted Boltzmann machines, one on top of another, as the network of sigmoids that they are on the way up.

N inputs, V visible and H hidden units of a machine
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.fitted import FittedModel

from .configuration_rbm import RBMConfig


class Machine(nn.Module):
    """weight: (H, V). hidden, visible: biases (H,), (V,)."""

    def __init__(self, visible: int, hidden: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden, visible))
        self.hidden = nn.Parameter(torch.zeros(hidden))
        self.visible = nn.Parameter(torch.zeros(visible))


class RBMModel(FittedModel):
    """Features are the probabilities that the hidden units of the uppermost machine are on."""

    config_class = RBMConfig

    def __init__(self, config: RBMConfig):
        super().__init__(config)
        widths = [config.inputs, *config.lower_layers, config.components]
        self.machines = nn.ModuleList(Machine(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.post_init()

    def code(self, inputs: Tensor) -> Tensor:
        """(N, D) -> (N, K)"""
        for machine in self.machines:
            inputs = nn.functional.linear(inputs, machine.weight, machine.hidden).sigmoid()
        return inputs

    def decode(self, codes: Tensor) -> Tensor:
        """(N, K) -> (N, D): what the visible units are expected to be, from machine to machine down."""
        for place in reversed(range(len(self.machines))):
            codes = codes @ self.machines[place].weight + self.machines[place].visible
            codes = codes if place == 0 and self.config.visible == "gaussian" else codes.sigmoid()
        return codes

    def filters(self) -> Tensor:
        """(H, D): the weights of the lowest machine."""
        return self.machines[0].weight


__all__ = ["RBMModel"]
