"""Texts to batches of tokens; for TSDAE with most of them taken out.

B rows, V texts a row, T tokens
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_replearn.randomness import Place, upload


@dataclass(frozen=True)
class DataCollatorForSentences:
    """Rows of texts -> tokens of all of them, padded on the right to the longest.

    columns: of the texts of a row. length: tokens kept of a text, special ones included. count: of views of each text,
    where a row has one.
    """

    tokenizer: PreTrainedTokenizerBase
    length: int
    columns: tuple[str, ...] = ("text",)
    count: int = 1

    def __call__(self, rows: Sequence[dict]) -> dict[str, Tensor]:
        """input_ids, attention_mask: (B, V, T). labels: (B, V), equal where texts are."""
        texts = [row[column] for row in rows for column in self.columns]
        tokens = self.tokens(texts)
        batch = {name: tokens[name].unflatten(0, (len(rows), -1)) for name in ("input_ids", "attention_mask")}
        return batch | {"labels": torch.tensor([number_of(text) for text in texts]).unflatten(0, (len(rows), -1))}

    def tokens(self, texts: list[str], **more) -> dict[str, Tensor]:
        return self.tokenizer(
            texts,
            truncation=True,
            max_length=self.length,
            padding=True,
            padding_side="right",
            return_token_type_ids=False,
            return_attention_mask=True,
            return_tensors="pt",
            **more,
        )

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """The batch, each text of which goes through the network `count` times."""
        return {name: column.repeat(1, self.count, *[1] * (column.ndim - 2)) for name, column in batch.items()}


@dataclass(frozen=True)
class DataCollatorForDenoising(DataCollatorForSentences):
    """For TSDAE. delete: the share of the tokens that are taken out, special ones apart; one at least is left."""

    delete: float = 0.6

    def __call__(self, rows: Sequence[dict]) -> dict[str, Tensor]:
        """input_ids, attention_mask, special: (B, T)."""
        tokens = self.tokens([row["text"] for row in rows], return_special_tokens_mask=True)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")} | {
            "special": tokens["special_tokens_mask"].bool()
        }

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """input_ids, attention_mask: (B, T) of what is left; whole, whole_mask: (B, T) of all."""
        tokens, mask = batch["input_ids"], batch["attention_mask"]
        drawn = upload(torch.rand(tokens.shape, generator=place.generator()), tokens.device)
        inner = mask.bool() & ~batch["special"]
        kept = mask.bool() & (~inner | (drawn >= self.delete))
        luckiest = drawn.masked_fill(~inner, -1).argmax(1, keepdim=True)
        kept |= torch.zeros_like(kept).scatter(1, luckiest, True) & inner
        order = (~kept).int().argsort(dim=1, stable=True)
        left = kept.gather(1, order)
        tokens = tokens.gather(1, order).masked_fill(~left, self.tokenizer.pad_token_id)
        if tokens.device.type == "cpu":  # the host would wait for a GPU
            longest = int(left.sum(1).max())
            tokens, left = tokens[:, :longest], left[:, :longest]
        return {"input_ids": tokens, "attention_mask": left.long()} | {
            "whole": batch["input_ids"],
            "whole_mask": mask,
        }


def number_of(text: str) -> int:
    """A number of 63 bits that is the text's own."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
