"""Log-likelihoods of continuations: what prompts share is computed once, choices lie packed behind their context.

P tokens of the shared prefix, L tokens of a row, V words of the vocabulary
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from hf_replearn.errors import InputError

ROW_TOKENS = {"cpu": 256, "cuda": 2048}  # of one forward; more only where one document is longer
PACKING_ERROR = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}  # of the logits' SD


class NotFinite(InputError):
    """What a model says of a document is no number, so that it has no score."""


@dataclass(frozen=True)
class Request:
    """Tokens of a context (never empty) and of its continuations (none of them empty)."""

    context: list[int]
    continuations: list[list[int]]

    @property
    def longest(self) -> int:
        """Tokens that the model has to take: a continuation's last one is told, not read."""
        return len(self.context) + max(map(len, self.continuations)) - 1


@dataclass(frozen=True)
class Score:
    """ln P(continuation | context), its number of tokens, and whether greedy decoding would give it."""

    logprob: float
    tokens: int
    greedy: bool


def score(
    model: PreTrainedModel,
    requests: Sequence[Request],
    *,
    packed: bool = True,
    row_tokens: int | None = None,
    progress: Callable[[int], object] = int,
) -> list[list[Score]]:
    """A Score for every continuation of every request.

    The tokens with which all contexts begin are run once, as a cache of keys and values. Behind it a batch of one row
    holds the rest of several documents, each context followed by its choices: a token sees the prefix, its context and
    the earlier tokens of its own choice, at the position that it has in its own text. No padding, and logits only where
    a token is told.

    packed: False runs every context with every continuation on its own, without a cache; see `why_not_packed`. So are
        requests longer than the window of a model whose attention slides.
    row_tokens: size of a row; none: 256 on a CPU, 2048 on a GPU.
    progress: is told how many more requests are done.
    """
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    packed = packed and (window is None or max(request.longest for request in requests) <= window)
    found = []
    with torch.inference_mode():
        if packed:
            shared = count_shared([request.context for request in requests])
            cache = read_prefix(model, requests[0].context[:shared]) if shared else None
            for row in _rows(requests, shared, row_tokens or ROW_TOKENS.get(model.device.type, 2048)):
                found += _score_row(model, row, shared, cache)
                progress(len(row))
        else:
            for request in requests:
                found.append([_plain(model, request.context, tokens) for tokens in request.continuations])
                progress(1)
    return found


def count_shared(contexts: Sequence[list[int]]) -> int:
    """How many tokens several contexts all begin with, one less where one has no other: its last tells the next."""
    columns = zip(*(context[:-1] for context in contexts), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns)) if len(contexts) > 1 else 0


def read_prefix(model: PreTrainedModel, tokens: list[int]) -> DynamicCache:
    """The keys and values of tokens at the start of a text."""
    cache = DynamicCache()
    past = {cache_argument(model): cache}
    model(torch.tensor([tokens], device=model.device), **past, use_cache=True, logits_to_keep=1)
    return cache


def cache_argument(model: PreTrainedModel) -> str:
    """What `forward` calls the keys and values: past_key_values, since transformers 5.2x cache."""
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


def _rows(requests: Sequence[Request], shared: int, size: int) -> Iterator[list[Request]]:
    """Neighbouring requests whose unshared tokens together are at most `size`; at least one request."""
    row, used = [], 0
    for request in requests:
        length = len(request.context) - shared + sum(len(tokens) - 1 for tokens in request.continuations)
        if row and used + length > size:
            yield row
            row, used = [], 0
        row.append(request)
        used += length
    if row:
        yield row


def _score_row(
    model: PreTrainedModel, row: list[Request], shared: int, cache: DynamicCache | None
) -> list[list[Score]]:
    ids: list[int] = []
    positions: list[int] = []
    branches: list[tuple[int, int]] = []  # (document, 0 for its context, c for its c-th choice) of every token
    told: list[list[tuple[list[int], list[int]]]] = []  # places whose logits tell a continuation, and its tokens

    def append(tokens: list[int], start: int, branch: tuple[int, int]) -> list[int]:
        places = list(range(len(ids), len(ids) + len(tokens)))
        ids.extend(tokens)
        positions.extend(range(start, start + len(tokens)))
        branches.extend([branch] * len(tokens))
        return places

    for document, request in enumerate(row):
        last = append(request.context[shared:], shared, (document, 0))[-1]
        told.append(
            [
                ([last, *append(tokens[:-1], len(request.context), (document, choice))], tokens)
                for choice, tokens in enumerate(request.continuations, 1)
            ]
        )
    places = sorted({place for document in told for where, _ in document for place in where})
    device = model.device
    logits = model(
        torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        attention_mask=tree_mask(torch.tensor(branches, device=device), shared, model.dtype),
        use_cache=cache is not None,
        logits_to_keep=torch.tensor(places, device=device),
        **({} if cache is None else {cache_argument(model): cache}),
    ).logits[0]  # (len(places), V)
    if cache is not None:
        cache.crop(-len(ids))
    row_of = {place: row for row, place in enumerate(places)}
    wanted = [
        (row_of[place], token) for document in told for pair in document for place, token in zip(*pair, strict=True)
    ]
    numbers = iter(_told(logits, torch.tensor(wanted, device=device)))
    return [[_add_up([next(numbers) for _ in tokens]) for _, tokens in document] for document in told]


def tree_mask(branches: Tensor, shared: int, dtype: torch.dtype) -> Tensor | None:
    """What a token of a row must not see, as (1, 1, L, P + L): -inf there, 0 elsewhere. None: it is plainly causal.

    branches: (L, 2), the document of each token, and 0 in its context or the number of its choice.
    """
    documents, choices = branches.T
    if (documents == 0).all() and choices.unique().numel() <= 2 and (choices.diff() >= 0).all():
        return None  # one context with at most one choice that has tokens of its own
    sees = documents[:, None] == documents
    sees &= (choices == 0) | (choices[:, None] == choices)
    sees = sees.tril()
    sees = torch.cat([sees.new_ones(len(branches), shared), sees], dim=1)
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[None, None]


def _plain(model: PreTrainedModel, context: list[int], tokens: list[int]) -> Score:
    ids = torch.tensor([[*context, *tokens][:-1]], device=model.device)
    logits = model(ids, use_cache=False).logits[0, len(context) - 1 :]
    return _add_up(_told(logits, torch.tensor(list(enumerate(tokens)), device=model.device)))


def _told(logits: Tensor, wanted: Tensor) -> list[tuple[float, bool]]:
    """ln P of the token of each (row of logits, token), and whether it is the likeliest."""
    logits = logits.float()
    rows, tokens = wanted.T
    logprobs = logits[rows, tokens] - logits.logsumexp(-1)[rows]
    return list(zip(logprobs.tolist(), (logits.argmax(-1)[rows] == tokens).tolist(), strict=True))


def _add_up(told: list[tuple[float, bool]]) -> Score:
    return Score(sum(logprob for logprob, _ in told), len(told), all(greedy for _, greedy in told))


def check_decoder(model: PreTrainedModel) -> None:
    """Raises InputError for a model whose words depend on those behind them, or that says NaN: found out on a trial."""
    count = model.get_input_embeddings().num_embeddings
    first, *ends = (torch.arange(start, start + 5).remainder(count).tolist() for start in (2, 11, 17))
    with torch.inference_mode():
        before = [model(torch.tensor([first + end], device=model.device)).logits[0, :5].float() for end in ends]
    if not all(logits.isfinite().all() for logits in before):
        raise InputError(
            f"--model: its logits are NaN or infinite ({type(model).__name__}, {model.dtype}): its training diverged, "
            "or --dtype float16 overflows: take another checkpoint or --dtype float32"
        )
    if (before[0] - before[1]).abs().max() > PACKING_ERROR[model.dtype] * before[0].std():
        raise InputError(
            f"--model: {type(model).__name__} reads what stands behind a word too, prompting needs a causal language "
            "model such as GPT-2, Llama or Qwen"
        )


def why_not_packed(model: PreTrainedModel) -> str | None:
    """Why this model cannot share prefixes and pack choices, or None: found out on a tiny prompt, not by a list."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"it has layers of {', '.join(sorted(kinds - {'full_attention', 'sliding_attention'}))}"
    count = model.get_input_embeddings().num_embeddings
    a, b, c = (torch.arange(start, start + 5).remainder(count).tolist() for start in (2, 11, 17))
    requests = [Request(a + b, [c, b, a]), Request(a + c, [a[:3], b[:2]])]
    try:
        packed, plain = score(model, requests), score(model, requests, packed=False)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        return f"it fails: {' '.join(str(error).split())[:200]}"
    with torch.inference_mode():
        spread = model(torch.tensor([a], device=model.device), use_cache=False).logits.float().std().item()
    off = max(
        abs(x.logprob - y.logprob) / x.tokens
        for xs, ys in zip(packed, plain, strict=True)
        for x, y in zip(xs, ys, strict=True)
    )
    limit = PACKING_ERROR[model.dtype]
    limit *= max(spread, 1e-6)
    return None if math.isfinite(off) and off <= limit else f"its log-likelihoods would be off by {off:.2g} a token"
