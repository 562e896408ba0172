"""Free answers: greedy or sampled, several at a time behind the cache of what their contexts share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)  # fmt: skip

from hf_replearn.evaluation.prompting.scoring import NotFinite, cache_argument, count_shared, read_prefix
from hf_replearn.evaluation.prompting.shots import draw_seed

BATCH = 16


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[list[int]],
    *,
    keys: Sequence[tuple[Hashable, ...]],
    packed: bool = True,
    progress: Callable[[int], object] = int,
    **generation,
) -> list[str]:
    """What the model writes behind each context (tokens), up to the first of the texts `until`.

    keys: of each context's randomness; sampling is a function of it alone, whatever else is in the batch: the likeliest
        token after Gumbel noise of that key is a sample of the softmax (Gumbel 1954).
    packed: False runs every context on its own, without what the contexts share; see `why_not_packed`.
    generation: until, do_sample, temperature and max_gen_toks, as in a task file.
    """
    if not packed:
        return [
            generate(model, tokenizer, [context], keys=[key], progress=progress, **generation)[0]
            for context, key in zip(contexts, keys, strict=True)
        ]
    with torch.inference_mode():
        shared = count_shared(contexts)
        prefix = contexts[0][:shared]
        cache = read_prefix(model, prefix) if shared else None
    order = sorted(range(len(contexts)), key=lambda place: len(contexts[place]))
    texts: dict[int, str] = {}
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        sampler = _Gumbel([keys[place] for place in places], generation["temperature"])
        rest = [contexts[place][shared:] for place in places]
        start_from = copy.deepcopy(cache)
        if start_from is not None:
            start_from.batch_repeat_interleave(len(places))
        processors = LogitsProcessorList([_Finite(), *([sampler] if generation["do_sample"] else [])])
        made = _batch(model, tokenizer, prefix, rest, start_from, processors, generation)
        texts |= dict(zip(places, made, strict=True))
        progress(len(places))
    return [texts[place] for place in range(len(contexts))]


def _batch(model, tokenizer, prefix, rest, cache, processors, generation) -> list[str]:
    """Padding lies between the shared prefix, whose cache is there, and the rest of a context."""
    width = max(map(len, rest))
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ids = torch.tensor([prefix + [padding] * (width - len(tokens)) + tokens for tokens in rest], device=model.device)
    seen = torch.ones_like(ids)
    for row, tokens in enumerate(rest):
        seen[row, len(prefix) : len(prefix) + width - len(tokens)] = 0
    longest = ids.shape[1]
    with torch.inference_mode():
        made = model.generate(
            ids,
            attention_mask=seen,
            do_sample=False,
            num_beams=1,
            max_new_tokens=generation["max_gen_toks"],
            pad_token_id=padding,
            stopping_criteria=StoppingCriteriaList([_Until(tokenizer, generation["until"], longest)]),
            logits_processor=processors,
            use_cache=True,
            repetition_penalty=1.0,  # a checkpoint's own habits would make of the likeliest word another one
            no_repeat_ngram_size=0,
            **({} if cache is None else {cache_argument(model): cache}),
        )[:, longest:]
    texts = tokenizer.batch_decode(made, skip_special_tokens=True)
    return [_cut(text, generation["until"]) for text in texts]


def _cut(text: str, until: Sequence[str]) -> str:
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]


class _Until(StoppingCriteria):
    """A row is done when it holds one of the texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, until: Sequence[str], start: int):
        self.tokenizer, self.until, self.start = tokenizer, until, start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :])
        return torch.tensor([any(stop in text for stop in self.until) for text in texts], device=input_ids.device)


class _Finite(LogitsProcessor):
    """Lets nothing be chosen among numbers that are none."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not scores.amax(dim=1).isfinite().all():
            raise NotFinite("the logits of the next token are NaN or infinite")
        return scores


class _Gumbel(LogitsProcessor):
    """Adds noise to the logits so that their largest is a sample."""

    def __init__(self, keys: Sequence[tuple[Hashable, ...]], temperature: float):
        self.generators = [torch.Generator().manual_seed(draw_seed(*key)) for key in keys]
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.stack([torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in self.generators])
        gumbel = -(-uniform.clamp(min=1e-300).log()).log()
        return scores / self.temperature + gumbel.to(scores)
