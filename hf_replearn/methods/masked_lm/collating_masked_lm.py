"""Which tokens are hidden, and how (Devlin et al. 2019, section 3.1; Liu et al. 2019, section 4.1).

B rows, T tokens a row, n masked positions a row
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_replearn.losses import IGNORED
from hf_replearn.randomness import Place, content_uniform

MASK, REPLACE = 0.8, 0.1  # of the chosen tokens; the others stay as they are


@dataclass(frozen=True)
class DataCollatorForMaskedLM:
    """The worker's half stacks rows of one length; the training device's half hides tokens.

    mask_token_id: what is put in place of most hidden tokens.
    special:       (V,) bool, the tokens that are never hidden and never drawn as a replacement; padding among them.
    rate:          share of the tokens of a row, special ones not counted, that is hidden.
    dynamic:       True draws other masks at every step (RoBERTa); False: those of a row are always the same (BERT).
    starts_word:   (V,) bool, the tokens that begin a word: whole words are hidden; None: single tokens.
    seed:          of masks that are always the same.
    """

    mask_token_id: int
    special: Tensor
    rate: float = 0.15
    dynamic: bool = True
    starts_word: Tensor | None = None
    seed: int = 0

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """Rows with `input_ids` (T) and `length` -> input_ids (B, T), length (B,), documents (B, T) where there are."""
        names = [name for name in ("input_ids", "length", "documents") if name in rows[0]]
        return {name: torch.from_numpy(np.array([row[name] for row in rows], np.int64)) for name in names}

    def targets(self, batch: dict[str, Tensor]) -> Tensor:
        """How many tokens of the batch will be hidden; with whole words a few less."""
        return self._counts(batch["input_ids"]).sum()

    def views(self, batch: dict[str, Tensor], place: Place | None = None) -> dict[str, Tensor]:
        """input_ids (B, T) with hidden tokens, positions (B, n) and labels (B, n) of these, always round(rate T) a row;
        labels -100 where a row has fewer. What is drawn depends on the seed, the step and the row's place in the global
        batch, not on how many processes share it; with `dynamic` false on the row's content alone."""
        tokens = batch["input_ids"]
        most = max(1, round(self.rate * tokens.shape[1]))
        numbers = tokens.shape[1] + 2 * most
        draw = place.uniform(len(tokens), numbers) if self.dynamic else content_uniform(self.seed, tokens, numbers)
        choice, kind, other = draw.to(tokens.device).split([tokens.shape[1], most, most], dim=1)

        positions, chosen = self._choose(tokens, choice, most)  # (B, n), (B, n)
        labels = tokens.gather(1, positions)
        ordinary = (~self.special).nonzero()[:, 0].to(tokens.device)
        random = ordinary[(other * len(ordinary)).long().clamp(max=len(ordinary) - 1)]
        shown = torch.where(kind < MASK, self.mask_token_id, torch.where(kind < MASK + REPLACE, random, labels))
        views = {
            "input_ids": tokens.scatter(1, positions, torch.where(chosen, shown, labels)),
            "positions": positions,
            "labels": labels.masked_fill(~chosen, IGNORED),
        }
        if "documents" in batch:
            views["documents"] = batch["documents"]
        elif "length" in batch and (batch["length"] < tokens.shape[1]).any():
            views["attention_mask"] = _before(batch["length"], tokens.shape[1])
        return views

    def _counts(self, tokens: Tensor) -> Tensor:
        ordinary = (~self.special.to(tokens.device)[tokens]).sum(1)
        return (self.rate * ordinary).round().long().clamp(min=1).minimum(ordinary)  # (B,)

    def _choose(self, tokens: Tensor, choice: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The positions (B, n) with the smallest of the drawn numbers (B, T), and which of them are hidden (B, n)."""
        ordinary = ~self.special.to(tokens.device)[tokens]  # (B, T)
        if self.starts_word is not None:  # all tokens of a word share a number
            first = self.starts_word.to(tokens.device)[tokens] | ~ordinary
            choice = choice.gather(1, first.long().cumsum(1).clamp(max=tokens.shape[1] - 1))
        ranked = choice.masked_fill(~ordinary, 2.0).sort(dim=1, stable=True)
        counts = self._counts(tokens)[:, None]
        chosen = torch.arange(most, device=tokens.device) < counts
        if self.starts_word is not None:  # no word is hidden in part
            following = ranked.values.gather(1, counts.clamp(max=tokens.shape[1] - 1))
            chosen = chosen & (ranked.values[:, :most] != following)
        return ranked.indices[:, :most], chosen


def _before(length: Tensor, size: int) -> Tensor:
    return (torch.arange(size, device=length.device) < length[:, None]).long()
