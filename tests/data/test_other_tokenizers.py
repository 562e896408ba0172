"""Tokenizers that are not made here: numbers with gaps, frames of every kind, scripts without an "a"."""

import json

import datasets
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_replearn.data.rows import pack_rows
from hf_replearn.data.tokenization import (
    check_text,
    ends,
    load_tokenizer,
    separator,
    special_tokens,
    starts_of_words,
    unknown_share,
    vocabulary_size,
)
from hf_replearn.errors import InputError

NAMES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
SPECIAL = list(NAMES.values())


def words(vocabulary: dict[str, int], frame: str | None = "[CLS] $A [SEP]", normalizer=None, **names):
    """A token a word, special ones first, `frame` around a text."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if frame:
        around = [(token, vocabulary[token]) for token in SPECIAL if token in frame]
        tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=around)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(names or NAMES))


def numbered(texts: list[str], step: int = 1, first: int = 5) -> dict[str, int]:
    return {token: number for number, token in enumerate(SPECIAL)} | {
        token: first + step * number for number, token in enumerate(texts)
    }


GAPS = numbered(["red", "green", "blue"], step=10, first=50)


def test_numbers_with_gaps_are_counted_by_the_largest():
    tokenizer = words(GAPS)
    assert (vocabulary_size(tokenizer), len(tokenizer)) == (71, 8)
    assert (~special_tokens(tokenizer, 128)).nonzero()[:, 0].tolist() == [50, 60, 70]  # what may replace a hidden token


def test_tokens_added_above_are_ordinary_unless_special():
    tokenizer = words(numbered(["red", "green"]))
    tokenizer.add_tokens(["dino"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    ordinary = (~special_tokens(tokenizer, vocabulary_size(tokenizer))).nonzero()[:, 0]
    assert tokenizer.convert_ids_to_tokens(ordinary.tolist()) == ["red", "green", "dino"]


SCRIPTS = {"DNA": ["ACG", "T", "TTC"], "Chinese": ["中", "国", "人"], "Cyrillic": ["мир", "и", "дом"]}
FRAMES = {
    "[CLS] $A [SEP]": ([2], [3]),
    "[CLS] $A": ([2], []),
    "$A [SEP]": ([], [3]),
    "[CLS] [SEP] $A [SEP] [SEP]": ([2, 3], [3, 3]),
    None: ([], []),
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_frame_of_a_text_is_found_in_every_script(script, frame):
    assert ends(words(numbered(SCRIPTS[script]), frame)) == FRAMES[frame]


def test_the_frame_is_found_where_the_letter_a_is_taken_out_or_unknown():
    without = normalizers.Replace("a", "")
    assert ends(words(numbered(["bcd"]), normalizer=without)) == ([2], [3])
    bytes_of_dna = Tokenizer(models.BPE({token: n for n, token in enumerate([*SPECIAL, *"ACGT"])}, []))  # no [UNK]
    bytes_of_dna.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_of_dna, **NAMES)
    assert tokenizer("a", add_special_tokens=False)["input_ids"] == []
    assert ends(tokenizer) == ([2], [3])


def test_the_frame_of_sentencepiece_and_its_space_before_a_text():
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁a", -3.0), ("a", -3.0), ("b", -3.0)]
    unigram = Tokenizer(models.Unigram(pieces, unk_id=0))
    unigram.pre_tokenizer, unigram.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=unigram, eos_token="</s>", unk_token="<unk>")
    assert ends(tokenizer) == ([], [2]) and separator(tokenizer) == [2]


def test_a_tokenizer_of_special_tokens_alone_has_no_frame():
    with pytest.raises(InputError, match="no text that becomes tokens of its vocabulary"):
        ends(words(numbered([])))


@pytest.mark.parametrize(
    ("frame", "names", "between"),
    [
        ("[CLS] $A [SEP]", {}, 3),
        ("[CLS] $A", {"eos_token": "[SEP]"}, 3),
        (None, {"eos_token": "[SEP]", "bos_token": "[CLS]"}, 3),
        ("[CLS] $A", {"bos_token": "[CLS]"}, 2),  # no end: the beginning of the next text
    ],
)
def test_what_stands_between_documents(frame, names, between):
    assert separator(words(numbered(["a"]), frame, unk_token="[UNK]", **names)) == [between]


def test_nothing_to_stand_between_documents_is_one_line():
    with pytest.raises(InputError, match="no token to stand between documents"):
        separator(words(numbered(["a"]), None, unk_token="[UNK]"))


def test_a_row_of_a_decoder_does_not_end_where_its_document_does_not():
    tokenizer = words(numbered(["a", "b"]), "[CLS] $A [SEP]", unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]")
    corpus = datasets.Dataset.from_dict({"text": ["a b " * 10, "b a"]})
    rows = pack_rows(corpus, tokenizer, length=8, ended=False)["input_ids"]
    assert [row[0] for row in rows] == [2] * 4
    assert [token for row in rows for token in row[1:]].count(3) == 2 + 4  # two documents, and padding (no pad token)
    ended = pack_rows(corpus, tokenizer, length=8)["input_ids"]
    assert all(row[0] == 2 and row[-1] == 3 for row in ended[:-1])


def test_names_of_special_tokens_in_a_text_are_text():
    tokenizer = words(numbered(["a", "MASK", "[", "]"]))
    corpus = datasets.Dataset.from_dict({"text": ["a [MASK] a"] * 4})
    tokens = {token for row in pack_rows(corpus, tokenizer, length=16)["input_ids"] for token in row}
    assert tokenizer.mask_token_id not in tokens
    assert tokens == {0, 2, 3, *tokenizer.convert_tokens_to_ids(["a", "[", "MASK", "]"])}
    [note] = check_text(tokenizer, corpus["text"][:], trained=False)
    assert note.startswith("4 of 4 documents looked at hold the name of a special token, such as [MASK]")


def test_the_share_of_a_text_without_tokens():
    tokenizer = words(numbered(["red", "мир"]))
    assert unknown_share(tokenizer, ["red red"]) == 0
    assert unknown_share(tokenizer, ["red blue"]) == pytest.approx(4 / 7)  # characters
    assert unknown_share(tokenizer, ["red мир", "дом"]) == pytest.approx(3 / 9)
    assert unknown_share(tokenizer, []) == 0
    [note] = check_text(tokenizer, ["red red red to"], trained=False)
    assert note.startswith("warning: the tokenizer has no token for 18% of the characters")
    with pytest.raises(InputError, match="no token for 100% of the characters of the documents, which may be"):
        check_text(tokenizer, ["всё другое"], trained=False)


def test_text_that_a_tokenizer_drops_without_a_word_is_counted_too():
    dna = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({c: n for n, c in enumerate("ACGT")}, [])))
    assert dna("an English text", add_special_tokens=False)["input_ids"] == []
    assert unknown_share(dna, ["an English text"]) == 1
    assert unknown_share(dna, ["ACCAAC"]) == 0


@pytest.mark.parametrize(
    ("tokens", "starts"),
    [
        ({"##": 5, "####": 6, "Ġa": 7, "Ġthe": 8, "Ġof": 9, "ing": 10}, [5, 6, 7, 8, 9]),  # as in GPT-2: headings
        ({"##s": 5, "##ing": 9, "walk": 50, "Ġ": 60}, [50, 60]),
        ({"▁a": 5, "b": 6, "▁c": 70, ".": 71}, [5, 70, 71]),
    ],
)
def test_words_begin_where_the_mark_of_most_tokens_says(tokens, starts):
    vocabulary = {token: number for number, token in enumerate(SPECIAL)} | tokens
    first = starts_of_words(words(vocabulary), 80)
    assert [number for number in tokens.values() if first[number]] == starts


def test_files_without_a_vocabulary_are_no_tokenizer(tmp_path):
    """transformers makes a tokenizer of five special tokens from a configuration alone."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="holds no tokenizer: its files are missing, or hold special tokens only"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nobody"}}')
    with pytest.raises(InputError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path), "--init")


def test_the_parts_of_a_long_document_are_all_there():
    tokenizer = words(numbered([f"w{i}" for i in range(1000)]))
    corpus = datasets.Dataset.from_dict({"text": [" ".join(f"w{i}" for i in range(1000))]})
    rows = pack_rows(corpus, tokenizer, length=8, packing="documents")
    assert [token for row in rows["input_ids"] for token in row if token > 4] == list(range(5, 1005))
