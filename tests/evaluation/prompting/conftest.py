"""A tiny tokenizer and tiny decoders with random weights wide enough that log-likelihoods differ."""

import json

import pytest
from tokenizers import ByteLevelBPETokenizer
from toy_tasks import make_model
from transformers import PreTrainedTokenizerFast

from hf_replearn.evaluation.prompting import Decoder

TEXT = """Review: a fine and funny film\nSentiment: positive\n\nReview: dull, slow and sad\nSentiment: negative\n
Question: what comes after one? Answer: two. What is far away? The moon is far away, the sun is farther away.\n"""
WORDS = [
    "fine", "funny", "dull", "slow", "sad", "moon", "sun", "house", "river", "cat", "dog", "tree", "green", "red",
    "old", "new", "small", "great", "cold", "warm",
]  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer():
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([TEXT] * 20 + WORDS * 20, vocab_size=400, special_tokens=["<|endoftext|>"])
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, bos_token=end, eos_token=end, pad_token=end)


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def decoder(request, tokenizer):
    return Decoder.of(make_model(request.param), tokenizer)


@pytest.fixture(scope="session")
def gpt2(tokenizer):
    return Decoder.of(make_model("gpt2"), tokenizer)


@pytest.fixture
def folder(tmp_path):
    """Data and task files: labels, choices, targets, and free answers."""
    rows = [
        {"text": f"{WORDS[i % 20]} {WORDS[(7 * i + 3) % 20]} film", "label": i % 3 % 2, "other": WORDS[(i + 5) % 20]}
        for i in range(24)
    ]
    for split, some in (("train", rows[:14]), ("test", rows[14:])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return tmp_path
