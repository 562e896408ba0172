"""The story of a run on text, told once for every method: documents, tokenizer, rows, model, training, the result, its
held-out loss beside that of token frequencies, samples, report, card, upload."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import transformers
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed

from hf_replearn import architectures
from hf_replearn.data.fingerprint import rows_fingerprint
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.packed import PackedShards
from hf_replearn.data.rows import cut_rows, pack_rows, packing_of, padding
from hf_replearn.data.sources import Source
from hf_replearn.data.text import Corpus, load_corpora
from hf_replearn.data.tokenization import check_text, ends, find_tokenizer, load_tokenizer
from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.errors import InputError
from hf_replearn.evaluation.held_out import frequency_loss, held_out_loss
from hf_replearn.evaluation.samples import as_text
from hf_replearn.pretraining.compiling import compile_blocks, settle_compile, uncompiled
from hf_replearn.pretraining.memory import fit_to_memory
from hf_replearn.pretraining.recipe import TextMethod, TextSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training import optimizers, schedules
from hf_replearn.training.callbacks import HeldOutLoss, JSONLines
from hf_replearn.training.checkpoints import PARTIAL, checkpoints
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.lanes import Lanes
from hf_replearn.training.masters import Masters, to_bfloat16
from hf_replearn.training.sharded_checkpoints import model_of
from hf_replearn.training.trainer import PretrainingTrainer

SAVED = "tokenizer_config.json"  # what every tokenizer that was saved has
LOOKED_AT = 500  # documents of the corpus, to see whether the tokenizer can read them
T = TypeVar("T")
UNLIMITED = 10**9  # a tokenizer with a larger model_max_length says that it does not know one


@dataclass(frozen=True)
class Texts:
    """What a run on text learns from.

    start, end: the special tokens around a text.
    rows, test: to train on, and held out; of `sequence_length` tokens each.
    shards:     of `rows`, where they are streamed.
    notes:      what the user should know of them, a line each.
    repo_id:    where the model will be pushed; None: nowhere.
    """

    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase
    start: list[int]
    end: list[int]
    rows: Dataset | IterableDataset
    shards: PackedShards | None
    test: list[dict]
    notes: list[str]
    repo_id: str | None


@dataclass(frozen=True)
class Objective:
    """What is told of the rows of a run.

    collator:  of the training, with `views` and `targets`.
    judge:     of the held-out loss.
    special:   the numbers of the tokens that are never told.
    around:    the special tokens of rows that are cut short, as arguments of `cut_rows`.
    predicted: share of the tokens that have a loss.
    counted:   whether the loss is a mean over the targets of all micro-steps and processes, as if of one batch.
    """

    collator: Callable
    judge: Callable
    special: Tensor
    around: dict[str, list[int]]
    predicted: float = 1.0
    counted: bool = True


def pretrain_texts(
    settings: TextSettings,
    method: TextMethod,
    *,
    source: Source | None = None,
    command: str | None = None,
) -> Run:
    """Trains the model of `method`, saves, judges, describes and shares it.

    source:  the documents, where they are not those that the settings name.
    command: that started this; None: the one of `hf-replearn` with these settings.
    Raises InputError before anything is trained for whatever the user has to mend.
    """
    # 1. Data: documents, their tokenizer, rows of one length. What is wrong with the input is found out here.
    out, length = Path(settings.output_dir), settings.sequence_length
    args = settings.text_arguments()
    texts = open_texts(settings, method, args, source)
    tokenizer, rows = texts.tokenizer, texts.rows
    objective = method.prepare(settings, texts)
    whole = partial(build, method=method, tokenizer=tokenizer, args=args)
    settings = fit_to_memory(settings, args, whole, objective.collator, rows, least=1)
    args.per_device_train_batch_size = settings.per_device_train_batch_size
    settings = settle_compile(settings, args, method, find_config(settings, method, tokenizer), rows)
    data = rows_fingerprint(rows, workers=settings.dataloader_num_workers)
    given = circumstances(settings, data=data, processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)

    # 2. Native model f with its head g, under the objective
    set_seed(settings.seed)
    model = build(settings, method, tokenizer, args)
    tokenizer.model_max_length = longest(tokenizer, model.model.config, length=length)

    # 3. Train
    learnt_from = lanes(settings, args, texts, objective.collator) if settings.streaming else rows
    trainer = make_trainer(settings, args, model, objective, learnt_from, given=given)
    judge = objective.judge
    loss = partial(held_out_loss, model, texts.test, collate=judge, views=judge.views, targets=judge.targets)
    measure = partial(as_written, settings, args, model, loss)
    trainer.add_callback(HeldOutLoss(trainer.over_processes(measure), steps=settings.eval_steps, log=trainer.log))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        keep_tokenizer(tokenizer, out)
        say_what_is_read(texts, out)
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.whole_model()
    if settings.weights == "bfloat16":
        to_bfloat16(model.parameters())  # where there was nothing left to do, they are not yet
    if not trainer.is_world_process_zero():
        return Run(out)

    # 4. Save: the native model, f with g, and what the run was. Then what is only for show.
    report = describe(settings, method, trainer, texts.corpus, model.model)
    report.command = command or report.command
    save_native(model.model, out)
    report.save(out)
    if method.finish is not None:
        try_to_show("the files of other libraries", partial(method.finish, out, length))
    as_written(settings, args, model, partial(show, settings, method, report, texts, objective, trainer, model.model))
    return Run(out)


def as_written(
    settings: TextSettings, args: TrainingArguments, model: PreTrainedModel, call: Callable[..., T], **arguments
) -> T:
    """What `call(**arguments)` gives while the model is not compiled, and has no attention that is slow unless it is:
    shapes come once then."""
    flexible = _attention(settings, args, model.model.config) == "flex_attention"
    with uncompiled():
        if flexible:
            model.model.set_attn_implementation("sdpa")
        found = call(**arguments)
        if flexible:
            model.model.set_attn_implementation("flex_attention")
    return found


def _attention(settings: TextSettings, args: TrainingArguments, config: PreTrainedConfig) -> str:
    """How the model of this configuration attends."""
    return architectures.attention_implementation(
        args.device,
        bf16=args.bf16,
        apart=config if settings.packing == "documents" else None,
        length=settings.sequence_length,
    )


def open_texts(
    settings: TextSettings, method: TextMethod, args: TrainingArguments, source: Source | None = None
) -> Texts:
    """Documents, their tokenizer, rows of one length. Raises InputError for whatever the user has to mend."""
    length, repo_id, left = settings.sequence_length, None, settings.left_to_memory
    settings = replace(settings, per_device_train_batch_size=1) if left else settings
    with args.main_process_first(desc="reading the text"):
        if settings.init is not None:
            refuse_checkpoint(settings.init, "--init")
        if args.process_index == 0:
            check_folder(settings, free=[*left, *(["torch_compile"] if settings.torch_compile == "auto" else [])])
            repo_id = check_sharing(settings)
        corpus = load_corpora(
            settings.dataset if source is None else (source,),
            text_column=settings.text_column,
            config=settings.dataset_config,
            streaming=settings.streaming,
            files=settings.files,
        )
        tokenizer = _find_tokenizer(settings, corpus)
        _check_tokenizer(settings, method, tokenizer, args)
        start, end = ends(tokenizer)
        _check_short_rows(settings, around=len(start) + len(end))
        notes = [*_unused(settings), *check_text(tokenizer, _some(corpus.train), trained=_is_trained(settings))]
        about = {"length": length, "packing": settings.packing, "ended": method.ended}
        rows, test = (
            pack_rows(part, tokenizer, **about, progress=f"rows to {purpose}")
            for part, purpose in ((corpus.train, "train on"), (corpus.test, "hold out"))
        )
        shards = PackedShards(corpus.shards, packing_of(tokenizer, **about)) if settings.streaming else None
        test = list(test.take(settings.eval_rows))
    batch = settings.per_device_train_batch_size * args.world_size
    if not settings.streaming and len(rows) < batch:
        raise InputError(
            f"a batch of {batch} rows is larger than the data, {len(rows)} rows of {length} tokens: lower "
            "--per_device_train_batch_size or --sequence_length"
        )
    if not any(row["length"] > len(start) + len(end) + 1 for row in test):
        raise InputError(f"there is no text in the documents that are held out, {corpus.test_source}")
    return Texts(corpus, tokenizer, start, end, rows, shards, test, notes, repo_id)


def _find_tokenizer(settings: TextSettings, corpus: Corpus) -> PreTrainedTokenizerBase:
    """A run that goes on has its own, whatever became of the cache: training WordPiece twice gives other numbers."""
    own = Path(settings.output_dir)
    if _is_trained(settings) and settings.resume == "auto" and checkpoints(own) and (own / SAVED).exists():
        forget_half_a_result(own)
        return load_tokenizer(str(own), "--output_dir")
    return find_tokenizer(
        corpus,
        named=settings.tokenizer,
        init=settings.init,
        kind=architectures.TOKENIZERS[settings.architecture],
        vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
    )


def keep_tokenizer(tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Into the run's folder, so that checkpoints can be used before it ends. It is whole there at any time."""
    partial = out / f"tokenizer{PARTIAL}"
    tokenizer.save_pretrained(partial)
    shutil.copytree(partial, out, dirs_exist_ok=True, copy_function=os.rename)
    shutil.rmtree(partial)


def forget_half_a_result(own: Path) -> None:
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


def show(
    settings: TextSettings,
    method: TextMethod,
    report: facts.Report,
    texts: Texts,
    objective: Objective,
    trainer: PretrainingTrainer,
    model: PreTrainedModel,
) -> None:
    """Baseline, samples, page, card, trackers and upload of a model that is saved; each but the upload fails alone."""
    out = Path(settings.output_dir)
    baseline = partial(frequency_loss, texts.rows, texts.test, special=objective.special)
    frequencies, note = try_to_show("the loss of token frequencies", baseline)
    if note is None:
        report.training.held_out["token frequencies"] = frequencies
    say = method.samples(model, texts.tokenizer, settings.sequence_length)
    said, note = try_to_show("samples", lambda: say(settings.samples or held_out_texts(texts.corpus)))
    report.said, report.samples = ([], note) if said is None else (said, as_text(said))
    tell_trackers(write_results(report, out, repo_id=texts.repo_id), out, trainer)
    try_to_show("the table", lambda: print(f"\n{report.held_out_table()}"))
    print(f"\n{report.samples}\n\nmodel and card: {out}")
    if texts.repo_id:
        print(f"pushed to {push(out, texts.repo_id, private=settings.hub_private_repo)}")


def export(method: TextMethod, checkpoint: Path, given: dict, out: Path) -> None:
    """Writes the native model of a checkpoint, and its tokenizer. given: what the run depended on."""
    tokenizer_of(checkpoint).save_pretrained(out)
    save_native(model_of(checkpoint, method.model_class).model, out)
    if method.finish is not None:
        method.finish(out, given["sequence_length"])


# ---- model and training


def find_config(settings: TextSettings, method: TextMethod, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The native configuration: that of the checkpoint, or of a model to be trained from scratch."""
    if settings.init:
        head = method.auto_class.removeprefix("AutoModelFor").removesuffix("LM").lower()
        heads = getattr(transformers, f"MODEL_FOR_{head.upper()}_LM_MAPPING")
        return architectures.load_config(settings.init, heads=heads, what=f"{head} language model")
    return architectures.make_config(
        settings.architecture,
        settings.size,
        tokenizer=tokenizer,
        length=settings.sequence_length,
        dropout=settings.dropout,
    )


def build(
    settings: TextSettings,
    method: TextMethod,
    tokenizer: PreTrainedTokenizerBase,
    args: TrainingArguments,
) -> PreTrainedModel:
    """The model from scratch, or somebody's checkpoint, with its objective. InputError where that cannot be trained."""
    native = None
    if settings.init:
        auto_class = getattr(transformers, method.auto_class)
        native = architectures.load(auto_class, settings.init, tokenizer=tokenizer, length=settings.sequence_length)
        if reason := method.refuses(native):
            raise InputError(f"--init {settings.init}: {reason}")
    config = find_config(settings, method, tokenizer) if native is None else native.config
    attention = {"attn_implementation": _attention(settings, args, config)}
    config = method.model_class.config_class(**{method.part: config}, **attention)
    model = method.model_class(config)
    if native is not None:
        model.model.load_state_dict(native.state_dict())
    elif settings.zero_init:
        architectures.zero_output_projections(model)
    if settings.gradient_checkpointing:
        model.model.gradient_checkpointing_enable()
    return model


def lanes(settings: TextSettings, args: TrainingArguments, texts: Texts, collator: Callable) -> Lanes:
    """The batches of this process from a stream, which has no end, and so no epochs."""
    readers = max(1, settings.dataloader_num_workers) * args.world_size
    return Lanes(
        texts.shards.for_readers(readers),
        prepare=lambda row: row,
        collate=collator,
        batch=args.per_device_train_batch_size,
        buffer=1,
        seed=settings.seed,
        share=None,
        usable="rows of text",
        rank=args.process_index,
        processes=args.world_size,
        workers=settings.dataloader_num_workers,
    )


def make_trainer(
    settings: TextSettings,
    args: TrainingArguments,
    model: PreTrainedModel,
    objective: Objective,
    rows: Dataset | Lanes,
    *,
    given: dict,
) -> PretrainingTrainer:
    """The trainer of this run. given: what the weights depend on."""
    collator = objective.collator

    def whole_or_short(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return cut_rows(batch, 4, **objective.around) if trainer.progress() < settings.short_rows else batch

    def muon(model: PreTrainedModel, lr: float, **more):
        matrices = architectures.hidden_matrices(model.model)  # of the model as it is trained, maybe in parts
        return optimizers.muon(model, lr, matrices=matrices, muon_lr=settings.muon_learning_rate, **more)

    optimizer = {"muon": muon, "adamw": optimizers.adamw}[settings.optimizer]
    optimizer = partial(optimizer, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    if settings.torch_compile:
        compile_blocks(model.model)
    trainer = PretrainingTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=collator,
        views=lambda batch, place: collator.views(whole_or_short(batch), place),
        targets=(lambda batch: collator.targets(whole_or_short(batch))) if objective.counted else None,
        make_optimizer=(lambda model: Masters(optimizer(model))) if settings.weights == "bfloat16" else optimizer,
        schedule=schedules.by_name(settings.schedule, warmup=settings.warmup, decay=settings.decay),
        max_minutes=settings.max_minutes,
        flops=architectures.flops_per_token(
            model.model, length=settings.sequence_length, predicted=objective.predicted
        ),
        circumstances=given,
        max_skipped=settings.skippable_steps,
        callbacks=[JSONLines(settings.output_dir)],
    )
    return trainer


def describe(
    settings: TextSettings,
    method: TextMethod,
    trainer: PretrainingTrainer,
    corpus: Corpus,
    model: PreTrainedModel,
) -> facts.Report:
    """The facts of this run for its report and card."""
    held_out = {"this model": trainer.last("held_out_loss")}
    return facts.Report(
        method=replace(method.facts, summary=method.facts.summary.format(**as_dict(settings))),
        encoder=facts.Encoder(
            library="transformers",
            pipeline_tag=method.pipeline_tag,
            architecture=type(model).__name__,
            parameters=model.num_parameters(),
            features=model.config.hidden_size,
            input_size=[settings.sequence_length],
            initialized_from=settings.init or "random weights",
            base_model=settings.init if settings.init and not Path(settings.init).exists() else None,
        ),
        data=facts.Data(
            name=corpus.name,
            hub_id=corpus.hub_id,
            unit="document",
            train=None if settings.streaming else len(corpus.train),
            test=None if settings.streaming else len(corpus.test),
            skipped=0,
            classes=None,
            held_out=corpus.test_source,
        ),
        training=facts.Training(**trainer.summary(), held_out=held_out),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


# ---- documents


def held_out_texts(corpus: Corpus) -> list[str]:
    """Some documents that are long enough to show something, or else the longest."""
    texts = [row["text"] for row in islice(corpus.test, 200) if row["text"]]
    return [text for text in texts if len(text) > 80][:5] or sorted(texts, key=len)[-5:]


def _some(documents: Dataset | IterableDataset) -> list[str]:
    """Documents from all over a corpus, or the first of a stream."""
    if isinstance(documents, Dataset):
        documents = documents.select(np.unique(np.linspace(0, len(documents) - 1, LOOKED_AT).round().astype(int)))
    return [row["text"] for row in islice(documents, LOOKED_AT) if row["text"] and not row["text"].isspace()]


def _check_tokenizer(
    settings: TextSettings, method: TextMethod, tokenizer: PreTrainedTokenizerBase, args: TrainingArguments
) -> None:
    """Raises InputError for a tokenizer that does not suit, and where the model does not fit into the memory."""
    token, in_words = method.token
    if getattr(tokenizer, token) is None:
        raise InputError(f"{method.facts.name} needs a tokenizer with {in_words}, and this one has none")
    if args.world_size == 1:
        auto_class, config = getattr(transformers, method.auto_class), find_config(settings, method, tokenizer)
        architectures.check_memory(
            auto_class,
            config,
            rows=settings.per_device_train_batch_size,
            length=settings.sequence_length,
            smaller="take a smaller model" if settings.init else "lower --size, --vocab_size",
            device=args.device,
        )


def _is_trained(settings: TextSettings) -> bool:
    return settings.init is None and settings.tokenizer is None


def _unused(settings: TextSettings) -> list[str]:
    """Settings that were given and decide nothing, as a line."""
    scratch, learned = ("architecture", "size", "dropout", "zero_init"), ("vocab_size", "lowercase")
    given = [
        f"--{name}"
        for name in changed(settings)
        if (name in scratch and settings.init) or (name in learned and not _is_trained(settings))
    ]
    reason = "the checkpoint of --init" if settings.init else "--tokenizer"
    return [f"not used: {', '.join(given)}, as {reason} has its own"] if given else []


def _check_short_rows(settings: TextSettings, *, around: int) -> None:
    length = settings.sequence_length
    if settings.short_rows and length % 4:
        raise InputError(f"--short_rows cuts rows into four, and --sequence_length {length} is not a multiple of 4")
    if settings.short_rows and length // 4 <= max(around, 1):
        raise InputError(f"--short_rows: a quarter of --sequence_length {length} has no room for text")
