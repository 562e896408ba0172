"""Tokenizers that are trained here, and what is known of anybody's."""

import pytest
from transformers import AutoTokenizer

from hf_replearn.data.text import load_corpus
from hf_replearn.data.tokenization import ends, find_tokenizer, special_tokens, starts_of_words, train_tokenizer
from hf_replearn.errors import InputError

TEXT = "The quick brown fox doesn't jump over the lazy dog; it walks around the unbelievable dog."
AROUND = {"bert": (["[CLS]"], ["[SEP]"]), "roberta": (["<s>"], ["</s>"]), "gpt": ([], [])}


@pytest.fixture(scope="module", params=AROUND)
def trained(request):
    return request.param, train_tokenizer(request.param, [TEXT] * 50, vocab_size=330)


def test_a_text_comes_back_and_the_form_is_that_of_the_paper(trained, tmp_path):
    kind, tokenizer = trained
    start, end = (tokenizer.convert_ids_to_tokens(ids) for ids in ends(tokenizer))
    assert (start, end) == AROUND[kind]
    plain = tokenizer.decode(tokenizer(TEXT)["input_ids"], skip_special_tokens=True)
    assert plain.replace(" ", "") == TEXT.replace(" ", "")
    if kind == "roberta":
        assert tokenizer.decode(tokenizer("The", "dog")["input_ids"]) == "<s>The</s></s>dog</s>"
    if kind == "bert":
        assert tokenizer("The", "dog")["token_type_ids"][-1] == 1
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again(TEXT)["input_ids"] == tokenizer(TEXT)["input_ids"]
    assert again.all_special_ids == tokenizer.all_special_ids


def test_special_tokens_and_beyond_the_vocabulary(trained):
    tokenizer = trained[1]
    size = len(tokenizer)
    special = special_tokens(tokenizer, size + 3)
    assert special.nonzero()[:, 0].tolist() == sorted(
        {*tokenizer.all_special_ids, *range(len(tokenizer), len(tokenizer) + 3)}
    )


def test_where_words_begin(trained):
    kind, tokenizer = trained
    starts = starts_of_words(tokenizer, len(tokenizer) + 2)
    ids = tokenizer(" around unbelievable", add_special_tokens=False)["input_ids"]
    assert starts[ids].sum() == 2 and starts[ids[0]]
    assert starts[-2:].all()


def test_trained_once_and_lowercase():
    corpus = load_corpus("toy")
    arguments = {"named": None, "init": None, "kind": "bert", "vocab_size": 400, "lowercase": True}
    one, two = find_tokenizer(corpus, **arguments), find_tokenizer(corpus, **arguments)
    assert one.name_or_path == two.name_or_path and one.get_vocab() == two.get_vocab()
    assert one.tokenize("The") == one.tokenize("the")
    cased = find_tokenizer(corpus, **arguments | {"lowercase": False})
    assert cased.tokenize("The") != cased.tokenize("the")


def test_a_tokenizer_without_marks_cannot_find_words(trained):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))
    with pytest.raises(InputError, match="does not mark where words begin"):
        starts_of_words(letters, 2)
