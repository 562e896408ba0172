"""From texts to tokens: where a context ends and its continuation begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting.scoring import Request

TRIALS = ("1", "a b", "0 1 2", "é. 中", "x\ny")  # texts of which a tokenizer knows at least one


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
    What the tokenizer puts before a text stands there once, whether or not the text brings it; what it puts behind a
    text, such as [SEP] or end-of-text, is left out: a context goes on.
    An empty context is what stands before every text, or else the beginning-of-text or the end-of-text token.
    """
    start_of_text = before_texts(tokenizer)
    split = [_move_space(prompt) for prompt in prompts]
    contexts = _encode(tokenizer, [context for context, _ in split], before=start_of_text)
    joined = [context + text for context, texts in split if context for text in texts]
    together = iter(_encode(tokenizer, joined, before=start_of_text))
    requests, apart = [], []
    for number, ((context, texts), start) in enumerate(zip(split, contexts, strict=True)):
        if not context:
            requests.append(Request(start_of_text or [_beginning(tokenizer)], _encode(tokenizer, texts)))
            continue
        continuations = []
        for text in texts:
            whole = next(together)
            if len(whole) > len(start) and whole[: len(start)] == start:
                continuations.append(whole[len(start) :])
            else:
                continuations.append(_inside(tokenizer, text))
                apart += [number] * (apart[-1:] != [number])
        requests.append(Request(start or start_of_text or [_beginning(tokenizer)], continuations))
    return requests, apart


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Without what the tokenizer puts around a text."""
    return len(_encode(tokenizer, [text])[0])


def before_texts(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that a tokenizer puts before every text: none, or its beginning-of-text.

    Raises InputError where what it puts around a text cannot be told from the text.
    """
    if not tokenizer.num_special_tokens_to_add(pair=False):
        return []
    found = None
    for text in TRIALS:
        framed, bare = (tokenizer(text, add_special_tokens=special)["input_ids"] for special in (True, False))
        if not bare:
            continue
        added = len(framed) - len(bare)
        places = {place for place in range(added + 1) if framed[place : place + len(bare)] == bare}
        fronts = {tuple(framed[:place]) for place in places}
        found = fronts if found is None else found & fronts
        if len(found) == 1:
            return list(next(iter(found)))
    raise InputError(
        f"the tokenizer ({type(tokenizer).__name__}) changes a text where it adds special tokens, so that it cannot be "
        "told where a prompt ends: use a model whose tokenizer only puts tokens before and behind a text"
    )


def _beginning(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise InputError(
        "a prompt is empty and the tokenizer has neither a beginning-of-text nor an end-of-text token to stand for it: "
        "give the task a description"
    )


def _move_space(prompt: Prompt) -> tuple[str, list[str]]:
    context = prompt.context.rstrip()
    return context, [prompt.context[len(context) :] + text for text in prompt.continuations]


def _inside(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a text that does not begin one: SentencePiece puts a space before the first word of a text."""
    line, both = _encode(tokenizer, ["\n", "\n" + text])
    return both[len(line) :] if line and len(both) > len(line) and both[: len(line)] == line else _bare(tokenizer, text)


def _bare(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return _encode(tokenizer, [text])[0]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, before: Sequence[int] = ()) -> list[list[int]]:
    """before: tokens to stand at the beginning, unless a text has them already."""
    before = list(before)
    return [ids if before and ids[: len(before)] == before else before + ids for ids in _tokens(tokenizer, texts)]


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Iterator[list[int]]:
    if texts:
        plain = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        yield from tokenizer(list(texts), **plain, verbose=False)["input_ids"]
