"""What a language model says: words it puts into gaps, and how it goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_CHARACTER = "\ufffd"  # what decoders show for bytes that are no character


@torch.no_grad()
def fill_gaps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, length: int, best: int = 5
) -> list[dict]:
    """For each text its beginning with one token hidden, and the model's `best` guesses with their probabilities:

    {"before": text, "mask": as the tokenizer writes it, "after": text, "hidden": the token that was there,
     "guesses": [{"token", "chance"}, likeliest first]}

    A text may have a mask of its own, and then nothing was hidden; otherwise the token in its middle is.
    """
    model.eval()
    found = []
    for text in texts:
        start = beginning(tokenizer, text, tokens=min(length, 40) - 2)
        tokens = tokenizer(start, truncation=True, max_length=length, return_tensors="pt")["input_ids"]
        masks = (tokens[0] == tokenizer.mask_token_id).nonzero()[:, 0]
        place = int(masks[0]) if len(masks) else tokens.shape[1] // 2
        gap = {} if len(masks) else {"hidden": _shown(tokenizer, tokens[0, place].item())}
        tokens[0, place] = tokenizer.mask_token_id
        chances = model(tokens.to(model.device)).logits[0, place].float().softmax(-1).cpu()
        known = sorted(number for number in tokenizer.get_vocab().values() if number < len(chances))
        values, places = chances[known].topk(min(best, len(known)))
        around = set(tokenizer.all_special_ids) - {tokenizer.mask_token_id}
        plain = tokenizer.decode([token for token in tokens[0].tolist() if token not in around])
        before, _, after = plain.partition(tokenizer.mask_token)
        gap |= {"before": _one_line(before), "mask": tokenizer.mask_token, "after": _one_line(after)}
        gap["guesses"] = [
            {"token": _shown(tokenizer, known[i]), "chance": p}
            for p, i in zip(values.tolist(), places.tolist(), strict=True)
        ]
        found.append(gap)
    return found


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
) -> list[dict]:
    """The first words of each text, `prompt` tokens at most, and what the model samples after them:

    {"before": text, "goes_on": text}
    """
    model.eval()
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for text in texts:
            first = beginning(tokenizer, text, tokens=prompt)
            start = tokenizer(first, return_tensors="pt", truncation=True, max_length=2 * prompt)["input_ids"]
            start = _without_end(tokenizer, start).to(model.device)
            made = model.generate(
                start,
                attention_mask=torch.ones_like(start),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                max_new_tokens=tokens,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            )[0, start.shape[1] :]
            rest = printable(tokenizer.decode(made, skip_special_tokens=True))
            if len(made) == tokens:  # it was stopped, maybe in the middle of a word
                rest = f"{whole_words(rest)} …"
            found.append({"before": printable(first), "goes_on": rest or "(the text ends)"})
    return found


def as_text(said: Sequence[dict]) -> str:
    """What `fill_gaps` or `go_on` found, as plain text."""
    if said and "goes_on" in said[0]:
        lines = ['The beginning of a text, and after " | " what the model goes on with (drawn at random).']
        return "\n".join([*lines, *(f"{text['before']} | {text['goes_on']}" for text in said)])
    masks = ", ".join(dict.fromkeys(gap["mask"] for gap in said))
    lines = [f"The beginning of a text with one token hidden, {masks}, and the likeliest tokens for it."]
    for gap in said:
        guesses = ", ".join(f"{guess['token']} {guess['chance']:.0%}" for guess in gap["guesses"])
        hidden = f"; hidden was {gap['hidden']}" if "hidden" in gap else ""
        lines.append(f"{gap['before']}{gap['mask']}{gap['after']}\n    {guesses}{hidden}")
    return "\n".join(lines)


def beginning(tokenizer: PreTrainedTokenizerBase, text: str, *, tokens: int) -> str:
    """The whole words that a text begins with, `tokens` tokens at most; all of a text that is as short."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) <= tokens:
        return text
    return whole_words(tokenizer.decode(ids[:tokens]).rstrip(NO_CHARACTER))


def printable(text: str) -> str:
    """On one line, without control characters and bytes that are no character."""
    words = text.replace(NO_CHARACTER, "").split()
    return " ".join("".join(filter(str.isprintable, word)) for word in words)


def _one_line(part: str) -> str:
    """As `printable`, but for a space at an end, which says that no word goes on there."""
    spaces = [" " if part and edge.isspace() else "" for edge in (part[:1], part[-1:])]
    return f"{spaces[0]}{printable(part)}{spaces[1]}" if part.strip() else ""


def whole_words(text: str) -> str:
    """A text that was cut, without its last word, of which a part may be missing; where it has no spaces, all of it."""
    head = text.rstrip().rpartition(" ")[0].rstrip()
    return head or text


def _shown(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as text, or its name in the vocabulary where it is white space or a part of a character."""
    text = tokenizer.decode([token]).strip()
    return text if text and NO_CHARACTER not in text else str(tokenizer.convert_ids_to_tokens(token))


def _without_end(tokenizer: PreTrainedTokenizerBase, tokens: torch.Tensor) -> torch.Tensor:
    """(1, T) without the end-of-text that some tokenizers put behind a text, which goes on here."""
    last = tokens.shape[1] > 1 and tokens[0, -1].item() in (tokenizer.eos_token_id, tokenizer.sep_token_id)
    return tokens[:, :-1] if last else tokens
