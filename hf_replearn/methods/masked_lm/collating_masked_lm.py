"""Which tokens are hidden, and how (Devlin et al. 2019, section 3.1; Liu et al. 2019, section 4.1).

B rows, T tokens a row, n masked positions a row
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hf_replearn.losses import IGNORED
from hf_replearn.randomness import Place, content_uniform, upload

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
    placed: dict = field(default_factory=dict, init=False, repr=False, compare=False)  # what is known, by device

    def __call__(self, rows: list[dict]) -> dict[str, Tensor]:
        """Rows with `input_ids` (T) and `length` -> input_ids (B, T), length (B,), documents (B, T) where there are;
        else attention_mask (B, T) where a row is not full."""
        names = [name for name in ("input_ids", "length", "documents") if name in rows[0]]
        batch = {name: torch.from_numpy(np.array([row[name] for row in rows], np.int64)) for name in names}
        size = batch["input_ids"].shape[1]
        if "documents" not in batch and "length" in batch and (batch["length"] < size).any():
            batch["attention_mask"] = (torch.arange(size) < batch["length"][:, None]).long()
        return batch

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
        choice, kind, other = upload(draw, tokens.device).split([tokens.shape[1], most, most], dim=1)

        positions, chosen = self._choose(tokens, choice, most)  # (B, n), (B, n)
        labels = tokens.gather(1, positions)
        _, ordinary, _ = self._known(tokens.device)
        random = ordinary[(other * len(ordinary)).long().clamp(max=len(ordinary) - 1)]
        shown = torch.where(kind < MASK, self.mask_token_id, torch.where(kind < MASK + REPLACE, random, labels))
        views = {
            "input_ids": tokens.scatter(1, positions, torch.where(chosen, shown, labels)),
            "positions": positions,
            "labels": labels.masked_fill(~chosen, IGNORED),
        }
        return views | {name: batch[name] for name in ("documents", "attention_mask") if name in batch}

    def __getstate__(self) -> dict:
        """What goes to the processes of a loader: nothing that is on a GPU."""
        return vars(self) | {"placed": {}}

    def _known(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """`special`, the numbers of all other tokens, and `starts_word`, on a device, where they are brought once."""
        if device not in self.placed:
            parts = (self.special, (~self.special).nonzero()[:, 0], self.starts_word)
            self.placed[device] = tuple(None if part is None else part.to(device) for part in parts)
        return self.placed[device]

    def _counts(self, tokens: Tensor) -> Tensor:
        ordinary = (~self._known(tokens.device)[0][tokens]).sum(1)
        return (self.rate * ordinary).round().long().clamp(min=1).minimum(ordinary)  # (B,)

    def _choose(self, tokens: Tensor, choice: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The positions (B, n) with the smallest of the drawn numbers (B, T), and which of them are hidden (B, n)."""
        special, _, starts_word = self._known(tokens.device)
        ordinary = ~special[tokens]  # (B, T)
        if starts_word is not None:  # all tokens of a word share a number
            first = starts_word[tokens] | ~ordinary
            choice = choice.gather(1, first.long().cumsum(1).clamp(max=tokens.shape[1] - 1))
        ranked = choice.masked_fill(~ordinary, 2.0).sort(dim=1, stable=True)
        counts = self._counts(tokens)[:, None]
        chosen = torch.arange(most, device=tokens.device) < counts
        if starts_word is not None:  # no word is hidden in part
            following = ranked.values.gather(1, counts.clamp(max=tokens.shape[1] - 1))
            chosen = chosen & (ranked.values[:, :most] != following)
        return ranked.indices[:, :most], chosen
