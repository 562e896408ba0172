"""What is shown of a language model reads well: whole words, no broken characters, any tokenizer."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from hf_replearn.data.tokenization import train_tokenizer
from hf_replearn.evaluation.samples import as_text, beginning, fill_gaps, go_on, printable, whole_words

TEXT = "The unbelievable brown fox jumps over the lazy dog, again and again, until the evening comes to the village."


@pytest.fixture(scope="module")
def gpt():
    tokenizer = train_tokenizer("gpt", [TEXT] * 5, vocab_size=300)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2, n_positions=128, eos_token_id=0, bos_token_id=0)
    )
    return model, tokenizer


def test_a_beginning_ends_with_a_word(gpt):
    tokenizer = gpt[1]
    assert beginning(tokenizer, "The fox", tokens=20) == "The fox"
    cut = beginning(tokenizer, TEXT, tokens=12)
    assert cut and TEXT.startswith(cut) and TEXT[len(cut)] == " "
    assert beginning(tokenizer, "中国人" * 10, tokens=10) == "中国人"  # three bytes each: no half character


def test_words_that_may_be_cut_are_left_out():
    assert whole_words("one two thr") == "one two"
    assert whole_words("unbelievab") == "unbelievab"
    assert printable("a\ufffdb\x18 c\n d") == "ab c d"


def test_what_an_untrained_model_goes_on_with_is_legible(gpt):
    said = as_text(go_on(*gpt, [TEXT, "中国人" * 10], tokens=30)).splitlines()
    assert said[0].startswith("The beginning of a text, and after") and len(said) == 3
    assert all(" | " in line and line.isprintable() and "\ufffd" not in line for line in said[1:])
    assert go_on(*gpt, [TEXT], tokens=30) == go_on(*gpt, [TEXT], tokens=30)


def test_gaps_are_filled_in_short_texts_and_where_the_user_put_them():
    tokenizer = train_tokenizer("bert", [TEXT] * 5, vocab_size=300)
    model = BertForMaskedLM(
        BertConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    gaps = fill_gaps(model, tokenizer, [TEXT, "fox", "The [MASK] fox"], length=32)
    assert all(len(gap["guesses"]) == 5 for gap in gaps) and gaps[0]["before"] and gaps[0]["after"]
    assert gaps[1]["before"] == gaps[1]["after"] == "" and gaps[1]["hidden"]
    assert "hidden" not in gaps[2] and gaps[2]["before"].lower().replace(" ", "").endswith("the")
    chances = [guess["chance"] for guess in gaps[0]["guesses"]]
    assert chances == sorted(chances, reverse=True) and 0 < sum(chances) <= 1
    assert as_text(
        [{"before": "one ", "mask": "<m>", "after": "s.", "guesses": [{"token": "dog", "chance": 0.5}]}]
    ) == (
        "The beginning of a text with one token hidden, <m>, and the likeliest tokens for it.\none <m>s.\n    dog 50%"
    )
    lines = as_text(gaps).splitlines()
    assert len(lines) == 7 and lines[1].count("[MASK]") == 1 and "; hidden was" in lines[2]
    assert lines[3] == "[MASK]" and lines[4].count("%") == 5 and "hidden" not in lines[6]
