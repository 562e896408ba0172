"""One vector an example, of the last layer of an encoder or of all its layers.

B examples, T tokens, D features
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """A transformers encoder with one vector an example: a batch -> (B, D), or all layers beside one another
    (B, D0 + D1 + …), the last one last.

    how: "mean" over positions, of a text those of all tokens that are not padding, special ones included; "cls", the
         first position; "last", the last token that is not padding. Feature maps are averaged, whatever is asked, and
         the last layer of a timm encoder is what its own pooling makes of it.
    After a forward pass `widths` has the D of each layer.
    """

    def __init__(self, encoder: nn.Module, *, how: Literal["mean", "cls", "last"] = "mean", all_layers: bool = False):
        super().__init__()
        self.encoder, self.how, self.all_layers, self.widths = encoder, how, all_layers, []

    def forward(self, batch) -> Tensor:
        return torch.cat(self.layers(batch), dim=1)

    def layers(self, batch) -> list[Tensor]:
        """The features of each layer by themselves, (B, Dn); of the last one only, unless all are asked for."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        outputs = self.encoder(**inputs, output_hidden_states=self.all_layers)
        mask = inputs.get("attention_mask")
        states = [*(outputs.hidden_states[:-1] if self.all_layers else ()), outputs.last_hidden_state]
        pooled = [pool(state, mask, how=self.how) for state in states]
        if self.encoder.config.model_type == "timm_wrapper":
            pooled[-1] = outputs.pooler_output
        self.widths = [layer.shape[1] for layer in pooled]
        return pooled


def pool(states: Tensor, mask: Tensor | None = None, *, how: Literal["mean", "cls", "last"] = "mean") -> Tensor:
    """(B, T, D), padded on the right where the mask (B, T) is 0, or (B, D, H, W) -> (B, D); see Pooling."""
    if states.ndim == 4 or how == "mean":
        return mean_over_positions(states, mask)
    if how == "cls":
        return states[:, 0]
    last = mask.sum(dim=1) - 1 if mask is not None else torch.full((len(states),), states.shape[1] - 1)
    return states[torch.arange(len(states), device=states.device), last.to(states.device)]


def mean_over_positions(states: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, T, D), of which only those count that the mask (B, T) marks with 1, or (B, D, H, W) -> (B, D)."""
    if states.ndim == 4:
        return states.mean(dim=(2, 3))
    if mask is None:
        return states.mean(dim=1)
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


@torch.no_grad()
def measure_layers(pooling: Pooling, batch) -> list[int]:
    """The width of each layer that it gives."""
    pooling.eval()(batch.to(next(pooling.parameters()).device))
    return pooling.widths
