"""Log-likelihoods beside a plain forward, for any packing; what cannot be packed is found out."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)  # fmt: skip

from hf_replearn.evaluation.prompting import Request, score
from hf_replearn.evaluation.prompting.scoring import count_shared, tree_mask, why_not_packed

SIZES = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "initializer_range": 0.3,
}  # fmt: skip


def some_requests(shared: int, *, choices: int = 3, documents: int = 7, longest: int = 5) -> list[Request]:
    random = torch.Generator().manual_seed(shared)

    def some(count: int) -> list[int]:
        return torch.randint(1, 400, (count,), generator=random).tolist()

    prefix = some(shared)
    return [
        Request(prefix + some(2 + i % 4), [some(1 + (i + j) % longest) for j in range(choices)])
        for i in range(documents)
    ]


def plainly(model, request: Request) -> list[float]:
    """ln P of each continuation: log-softmax of a whole forward, added up token by token."""
    found = []
    for tokens in request.continuations:
        logprobs = model(torch.tensor([request.context + tokens])).logits[0].log_softmax(-1)
        found.append(sum(logprobs[len(request.context) - 1 + i, token].item() for i, token in enumerate(tokens)))
    return found


def logprobs(scores) -> torch.Tensor:
    return torch.tensor([s.logprob for document in scores for s in document])


@pytest.mark.parametrize("shared", [0, 1, 12])
@pytest.mark.parametrize("row_tokens", [1, 25, 1000])
@torch.inference_mode()
def test_scores_are_those_of_a_plain_forward(decoder, shared, row_tokens):
    requests = some_requests(shared)
    expected = torch.tensor([value for request in requests for value in plainly(decoder.model, request)])
    found = score(decoder.model, requests, row_tokens=row_tokens)
    assert [[s.tokens for s in row] for row in found] == [[len(c) for c in r.continuations] for r in requests]
    torch.testing.assert_close(logprobs(found), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(logprobs(score(decoder.model, requests, packed=False)), expected, atol=1e-4, rtol=0)


def test_greedy_is_what_generation_would_give(decoder):
    [request] = some_requests(5, documents=1)
    context = torch.tensor([request.context])
    made = decoder.model.generate(context, do_sample=False, max_new_tokens=3, eos_token_id=None)[
        0, len(request.context) :
    ]
    made = made.tolist()
    other = [*made[:2], (made[2] + 1) % 400]
    [scores] = score(decoder.model, [Request(request.context, [made, other, made[:1]])])
    assert [s.greedy for s in scores] == [True, False, True]


def test_single_tokens_and_lone_documents_need_no_mask_but_any_others_do():
    def of(*branches):
        return tree_mask(torch.tensor(branches), 0, torch.float32)

    assert of((0, 0), (0, 0)) is None
    assert of((0, 0), (0, 2), (0, 2)) is None
    assert of((0, 0), (0, 1), (0, 2)) is not None
    mask = of((0, 0), (0, 1), (0, 2), (1, 0))[0, 0] == 0
    assert mask.tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]


def test_a_prefix_leaves_every_context_a_token_that_tells_the_next():
    assert count_shared([[1, 2, 3], [1, 2, 3, 4]]) == 2
    assert count_shared([[1, 2], [1, 2]]) == 1
    assert count_shared([[1], [2]]) == count_shared([[1, 2, 3]]) == 0


@pytest.mark.parametrize(
    "model",
    [
        lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=8)),
        lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
        lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=8, sliding_window=32)),
        lambda: MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=24)),
        lambda: MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8)),
        lambda: BloomForCausalLM(
            BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)
        ),
    ],
    ids=["qwen3", "neox", "gemma3", "mistral", "mistral with a short window", "bloom"],
)
@torch.inference_mode()
def test_other_decoders_are_packed_if_that_is_exact(model):
    torch.manual_seed(0)
    model = model().eval()
    requests = some_requests(9)
    packed = why_not_packed(model) is None
    assert packed == ("Bloom" not in type(model).__name__)
    expected = torch.tensor([value for request in requests for value in plainly(model, request)])
    torch.testing.assert_close(logprobs(score(model, requests, packed=packed)), expected, atol=1e-4, rtol=0)


def test_a_model_that_would_be_wrong_is_not_packed(gpt2, monkeypatch):
    """A model that ignores positions it is told gives finite, wrong numbers."""
    forward = gpt2.model.forward
    monkeypatch.setattr(gpt2.model, "forward", lambda *args, position_ids=None, **kwargs: forward(*args, **kwargs))
    assert "off by" in why_not_packed(gpt2.model)


def test_bfloat16_is_packed_too(decoder):
    model = type(decoder.model)(decoder.model.config).to(torch.bfloat16).eval()
    model.load_state_dict(decoder.model.state_dict())
    assert why_not_packed(model) is None
    requests = some_requests(9)
    difference = logprobs(score(model, requests)) - logprobs(score(decoder.model, requests))
    assert difference.abs().mean() < 0.5
