"""The loss against transformers' own; no look across documents; what is told and what is not."""

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
    RobertaConfig,
)

from hf_replearn.methods.causal_lm import (
    CausalLMConfig,
    CausalLMForPreTraining,
    DataCollatorForCausalLM,
    has_plain_head,
)

VOCABULARY, LENGTH = 100, 24
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64, "head_dim": 16}
CONFIGS = {
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64),
    "llama": LlamaConfig(**SMALL),
    "qwen3": Qwen3Config(**SMALL, tie_word_embeddings=True),
    "mistral": MistralConfig(**SMALL, sliding_window=8),
}


def rows(count: int = 3, *, length: int = LENGTH, documents: list[int] | None = None) -> list[dict]:
    tokens = torch.randint(VOCABULARY, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    more = {} if documents is None else {"documents": documents}
    return [{"input_ids": row.tolist(), "length": length, **more} for row in tokens]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_loss_and_gradients_are_those_of_the_native_model(architecture):
    torch.manual_seed(0)
    collate = DataCollatorForCausalLM()
    batch = collate(rows(length=20))
    assert collate.targets(batch) == 3 * 19
    views = collate.views(batch)
    model = CausalLMForPreTraining(CausalLMConfig(decoder=CONFIGS[architecture])).eval()
    native = AutoModelForCausalLM.from_config(CONFIGS[architecture]).eval()
    native.load_state_dict(model.model.state_dict())
    loss, expected = model(**views).loss, native(views["input_ids"], labels=views["labels"]).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert model(**views, num_items_in_batch=30).loss.item() == pytest.approx(expected.item() * 57 / 30, rel=1e-6)
    loss.backward()
    expected.backward()
    for (name, ours), plain in zip(model.model.named_parameters(), native.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_cache_that_keeps_nothing_changes_no_bit(architecture):
    torch.manual_seed(0)
    model = CausalLMForPreTraining(CausalLMConfig(decoder=CONFIGS[architecture])).eval()
    assert model.cache_argument in ("cache", "past_key_values")
    views = DataCollatorForCausalLM()(rows())
    found = []
    for argument in (model.cache_argument, None):
        model.cache_argument = argument
        model.zero_grad()
        loss = model(views["input_ids"], views["input_ids"]).loss
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_documents_of_a_row_are_as_if_alone(architecture, attention):
    torch.manual_seed(0)
    config = CausalLMConfig(decoder=CONFIGS[architecture])
    config._attn_implementation = attention
    model = CausalLMForPreTraining(config).train()
    assert model.model.config._attn_implementation == attention
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    numbers = [0] * 9 + [1] * 12 + [-1] * 3
    collate = DataCollatorForCausalLM()
    batch = collate(rows(1, length=21, documents=numbers))
    assert collate.targets(batch) == 8 + 11
    total = model(**collate.views(batch), num_items_in_batch=1).loss
    tokens, alone = batch["input_ids"], 0.0
    for part in (slice(0, 9), slice(9, 21)):
        logits = model.model(tokens[:, part], use_cache=False).logits
        alone = alone + F.cross_entropy(logits[0, :-1], tokens[0, part][1:], reduction="sum")
    assert total.item() == pytest.approx(alone.item(), rel=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_masks_of_documents_are_those_that_transformers_finds_for_itself(architecture):
    """To the bit; it would ask on the host whether there are several documents."""
    torch.manual_seed(0)
    model = CausalLMForPreTraining(CausalLMConfig(decoder=CONFIGS[architecture])).eval()
    collate = DataCollatorForCausalLM()
    views = collate.views(collate(rows(length=21, documents=[0] * 9 + [1] * 12 + [-1] * 3)))
    ours = model(**views).loss
    model.cache_argument = None
    assert torch.equal(ours, model(**views).loss)


def test_which_models_have_a_plain_head():
    capped = Gemma2Config(**SMALL, final_logit_softcapping=30.0)  # far above the logits of random weights
    blind = LlamaConfig(**SMALL, initializer_range=0.5)
    for config, plain in (*[(config, True) for config in CONFIGS.values()], (blind, True), (capped, False)):
        assert has_plain_head(AutoModelForCausalLM.from_config(config)) is plain
    bert = RobertaConfig(**{name: value for name, value in SMALL.items() if name in RobertaConfig().to_dict()})
    assert not has_plain_head(AutoModelForCausalLM.from_config(bert))
