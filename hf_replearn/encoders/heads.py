"""Heads to learn a task with, always fresh."""

from __future__ import annotations

import torch
from torch import nn

from hf_replearn.encoders.pooling import Pooling, measure_layers


class LayerClassifier(nn.Module):
    """A fresh linear map of the pooled features of one layer, below which everything can be fine-tuned.

    pooling: all layers of an encoder. layer: 0 is what stands before the first block; blocks after it stay as they are.
    batch:   one to learn the width of the layer from. outputs: classes, or 1 where labels are numbers.
    """

    accepts_loss_kwargs = False  # the loss is the mean of a batch

    def __init__(self, pooling: Pooling, *, layer: int, batch, outputs: int):
        super().__init__()
        self.pooling, self.layer = pooling, layer
        self.head = nn.Linear(measure_layers(pooling, batch)[layer], outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, labels: torch.Tensor, **inputs) -> dict[str, torch.Tensor]:
        logits = self.head(self.pooling.layers(inputs)[self.layer])
        if labels.is_floating_point():
            return {"loss": nn.functional.mse_loss(logits.squeeze(1), labels), "logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Logits(nn.Module):
    """A classifier of transformers as a map of batches (B, ...), labels left out, to logits (B, C)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, batch) -> torch.Tensor:
        found = self.network(**{name: tensor for name, tensor in batch.items() if name != "labels"})["logits"]
        return found[0] if isinstance(found, tuple) else found
