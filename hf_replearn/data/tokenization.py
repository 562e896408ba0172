"""Tokenizers: trained on the corpus, or somebody's own; and how they mark the ends of texts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import datasets
import torch
from datasets.fingerprint import Hasher
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_replearn.data.text import Corpus
from hf_replearn.errors import InputError

TRAINED_ON = 20_000_000  # characters of the corpus that a tokenizer is trained on
Kind = Literal["bert", "roberta", "gpt"]


def train_tokenizer(kind: Kind, texts: Iterable[str], *, vocab_size: int, lowercase: bool = False):
    """A tokenizer with the given number of tokens, special ones included, learned from `texts`.

    bert:    WordPiece, [CLS] text [SEP] (Devlin et al. 2019).
    roberta: byte-level BPE, <s> text </s>, pairs <s> a </s></s> b </s> (Liu et al. 2019).
    gpt:     byte-level BPE, nothing around a text, <|endoftext|> between texts (Radford et al. 2019).
    """
    special = {
        "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
        "roberta": {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"},
        "gpt": {"eos": "<|endoftext|>", "pad": "<|padding|>"},
    }[kind]
    names = list(special.values())
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=names, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *[normalizers.Lowercase()] * lowercase])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=names,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "gpt":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        start, end = ("[CLS]", "[SEP]") if kind == "bert" else ("<s>", "</s>")
        second = "$B:1 [SEP]:1" if kind == "bert" else "</s> $B </s>"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A {end}",
            pair=f"{start} $A {end} {second}",
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in (start, end)],
        )
    if kind == "roberta":
        special |= {"cls": "<s>", "sep": "</s>", "mask": AddedToken("<mask>", lstrip=True, special=True)}
    elif kind == "gpt":
        special |= {"bos": "<|endoftext|>", "unk": "<|endoftext|>"}
    inputs = ["input_ids", "attention_mask"] if kind != "bert" else ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_input_names=inputs,
        **{f"{name}_token": token for name, token in special.items()},
    )


def find_tokenizer(
    corpus: Corpus,
    *,
    named: str | None,
    init: str | None,
    kind: Kind,
    vocab_size: int,
    lowercase: bool,
) -> PreTrainedTokenizerBase:
    """The tokenizer named, or that of the checkpoint `init`, or one trained on the corpus (once: it is cached).

    Raises InputError when it cannot be loaded, when it is not the one that `init` was trained with, and for a corpus
    with too little text to train one.
    """
    if init is not None:
        tokenizer = load_tokenizer(init, "--init")
        if named is not None and load_tokenizer(named, "--tokenizer").get_vocab() != tokenizer.get_vocab():
            raise InputError(
                f"--tokenizer {named} has another vocabulary than --init {init} was trained with: leave it out"
            )
        return tokenizer
    if named is not None:
        return load_tokenizer(named, "--tokenizer")
    source = getattr(corpus.train, "_fingerprint", corpus.name)
    key = Hasher.hash([source, kind, vocab_size, lowercase, TRAINED_ON, "tokenizer-1"])
    cache = Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn_tokenizers", key)
    if not cache.exists():
        tokenizer = train_tokenizer(kind, corpus.texts(TRAINED_ON), vocab_size=vocab_size, lowercase=lowercase)
        unfinished = cache.with_name(f"{key}.{os.getpid()}")
        tokenizer.save_pretrained(unfinished)
        try:
            unfinished.rename(cache)
        except OSError:  # another run was quicker
            shutil.rmtree(unfinished)
    return AutoTokenizer.from_pretrained(cache)


def special_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """(size,) bool: special tokens, and the numbers beyond the tokenizer's that pad the vocabulary."""
    special = torch.arange(size) >= len(tokenizer)
    special[tokenizer.all_special_ids] = True
    return special


def load_tokenizer(name: str, flag: str = "--tokenizer") -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or a Hub id. Raises InputError when it cannot be loaded."""
    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        where = "holds no tokenizer" if Path(name).is_dir() else "is no folder, and no Hub id with a tokenizer"
        raise InputError(f"{flag} {name!r} {where}: {' '.join(str(error).split())[:200]}") from error


def ends(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text: [CLS] and [SEP] for BERT's, none for GPT's."""
    around = tokenizer("a")["input_ids"]
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(len(around)) if around[i : i + len(inner)] == inner)
    return around[:start], around[start + len(inner) :]


def starts_of_words(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """(size,) bool: the tokens that begin a word, by the tokenizer's own mark ("##", "Ġ" or "▁")."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if any(token.startswith("##") for token in tokens):
        first = [not token.startswith("##") for token in tokens]
    elif mark := next((mark for mark in "Ġ▁" if any(token.startswith(mark) for token in tokens)), None):
        first = [token.startswith(mark) or not any(map(str.isalpha, token)) for token in tokens]
    else:
        raise InputError("--whole_words: this tokenizer does not mark where words begin")
    return torch.tensor(first + [True] * (size - len(first)))
