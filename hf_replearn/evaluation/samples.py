"""What a language model says: words it puts into gaps, and how it goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.no_grad()
def fill_gaps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, length: int, best: int = 5
) -> str:
    """For each text its beginning with one token hidden, and the model's `best` guesses with their probabilities."""
    model.eval()
    lines = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=min(length, 40), return_tensors="pt")["input_ids"]
        place = tokens.shape[1] // 2
        truth = tokens[0, place].item()
        tokens[0, place] = tokenizer.mask_token_id
        chances = model(tokens.to(model.device)).logits[0, place].float().softmax(-1).cpu()[: len(tokenizer)]
        guesses = [
            f"{tokenizer.decode([i]).strip()} {p:.0%}"
            for p, i in zip(*map(torch.Tensor.tolist, chances.topk(best)), strict=True)
        ]
        shown = tokenizer.decode(tokens[0]).replace("\n", " ")
        lines.append(f"{shown}\n    {', '.join(guesses)}; hidden was {tokenizer.decode([truth]).strip()}")
    return "\n".join(lines)


@torch.no_grad()
def go_on(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    prompt: int = 12,
    tokens: int = 40,
    temperature: float = 0.8,
    seed: int = 0,
) -> str:
    """The first `prompt` tokens of each text and, after a bar, what the model samples after them."""
    model.eval()
    lines = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for text in texts:
            start = tokenizer(text, return_tensors="pt", truncation=True, max_length=prompt)["input_ids"].to(
                model.device
            )
            made = model.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                max_new_tokens=tokens,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
            )[0]
            first, rest = (
                tokenizer.decode(part, skip_special_tokens=True)
                for part in made.split([start.shape[1], len(made) - start.shape[1]])
            )
            lines.append(f"{first} |{rest}".replace("\n", " "))
    return "\n".join(lines)
