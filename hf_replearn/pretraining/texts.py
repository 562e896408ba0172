"""What runs on text share: the way from documents to rows before the training, and what is made of a run after it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.rows import pack_rows, padding
from hf_replearn.data.text import Corpus, load_corpora
from hf_replearn.data.tokenization import Kind, check_text, ends, find_tokenizer, load_tokenizer
from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.errors import InputError
from hf_replearn.settings import changed
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.report import Report
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.checkpoints import PARTIAL, checkpoints
from hf_replearn.training.folder import check_folder
from hf_replearn.training.settings import TextPretrainingSettings

SAVED = "tokenizer_config.json"  # what every tokenizer that was saved has
LOOKED_AT = 500  # documents of the corpus, to see whether the tokenizer can read them
UNLIMITED = 10**9  # a tokenizer with a larger model_max_length says that it does not know one


@dataclass(frozen=True)
class Texts:
    """What a run on text learns from.

    start, end: the special tokens around a text.
    rows, test: to train on, and held out; of `sequence_length` tokens each.
    notes:      what the user should know of them, a line each.
    repo_id:    where the model will be pushed; None: nowhere.
    """

    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase
    start: list[int]
    end: list[int]
    rows: Dataset | IterableDataset
    test: list[dict]
    notes: list[str]
    repo_id: str | None


def open_texts(
    settings: TextPretrainingSettings,
    args: TrainingArguments,
    *,
    kind: Kind,
    ended: bool,
    check: Callable[[PreTrainedTokenizerBase], None],
) -> Texts:
    """Documents, their tokenizer, rows of one length. What is wrong with the input is found out here.

    kind: of a tokenizer that is trained. ended: whether rows end as texts do, see pack_rows. check: raises InputError
    for a tokenizer that does not suit the method. Raises InputError for whatever the user has to mend.
    """
    length, repo_id = settings.sequence_length, None
    with args.main_process_first(desc="reading the text"):
        if settings.init is not None:
            refuse_checkpoint(settings.init, "--init")
        if args.process_index == 0:
            check_folder(settings)
            repo_id = check_sharing(settings)
        corpus = load_corpora(
            settings.dataset,
            text_column=settings.text_column,
            config=settings.dataset_config,
            streaming=settings.streaming,
            files=settings.files,
        )
        tokenizer = _find_tokenizer(settings, corpus, kind)
        check(tokenizer)
        start, end = ends(tokenizer)
        _check_short_rows(settings, around=len(start) + len(end))
        notes = [*_unused(settings), *check_text(tokenizer, _some(corpus.train), trained=_is_trained(settings))]
        rows, test = (
            pack_rows(
                part, tokenizer, length=length, packing=settings.packing, ended=ended, progress=f"rows to {purpose}"
            )
            for part, purpose in ((corpus.train, "train on"), (corpus.test, "hold out"))
        )
        test = list(test.take(settings.eval_rows))
    batch = settings.per_device_train_batch_size * args.world_size
    if not settings.streaming and len(rows) < batch:
        raise InputError(
            f"a batch of {batch} rows is larger than the data, {len(rows)} rows of {length} tokens: lower "
            "--per_device_train_batch_size or --sequence_length"
        )
    if not any(row["length"] > len(start) + len(end) + 1 for row in test):
        raise InputError(f"there is no text in the documents that are held out, {corpus.test_source}")
    return Texts(corpus, tokenizer, start, end, rows, test, notes, repo_id)


def _find_tokenizer(settings: TextPretrainingSettings, corpus: Corpus, kind: Kind) -> PreTrainedTokenizerBase:
    """A run that goes on has its own, whatever became of the cache: training WordPiece twice gives other numbers."""
    own = Path(settings.output_dir)
    if _is_trained(settings) and settings.resume == "auto" and checkpoints(own) and (own / SAVED).exists():
        _forget_half_a_result(own)
        return load_tokenizer(str(own), "--output_dir")
    return find_tokenizer(
        corpus,
        named=settings.tokenizer,
        init=settings.init,
        kind=kind,
        vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
    )


def keep_tokenizer(tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Into the run's folder, so that checkpoints can be used before it ends. It is whole there at any time."""
    partial = out / f"tokenizer{PARTIAL}"
    tokenizer.save_pretrained(partial)
    shutil.copytree(partial, out, dirs_exist_ok=True, copy_function=os.rename)
    shutil.rmtree(partial)


def _forget_half_a_result(own: Path) -> None:
    """Takes away the config.json of a run that was killed while it wrote its result: tokenizers do not load beside it,
    and the run writes it again."""
    config = own / "config.json"
    try:
        json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except ValueError:
        config.unlink()


def say_what_is_read(texts: Texts, out: Path) -> None:
    """The rows and tokens to train on and held out, and what there is to know of them."""
    print(texts.corpus.taken)
    write_skipped(out / "skipped_texts.txt", texts.corpus.left_out)
    length = len(texts.test[0]["input_ids"])
    told, documents = sum(row["length"] for row in texts.test), texts.corpus.test
    held_out = f"{len(texts.test):,} rows, {told:,} tokens"
    if isinstance(texts.rows, IterableDataset):
        print(f"train: a stream of rows of {length} tokens; held out: {held_out}; log: {out}/log.jsonl")
    else:
        tokens = round(len(texts.rows) * length * (1 - padding(texts.rows)))
        print(
            f"train: {len(texts.rows):,} rows of {length} tokens, {padding(texts.rows):.2%} padding, {tokens:,} tokens "
            f"of {len(texts.corpus.train):,} documents; held out: {held_out}; log: {out}/log.jsonl"
        )
        if len(documents) <= 3:  # each may be a whole book
            for row in documents:
                print(f"held out: the document that begins {' '.join((row['text'] or '')[:80].split())!r}")
    for note in texts.notes:
        print(note)


def longest(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, *, length: int) -> int:
    """The longest text in tokens that a model reads well, for whoever cuts texts at what its tokenizer says.

    Learned positions beyond those of training are noise; rotary ones go on.
    """
    if tokenizer.model_max_length <= UNLIMITED:
        return max(length, tokenizer.model_max_length)
    config = config.get_text_config()
    return config.max_position_embeddings if getattr(config, "rope_parameters", None) else length


def tokenizer_of(checkpoint: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a run's checkpoint, which lies beside it. Raises InputError where it does not."""
    try:
        return load_tokenizer(str(checkpoint.resolve().parent), "the run's folder")
    except InputError as error:
        raise InputError(f"{error}: a checkpoint is used where its run saved it, beside the tokenizer") from error


def save(model: PreTrainedModel, report: Report, out: Path) -> None:
    """The result, before anything that is only for show: the native model, the report. The tokenizer is there."""
    save_native(model, out)
    report.save(out)


def show(
    report: Report,
    texts: Texts,
    out: Path,
    *,
    baseline: Callable[[], float],
    samples: Callable[[Sequence[str]], str],
    private: bool,
) -> None:
    """Baseline, samples, page, card and upload of a model that is saved; each but the upload fails alone.

    baseline: the held-out loss of token frequencies. samples: texts -> what the model says of them.
    """
    frequencies, note = try_to_show("the loss of token frequencies", baseline)
    if note is None:
        report.training.held_out["token frequencies"] = frequencies
    said, note = try_to_show("samples", lambda: samples(report.settings["samples"] or held_out_texts(texts.corpus)))
    report.samples = said if note is None else note
    write_results(report, out, repo_id=texts.repo_id)
    try_to_show("the table", lambda: print(f"\n{report.held_out_table()}"))
    print(f"\n{report.samples}\n\nmodel and card: {out}")
    if texts.repo_id:
        print(f"pushed to {push(out, texts.repo_id, private=private)}")


def held_out_texts(corpus: Corpus) -> list[str]:
    """Some documents that are long enough to show something, or else the longest."""
    texts = [row["text"] for row in islice(corpus.test, 200) if row["text"]]
    return [text for text in texts if len(text) > 80][:5] or sorted(texts, key=len)[-5:]


def _some(documents: Dataset | IterableDataset) -> list[str]:
    """Documents from all over a corpus, or the first of a stream."""
    if isinstance(documents, Dataset):
        documents = documents.select(np.unique(np.linspace(0, len(documents) - 1, LOOKED_AT).round().astype(int)))
    return [row["text"] for row in islice(documents, LOOKED_AT) if row["text"] and not row["text"].isspace()]


def _is_trained(settings: TextPretrainingSettings) -> bool:
    return settings.init is None and settings.tokenizer is None


def _unused(settings: TextPretrainingSettings) -> list[str]:
    """Settings that were given and decide nothing, as a line."""
    scratch, learned = ("architecture", "size", "dropout", "zero_init"), ("vocab_size", "lowercase")
    given = [
        f"--{name}"
        for name in changed(settings)
        if (name in scratch and settings.init) or (name in learned and not _is_trained(settings))
    ]
    reason = "the checkpoint of --init" if settings.init else "--tokenizer"
    return [f"not used: {', '.join(given)}, as {reason} has its own"] if given else []


def _check_short_rows(settings: TextPretrainingSettings, *, around: int) -> None:
    length = settings.sequence_length
    if settings.short_rows and length % 4:
        raise InputError(f"--short_rows cuts rows into four, and --sequence_length {length} is not a multiple of 4")
    if settings.short_rows and length // 4 <= max(around, 1):
        raise InputError(f"--short_rows: a quarter of --sequence_length {length} has no room for text")
