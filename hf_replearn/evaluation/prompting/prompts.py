"""From texts to tokens: where a context ends and its continuation begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from hf_replearn.evaluation.prompting.scoring import Request


@dataclass(frozen=True)
class Prompt:
    """A context and the continuations to score behind it, as texts."""

    context: str
    continuations: tuple[str, ...]


def encode(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> tuple[list[Request], list[int]]:
    """The tokens of each prompt, and the numbers of those with a continuation that had to be encoded apart.

    As in lm-evaluation-harness: white space at the end of a context moves to the continuation, context and continuation
    are encoded together, and what follows the tokens of the context alone is the continuation. Where a token would lie
    across the boundary, so that these are not the first tokens of the whole, the continuation is encoded apart.
    An empty context is the tokenizer's beginning-of-text token, or its end-of-text token.
    """
    split = [_move_space(prompt) for prompt in prompts]
    contexts = _encode(tokenizer, [context for context, _ in split])
    together = iter(_encode(tokenizer, [context + text for context, texts in split if context for text in texts]))
    requests, apart = [], []
    for number, ((context, texts), start) in enumerate(zip(split, contexts, strict=True)):
        if not context:
            first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
            requests.append(Request([first], _encode(tokenizer, texts, add_special_tokens=False)))
            continue
        continuations = []
        for text in texts:
            whole = next(together)
            if len(whole) > len(start) and whole[: len(start)] == start:
                continuations.append(whole[len(start) :])
            else:
                continuations += _encode(tokenizer, [text], add_special_tokens=False)
                apart += [number] * (apart[-1:] != [number])
        requests.append(Request(start, continuations))
    return requests, apart


def _move_space(prompt: Prompt) -> tuple[str, list[str]]:
    context = prompt.context.rstrip()
    return context, [prompt.context[len(context) :] + text for text in prompt.continuations]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **options) -> list[list[int]]:
    return (
        tokenizer(list(texts), return_attention_mask=False, return_token_type_ids=False, **options)["input_ids"]
        if texts
        else []
    )
