"""Tokenizers that are trained here, and what is known of anybody's."""

from pathlib import Path

import datasets
import pytest
from transformers import AutoTokenizer

from hf_replearn.data.text import Corpus, load_corpus
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


def corpus_of(texts: list[str], *, streamed: bool = True) -> Corpus:
    rows = datasets.Dataset.from_dict({"text": texts})
    rows = rows.to_iterable_dataset() if streamed else rows
    return Corpus("data", None, rows, rows, "")


TRAINED = {"named": None, "init": None, "kind": "bert", "vocab_size": 320, "lowercase": False}


def test_corpora_of_one_name_have_their_own_tokenizers():
    one = find_tokenizer(corpus_of(["the quick brown fox"] * 20), **TRAINED)
    two = find_tokenizer(corpus_of(["der schnelle braune Fuchs"] * 20), **TRAINED)
    assert "quick" in one.get_vocab() and "schnelle" in two.get_vocab() and "quick" not in two.get_vocab()
    again = find_tokenizer(corpus_of(["the quick brown fox"] * 20, streamed=False), **TRAINED)
    assert again.name_or_path == one.name_or_path  # by contents, however they are read


DAMAGE = {
    "cut": lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:200]),
    "emptied": lambda folder: [path.write_text("") for path in folder.iterdir()],
    "garbled": lambda folder: (folder / "tokenizer_config.json").write_bytes(b"\xff\x00{"),
    "a file is gone": lambda folder: (folder / "tokenizer.json").unlink(),
    "all files are gone": lambda folder: [path.unlink() for path in folder.iterdir()],
    "another one's": lambda folder: train_tokenizer("gpt", ["no"], vocab_size=300).save_pretrained(folder),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_made_again(damage):
    corpus = corpus_of([f"words of {damage}, for one tokenizer"] * 20)
    arguments = TRAINED | {"kind": "roberta"}  # WordPiece breaks ties by chance
    first = find_tokenizer(corpus, **arguments)
    folder = Path(first.name_or_path)
    DAMAGE[damage](folder)
    again = find_tokenizer(corpus, **arguments)
    assert again.get_vocab() == first.get_vocab()
    assert find_tokenizer(corpus, **arguments).name_or_path == str(folder)  # from the cache, whole once more
    assert [path.name for path in folder.parent.glob(f"{folder.name}*")] == [folder.name]


def test_without_a_cache_it_is_trained_and_said(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "file")
    corpus = corpus_of(["some words"] * 20)
    with pytest.warns(UserWarning, match="the tokenizer is not kept for later runs"):
        tokenizer = find_tokenizer(corpus, **TRAINED)
    assert tokenizer.tokenize("words") == ["words"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="give a --tokenizer, or a cache to share one"):
        find_tokenizer(corpus, **TRAINED)


def test_the_tokenizer_may_be_named_where_the_checkpoint_has_none(tmp_path):
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "config.json").write_text('{"model_type": "bert"}')
    trained = train_tokenizer("bert", [TEXT], vocab_size=320)
    trained.save_pretrained(tmp_path / "tokenizer")
    arguments = TRAINED | {"init": str(tmp_path / "init")}
    named = find_tokenizer(corpus_of([TEXT]), **arguments | {"named": str(tmp_path / "tokenizer")})
    assert named.get_vocab() == trained.get_vocab()
    with pytest.raises(InputError, match="holds no tokenizer.*--tokenizer names another place"):
        find_tokenizer(corpus_of([TEXT]), **arguments)
