"""Rows of text to tokens and what is to be told of them.

B rows, T tokens a row
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hf_replearn.losses import IGNORED
from hf_replearn.randomness import Place


class DataCollatorForCausalLM:
    """The worker's half stacks rows of one length; the training device's half derives labels and positions."""

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """Rows with `input_ids` (T) and `length` -> input_ids (B, T), length (B,), documents (B, T) where there are."""
        names = [name for name in ("input_ids", "length", "documents") if name in rows[0]]
        return {name: torch.from_numpy(np.array([row[name] for row in rows], np.int64)) for name in names}

    def targets(self, batch: dict[str, Tensor]) -> Tensor:
        """How many tokens of the batch are told from those before."""
        return (_labels(batch)[:, 1:] != IGNORED).sum()

    def views(self, batch: dict[str, Tensor], place: Place | None = None) -> dict[str, Tensor]:
        """input_ids (B, T), labels (B, T) and, where documents must not see each other, position_ids (B, T)."""
        views = {"input_ids": batch["input_ids"], "labels": _labels(batch)}
        if "documents" in batch:
            size = batch["documents"].shape[1]
            index = torch.arange(size, device=batch["documents"].device)
            views["position_ids"] = index - (index * _first(batch["documents"])).cummax(1).values
        return views


def _labels(batch: dict[str, Tensor]) -> Tensor:
    """The tokens, but for padding and the first of a document (that of the row has nothing before it anyway)."""
    tokens = batch["input_ids"]
    told = torch.arange(tokens.shape[1], device=tokens.device) < batch["length"][:, None]
    if "documents" in batch:
        told = told & ~_first(batch["documents"])
    return tokens.masked_fill(~told, IGNORED)


def _first(documents: Tensor) -> Tensor:
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return first
