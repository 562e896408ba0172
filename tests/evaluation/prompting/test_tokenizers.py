"""Prompts of other people's tokenizers and decoders: what is scored is what stands in the prompt, and nothing else."""

import json

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from toy_tasks import LABELS, make_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)  # fmt: skip

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting import (
    Condition,
    Decoder,
    Examples,
    few_shot,
    load_splits,
    load_task,
    read_documents,
)
from hf_replearn.evaluation.prompting.prompts import Prompt, before_texts, encode

WORDS = [
    "Review", ":", "Sentiment", "positive", "negative", "fine", "funny", "dull", "film", "two",
    "moon", "the", "a", "is", "what", "one",
]  # fmt: skip
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]


def words(around: str | None, **names) -> PreTrainedTokenizerFast:
    """A token a word; `around`: what stands around a text."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=around, pair=f"{around} $B", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    names = names or {"bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **names)


def pieces(pre_tokenizer, decoder, *, around: str | None = None) -> PreTrainedTokenizerFast:
    """Byte pairs of a few words behind any pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizer, decoder
    text = (
        "Review: a fine film\nSentiment: positive\n\nReview: dull\nSentiment: negative\n\nthe moon is far away, mo on"
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([text] * 20, trainer)
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=around, special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def sentencepiece() -> PreTrainedTokenizerFast:
    """As Llama's: a space stands before the first word of every text."""
    return pieces(pre_tokenizers.Metaspace(), decoders.Metaspace(), around="<s> $A")


TOKENIZERS = {
    "nothing around": lambda: words(None),
    "beginning and end": lambda: words("<s> $A </s>"),
    "end": lambda: words("$A </s>"),
    "beginning": lambda: words("<s> $A"),
    "two at the end": lambda: words("<s> $A </s> </s>"),
    "sentencepiece": sentencepiece,
    "add_prefix_space": lambda: pieces(pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()),
    "bytes and end": lambda: pieces(
        pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), around="$A </s>"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENIZERS)
def test_only_the_choice_stands_behind_the_prompt(name):
    tokenizer = TOKENIZERS[name]()
    start = {"sentencepiece": [2]}.get(name, [2] if "beginning" in name or "two" in name else [])
    assert before_texts(tokenizer) == start
    context = "Review: a fine film\nSentiment:"
    [request], apart = encode(tokenizer, [Prompt(context, (" positive", " negative"))])
    bare = tokenizer(context, add_special_tokens=False)["input_ids"]
    assert request.context == start + bare and not apart
    for text, tokens in zip((" positive", " negative"), request.continuations, strict=True):
        assert request.context + tokens == start + tokenizer(context + text, add_special_tokens=False)["input_ids"]
        assert not set(tokens) & {2, 3}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_beginning_of_text_stands_once(name):
    tokenizer = TOKENIZERS[name]()
    requests, _ = encode(
        tokenizer, [Prompt("", ("two", "moon")), Prompt("<s> a film", (" two",)), Prompt("\n", ("a",))]
    )
    for request in (requests[0], requests[2]):
        assert len(request.context) == 1 and request.context[0] == 2
    whole = requests[1].context + requests[1].continuations[0]
    assert whole.count(2) == 1 and 3 not in whole
    assert all(all(tokens) for tokens in requests[0].continuations)


def test_without_a_token_for_the_beginning_an_empty_prompt_is_refused():
    tokenizer = words(None, pad_token="<pad>")
    with pytest.raises(InputError, match="neither a beginning-of-text nor an end-of-text token"):
        encode(tokenizer, [Prompt("", ("two",))])
    assert encode(tokenizer, [Prompt("a", (" two",))])[0][0].continuations == [[len(SPECIAL) + WORDS.index("two")]]


def test_a_choice_that_is_encoded_apart_gets_no_space_that_is_not_there():
    """SentencePiece begins every text with a space: "mo" and "on" are "moon", not "mo on"."""
    tokenizer = sentencepiece()
    assert tokenizer.decode(tokenizer("on", add_special_tokens=False)["input_ids"]) == "on"
    [request], apart = encode(tokenizer, [Prompt("the mo", ("on",))])
    assert apart == [0]
    assert tokenizer.decode(request.context + request.continuations[0], skip_special_tokens=True) == "the moon"


SIZES = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "initializer_range": 0.3, "max_position_embeddings": 256, "pad_token_id": 3, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
GROUPED = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "gpt2": lambda: make_model("gpt2"),
    "llama": lambda: make_model("llama"),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(vocab_size=400, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, init_std=0.3,
                  word_embed_proj_dim=32, max_position_embeddings=256, pad_token_id=3, bos_token_id=2, eos_token_id=3)
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**GROUPED)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**GROUPED, query_pre_attn_scalar=8, sliding_window=64)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, pad_token_id=3)
    ),
    "roberta as a decoder": lambda: RobertaForCausalLM(RobertaConfig(**SIZES, is_decoder=True)),
}  # fmt: skip


@pytest.fixture(scope="module")
def bpe():
    """With <s> before and </s> behind a text, and padding that is the end of text."""
    tokenizer = pieces(pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(), around="<s> $A </s>")
    tokenizer.pad_token = "</s>"
    return tokenizer


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_scores_are_a_plain_forward_of_the_text_whatever_the_decoder_and_the_company(name, bpe, folder):
    torch.manual_seed(0)
    decoder = Decoder.of(MODELS[name]().eval(), bpe)
    (folder / "toy.yaml").write_text(LABELS)
    task = load_task(folder / "toy.yaml")
    rows, pool = load_splits(task)
    documents, _ = read_documents(task, rows)
    condition = Condition(2, 0, 0)
    examples = Examples(task, pool, same_split=False)
    together, _ = few_shot(decoder, task, rows, examples, documents, condition)
    alone = [few_shot(decoder, task, rows, examples, [document], condition)[0][0] for document in documents]
    for document, record, other in zip(documents, together, alone, strict=True):
        context = "".join(task.shot(examples.document(n)) for n in record["shots"]) + document.text
        start = [2, *bpe(context, add_special_tokens=False)["input_ids"]]
        for choice, told, told_alone in zip(document.choices, record["logprobs"], other["logprobs"], strict=True):
            whole = [2, *bpe(f"{context} {choice}", add_special_tokens=False)["input_ids"]]
            logprobs = decoder.model(torch.tensor([whole])).logits[0].log_softmax(-1)
            plain = sum(logprobs[n - 1, whole[n]].item() for n in range(len(start), len(whole)))
            assert told == pytest.approx(plain, abs=2e-4) and told_alone == pytest.approx(plain, abs=2e-4)


@pytest.mark.parametrize("name", [name for name in MODELS if "roberta" not in name])
def test_free_answers_are_those_of_a_plain_greedy_search(name, bpe, folder):
    from hf_replearn.evaluation.prompting.generation import generate

    torch.manual_seed(0)
    decoder = Decoder.of(MODELS[name]().eval(), bpe)
    contexts = [[2, *range(20, 24 + n)] for n in range(5)]
    how = {"until": ["\0"], "do_sample": False, "temperature": 1.0, "max_gen_toks": 4}
    made = generate(decoder.model, bpe, contexts, keys=[(n,) for n in range(5)], packed=decoder.packed, **how)
    for context, text in zip(contexts, made, strict=True):
        ids = list(context)
        for _ in range(4):
            ids.append(int(decoder.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == 3:
                break
        assert text == bpe.decode(ids[len(context) :], skip_special_tokens=True)


@pytest.mark.parametrize("name", [name for name in MODELS if "roberta" not in name])
def test_decoders_are_loaded_whatever_attention_they_have(name, bpe, tmp_path):
    """Gemma 2's and Bloom's is none of PyTorch's fused ones."""
    model = MODELS[name]().eval()
    model.save_pretrained(tmp_path)
    bpe.save_pretrained(tmp_path)
    loaded, tokens = Decoder.load(str(tmp_path), dtype="float32"), torch.tensor([[2, 20, 21, 22]])
    torch.testing.assert_close(loaded.model(tokens).logits, model(tokens).logits)


def test_what_reads_both_ways_is_no_decoder(bpe):
    model = RobertaForCausalLM(RobertaConfig(**SIZES)).eval()
    with pytest.raises(InputError, match="reads what stands behind a word too"):
        Decoder.of(model, bpe)


def test_a_tokenizer_that_counts_further_than_the_model_is_refused(gpt2, tmp_path):
    gpt2.model.save_pretrained(tmp_path)
    vocabulary = {word: n for n, word in enumerate(SPECIAL)} | {"far": 400}  # five tokens, one beyond the model's
    far = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>")))
    far.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="numbers tokens up to 400, the model knows 400"):
        Decoder.load(str(tmp_path), dtype="float32")


def test_code_of_a_model_is_never_run(gpt2, tokenizer, tmp_path, monkeypatch):
    gpt2.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="could not be loaded"):
        Decoder.load(str(tmp_path), dtype="float32")
