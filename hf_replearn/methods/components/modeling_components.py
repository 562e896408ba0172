"""One linear map and the one that undoes it as well as can be: principal or independent components.

N inputs, D numbers of each, K components
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.fitted import FittedModel

from .configuration_components import ComponentsConfig


class ComponentsModel(FittedModel):
    """z = W (x - mean), and x' = A z + mean. components: W (K, D). mixing: Aᵀ (K, D), of principal components W
    itself, unless these are scaled."""

    config_class = ComponentsConfig
    signed = True

    def __init__(self, config: ComponentsConfig):
        super().__init__(config)
        self.components = nn.Parameter(torch.zeros(config.components, config.inputs))
        self.mixing = nn.Parameter(torch.zeros(config.components, config.inputs))
        self.post_init()

    def code(self, inputs: Tensor) -> Tensor:
        """(N, D), centred -> (N, K)"""
        return inputs @ self.components.T

    def decode(self, codes: Tensor) -> Tensor:
        """(N, K) -> (N, D), centred: the inputs told from their codes."""
        return codes @ self.mixing

    def filters(self) -> Tensor:
        """(K, D): what a component adds to an input."""
        return self.mixing


__all__ = ["ComponentsModel"]
