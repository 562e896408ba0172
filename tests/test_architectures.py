"""The published sizes, on the meta device."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from hf_replearn import architectures
from hf_replearn.data.tokenization import train_tokenizer
from hf_replearn.errors import InputError

# Millions of parameters with the published vocabularies.
PUBLISHED = [("bert", "base", 30522, 110), ("bert", "large", 30522, 335), ("roberta", "base", 50265, 125)]
PUBLISHED += [("roberta", "large", 50265, 355), ("bert", "tiny", 30522, 4.4), ("bert", "mini", 30522, 11.2)]
PUBLISHED += [("bert", "small", 30522, 28.8), ("gpt2", "small", 50257, 124), ("gpt2", "medium", 50257, 355)]
PUBLISHED += [("gpt2", "large", 50257, 774), ("gpt2", "xl", 50257, 1558)]


@pytest.mark.parametrize(("architecture", "size", "vocabulary", "millions"), PUBLISHED)
def test_published_sizes(architecture, size, vocabulary, millions):
    tokenizer = train_tokenizer(architectures.TOKENIZERS[architecture], ["a"], vocab_size=300)
    config = architectures.make_config(
        architecture, size, tokenizer=tokenizer, length=1024 if architecture == "gpt2" else 512
    )
    config.vocab_size = vocabulary
    auto = AutoModelForMaskedLM if architecture in architectures.ENCODERS else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("architecture", [*architectures.ENCODERS, *architectures.DECODERS])
def test_small_models(architecture):
    tokenizer = train_tokenizer(architectures.TOKENIZERS[architecture], ["a b c"], vocab_size=300)
    config = architectures.make_config(architecture, "tiny", tokenizer=tokenizer, length=16, dropout=0.25)
    assert config.vocab_size % 64 == 0 and config.vocab_size - len(tokenizer) < 64
    auto = AutoModelForMaskedLM if architecture in architectures.ENCODERS else AutoModelForCausalLM
    model = auto.from_config(config)
    matrices = architectures.hidden_matrices(model)
    assert all(config.vocab_size not in matrix.shape for matrix in matrices)
    assert all(parameter.ndim == 2 for parameter in matrices)
    before = {name: value.clone() for name, value in model.named_parameters()}
    architectures.zero_output_projections(model)
    zeroed = [name for name, value in model.named_parameters() if not value.any() and before[name].any()]
    assert len(zeroed) == 2 * config.num_hidden_layers  # attention and MLP of every block
    body = sum(matrix.numel() for matrix in matrices)
    head = model.get_output_embeddings().weight.numel()
    attention = 12 * config.num_hidden_layers * config.hidden_size * 16
    assert architectures.flops_per_token(model, length=16) == 6 * (body + head) + attention


def test_a_size_that_there_is_not():
    tokenizer = train_tokenizer("bert", ["a"], vocab_size=300)
    with pytest.raises(InputError, match="bert comes as tiny, mini, small, base, large"):
        architectures.make_config("bert", "xl", tokenizer=tokenizer, length=16)
