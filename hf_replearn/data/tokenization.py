"""Tokenizers: trained on the corpus, or somebody's own; and how they mark the ends of texts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import datasets
import tokenizers
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_replearn.data.text import Corpus
from hf_replearn.errors import InputError

TRAINED_ON = 20_000_000  # characters of the corpus that a tokenizer is trained on
UNKNOWN_MOST, UNKNOWN_SAID = 0.5, 0.1  # share of the characters without a token: refused, and said
SUMS = "sha256.json"  # of the files of a tokenizer that is kept, written last
Kind = Literal["bert", "clip", "roberta", "gpt"]


def train_tokenizer(kind: Kind, texts: Iterable[str], *, vocab_size: int, lowercase: bool = False):
    """A tokenizer with the given number of tokens, special ones included, learned from `texts`.

    bert:    WordPiece, [CLS] text [SEP] (Devlin et al. 2019).
    clip:    byte-level BPE, <|startoftext|> text <|endoftext|> (Radford et al. 2021). The number of the last is not 2,
             for which transformers' CLIP would read a text by its largest number instead.
    roberta: byte-level BPE, <s> text </s>, pairs <s> a </s></s> b </s> (Liu et al. 2019).
    gpt:     byte-level BPE, nothing around a text, <|endoftext|> between texts (Radford et al. 2019).
    """
    special = {
        "bert": {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"},
        "clip": {"pad": "<|pad|>", "bos": "<|startoftext|>", "unk": "<|unknown|>", "eos": "<|endoftext|>"},
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
        start, end, second = {
            "bert": ("[CLS]", "[SEP]", "$B:1 [SEP]:1"),
            "clip": ("<|startoftext|>", "<|endoftext|>", "$B <|endoftext|>"),
            "roberta": ("<s>", "</s>", "</s> $B </s>"),
        }[kind]
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
    """The tokenizer of the checkpoint `init`, or the one named, or one trained on the corpus (once: it is kept).

    Raises InputError when it cannot be loaded, or is not the one that `init` was trained with.
    """
    if init is not None:
        try:
            tokenizer = load_tokenizer(init, "--init")
        except InputError as error:
            if named is None:
                raise InputError(f"{error} (--tokenizer names another place to take it from)") from error
            return load_tokenizer(named)
        if named is not None and load_tokenizer(named).get_vocab() != tokenizer.get_vocab():
            raise InputError(
                f"--tokenizer {named} has another vocabulary than --init {init} was trained with: leave it out"
            )
        return tokenizer
    if named is not None:
        return load_tokenizer(named)
    return train_once(list(corpus.texts(TRAINED_ON)), kind=kind, vocab_size=vocab_size, lowercase=lowercase)


def train_once(texts: Sequence[str], *, kind: Kind, vocab_size: int, lowercase: bool) -> PreTrainedTokenizerBase:
    """A tokenizer trained on `texts`, kept under a key of these very texts, and made again where it was damaged."""
    settings = [kind, vocab_size, lowercase, tokenizers.__version__, "tokenizer-2"]
    key = hashlib.sha256(json.dumps(settings).encode())
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        key.update(len(content).to_bytes(8, "little") + content)
    kept = Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn_tokenizers", key.hexdigest()[:32])
    if _is_whole(kept):
        return load_tokenizer(str(kept))
    tokenizer = train_tokenizer(kind, texts, vocab_size=vocab_size, lowercase=lowercase)
    try:
        _keep(tokenizer, kept)
    except OSError as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # each process would train another one
            raise InputError(f"{kept.parent}: {error.strerror}: give a --tokenizer, or a cache to share one") from error
        warnings.warn(f"the tokenizer is not kept for later runs: {kept.parent}: {error.strerror}", stacklevel=2)
        return tokenizer
    return load_tokenizer(str(kept))


def _keep(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    try:
        tokenizer.save_pretrained(unfinished)
        sums = {path.name: _digest(path) for path in sorted(unfinished.iterdir())}
        (unfinished / SUMS).write_text(json.dumps(sums))
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would have been used
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    """Whether every byte of a tokenizer that was kept is there."""
    try:
        sums = json.loads((folder / SUMS).read_bytes())
        return bool(sums) and all(_digest(folder / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_tokenizer(name: str, flag: str = "--tokenizer") -> PreTrainedTokenizerBase:
    """The tokenizer of a local folder or a Hub id. Raises InputError when it cannot be loaded or knows no text."""
    where = "holds no tokenizer" if Path(name).is_dir() else "is no folder, and no Hub id with a tokenizer"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # that of `tokenizers` for a file it cannot read has no class of its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{flag} {name!r} {where}: {type(error).__name__}: {reason}") from error
    if special_tokens(tokenizer, vocabulary_size(tokenizer)).all():  # transformers makes one from config.json alone
        raise InputError(f"{flag} {name!r} {where}: its files are missing, or hold special tokens only")
    return tokenizer


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """The largest number of a token, and one: numbers may have gaps, so that their count says nothing."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def special_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """(size,) bool: special tokens, and the numbers that are no token, such as those that pad the vocabulary."""
    special = torch.ones(size, dtype=torch.bool)
    special[list(tokenizer.get_vocab().values())] = False
    added = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    special[[*tokenizer.all_special_ids, *added]] = True
    return special


def ends(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text: [CLS] and [SEP] for BERT's, none for GPT's.

    Found with a text that it has ordinary tokens for, which is not the same for DNA, Chinese and English. Raises
    InputError where there is none.
    """
    special = special_tokens(tokenizer, vocabulary_size(tokenizer))
    for text in _short_texts(tokenizer, special):
        inner = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not inner or special[inner].any():
            continue
        around = tokenizer(text)["input_ids"]
        for start in range(len(around) - len(inner) + 1):
            if around[start : start + len(inner)] == inner:
                return around[:start], around[start + len(inner) :]
    raise InputError("the tokenizer has no text that becomes tokens of its vocabulary, and the same ones in a frame")


def _short_texts(tokenizer: PreTrainedTokenizerBase, special: Tensor) -> Iterator[str]:
    yield "a"
    for number in (~special).nonzero()[:, 0].tolist():
        yield tokenizer.decode([number]).strip()


def separator(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that ends a document among others: the end of a text, or [SEP]; the one the tokenizer uses first.

    Raises InputError where it has none.
    """
    after, known = ends(tokenizer)[1], [tokenizer.eos_token_id, tokenizer.sep_token_id]
    for token in [*(token for token in known if token in after), *after[-1:], *known, *ends(tokenizer)[0][:1]]:
        if token is not None:
            return [token]
    raise InputError("the tokenizer has no token to stand between documents: give it an eos_token or a sep_token")


def starts_of_words(tokenizer: PreTrainedTokenizerBase, size: int) -> Tensor:
    """(size,) bool: the tokens that begin a word, by the tokenizer's own mark ("##", "Ġ" or "▁"); so do all others.

    A vocabulary may hold another mark too, as GPT-2's has "##" for headings: that of the most tokens counts. Raises
    InputError where there is no mark.
    """
    vocabulary = tokenizer.get_vocab()
    counts = {mark: sum(token.startswith(mark) for token in vocabulary) for mark in ("##", "Ġ", "▁")}
    mark = max(counts, key=counts.get)
    if counts[mark] == 0:
        raise InputError("--whole_words: this tokenizer does not mark where words begin")
    first = torch.ones(size, dtype=torch.bool)
    for token, number in vocabulary.items():
        if mark == "##":
            first[number] = not token.startswith(mark)
        else:
            first[number] = token.startswith(mark) or not any(map(str.isalpha, token))
    return first


def check_text(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, trained: bool) -> list[str]:
    """What a user should know of these documents as the tokenizer reads them, a line each.

    trained: whether the tokenizer was trained on them. Raises InputError where it has no tokens for most of them.
    """
    notes = []
    if (share := unknown_share(tokenizer, texts)) > UNKNOWN_SAID:
        what = f"the tokenizer has no token for {share:.0%} of the characters of the documents"
        advice = "raise --vocab_size" if trained else "choose another --tokenizer, or leave it out to train one"
        if share > UNKNOWN_MOST:
            raise InputError(f"{what}, which may be of another script or language: {advice}")
        notes.append(f"warning: {what}: {advice}")
    names = sorted({token for token in _special_names(tokenizer) if token.strip()}, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
    found = [match[0] for text in texts if (match := pattern.search(text))]
    if found:
        notes.append(
            f"{len(found)} of {len(texts)} documents looked at hold the name of a special token, such as {found[0]}: "
            "it is read as plain text (where it stands between documents, make them documents of their own)"
        )
    return notes


def _special_names(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [*tokenizer.all_special_tokens, *added]


def unknown_share(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, characters: int = 2_000) -> float:
    """The share of the characters, white space apart, that become no token or the unknown one; of tokens where the
    tokenizer does not say which characters are whose. characters: looked at, of each text."""
    texts, unknown = [text[:characters] for text in texts], tokenizer.unk_token_id
    if not texts:
        return 0.0
    plain = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    if not tokenizer.is_fast:
        tokens = [token for ids in tokenizer(texts, **plain)["input_ids"] for token in ids]
        return tokens.count(unknown) / max(len(tokens), 1)
    found = tokenizer(texts, **plain, return_offsets_mapping=True)
    lost = total = 0
    for text, tokens, places in zip(texts, found["input_ids"], found["offset_mapping"], strict=True):
        left = [not character.isspace() for character in text]
        total += sum(left)
        for token, (start, end) in zip(tokens, places, strict=True):
            if token != unknown:
                left[start:end] = [False] * (end - start)
        lost += sum(left)
    return lost / max(total, 1)
