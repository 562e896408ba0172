"""The story of a sentence encoder: texts or pairs of them, encoder, objective, training, the encoder as a folder for
sentence-transformers, maybe whitened, what it is worth beside word overlap, report, card, upload."""

from __future__ import annotations

import copy
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_MAPPING,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from hf_replearn import architectures
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.labelled import LabelledData, load_labelled
from hf_replearn.data.sentences import Sentences
from hf_replearn.data.sources import Source
from hf_replearn.data.tokenization import find_tokenizer, load_tokenizer
from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.load import reads_images, uses_token_types, with_dropout
from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.encoders.sentence_modules import read_sentence_modules
from hf_replearn.encoders.words import is_words
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.checks import check_varied
from hf_replearn.evaluation.sentences import (
    directions,
    find_partners,
    sts,
    whitening,
    without_half_of_its_words,
    word_overlap,
)
from hf_replearn.evaluation.steps import alone
from hf_replearn.evaluation.suite import JUDGED
from hf_replearn.pretraining.recipe import SentenceMethod, SentenceSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.texts import SAVED, forget_half_a_result, keep_tokenizer, tokenizer_of
from hf_replearn.randomness import Place, undisturbed
from hf_replearn.representation import Features, extract
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.export import export_sentence_transformers, save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training import optimizers, schedules
from hf_replearn.training.callbacks import Estimate, JSONLines, SampleScores
from hf_replearn.training.checkpoints import checkpoints
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.sharded_checkpoints import model_of
from hf_replearn.training.trainer import PretrainingTrainer

SOUGHT = 1000  # texts held out, at most, among which each is sought
WHITENED_ON = 10_000  # texts trained on, at most
NEVER = 10**9  # steps


def pretrain_sentences(
    settings: SentenceSettings, method: SentenceMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Trains the encoder of `method`, saves, judges, describes and shares it. Arguments as of `pretrain_texts`.

    Raises InputError before anything is trained for whatever the user has to mend.
    """
    # 1. Data. What can be wrong with the input is found out here.
    out, args = Path(settings.output_dir), settings.sentence_arguments()
    rows_per_loss, repo_id = settings.rows_per_loss(args.world_size), None
    with args.main_process_first(desc="reading the texts"):
        if args.process_index == 0:
            check_folder(settings)
            repo_id = check_sharing(settings)
        sentences = method.read(settings, source)
        judged_by = None if settings.sts is None else load_scored(settings.sts)
        tokenizer, made_by = _find_tokenizer(settings, sentences), pooling_of(settings)
    check_sizes(settings, sentences, rows_per_loss)
    collator = method.collate(settings, sentences, tokenizer)
    given = circumstances(settings, data=sentences.fingerprint, processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)

    # 2. Encoder f and head g
    set_seed(settings.seed)
    model = build(settings, method, tokenizer)
    check_views(model, collator, sentences.train)
    start = Pooling(copy.deepcopy(model.model), how=model.config.pooling)
    tokenizer.model_max_length = settings.sequence_length

    encode = partial(represent, settings, tokenizer)
    if settings.whiten is not None:
        check_whitening(settings, encode, start, sentences)

    # 3. Train
    batch = rows_per_loss // args.world_size
    trainer = make_trainer(settings, args, model, collator, sentences.train, batch=batch, given=given)
    if judged_by is not None:
        look = partial(watch, encode, Pooling(model.model, how=model.config.pooling), judged_by.test)
        how = {"steps": settings.eval_steps or NEVER, "log": trainer.log, "everywhere": trainer.is_sharded}
        trainer.add_callback(SampleScores(trainer.together(look), **how))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        keep_tokenizer(tokenizer, out)
        say_what_is_read(settings, sentences)
        if made_by not in (None, model.config.pooling):
            print(f"--init {settings.init} makes a vector by {made_by}; here it is trained by {model.config.pooling}")
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.whole_model()
    if not trainer.is_world_process_zero():
        return Run(out)

    # 4. Save: the native encoder for sentence-transformers. Then what it is worth.
    write_encoder(model.model, out, length=settings.sequence_length, pooling=model.config.pooling)
    trained = Pooling(model.model.to(args.device), how=model.config.pooling)
    name = method.objectives[settings.objective].name
    networks = {name: trained, "before training": start.to(args.device)}
    if settings.whiten is not None:
        networks = with_whitened(settings, encode, networks, sentences)
    report = describe(settings, method, trainer, sentences, model)
    report.command = command or report.command
    report.save(out)
    show(report, settings, encode, networks, sentences, judged_by)
    tell_trackers(write_results(report, out, repo_id=repo_id), out, trainer)
    print(f"\n{report.table()}\n\nencoder and card: {out}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


# ---- data


def load_scored(dataset: str) -> LabelledData:
    """Pairs of sentences with people's scores. Raises InputError where it is anything else."""
    data = load_labelled(dataset, evaluate_on=("validation", "test"))
    if data.inputs != ["text", "text_pair"] or data.label_names is not None:
        raise InputError(f"--sts {dataset}: give pairs of sentences with scores, such as GLUE's stsb")
    check_varied(torch.tensor(data.test["label"][:]))
    return data


def _find_tokenizer(settings: SentenceSettings, sentences: Sentences) -> PreTrainedTokenizerBase:
    """That of --init, or one trained on the texts, of which a run that goes on has its own.

    Raises InputError for what is no encoder of texts.
    """
    own, init = Path(settings.output_dir), settings.init
    if init is not None:
        refuse_checkpoint(init, "--init")
        if is_words(init):
            raise InputError(f"--init {init} holds vectors of words, and it is transformers encoders that are trained")
        find_config(init)
    elif settings.resume == "auto" and checkpoints(own) and (own / SAVED).exists():
        forget_half_a_result(own)
        return load_tokenizer(str(own), "--output_dir")
    tokenizer = find_tokenizer(
        sentences.corpus(),
        named=None,
        init=init,
        kind="bert",
        vocab_size=settings.vocab_size,
        lowercase=settings.lowercase,
    )
    if tokenizer.pad_token_id is None:
        raise InputError(f"--init {init}: its tokenizer has no padding token, and texts are of different lengths")
    return tokenizer


def find_config(init: str) -> PreTrainedConfig:
    """That of an encoder of texts. Raises InputError for anything else."""
    config = architectures.load_config(init, heads=MODEL_MAPPING, what="encoder")
    if reads_images(config) is not False or config.is_encoder_decoder:
        what = "an encoder and a decoder" if config.is_encoder_decoder else "no encoder of texts alone"
        raise InputError(f"--init {init} is {what} ({config.model_type}): give an encoder of texts, such as a BERT")
    return config


def check_sizes(settings: SentenceSettings, sentences: Sentences, rows_per_loss: int) -> None:
    """Raises InputError where there are too few texts for what is asked for."""
    if rows_per_loss > len(sentences.train):
        raise InputError(
            f"a batch of {rows_per_loss} rows is larger than the data, {len(sentences.train):,}: lower "
            "--per_device_train_batch_size or --negatives"
        )


def check_whitening(settings: SentenceSettings, encode, start: Pooling, sentences: Sentences) -> None:
    """Raises InputError where vectors of the encoder that training starts from vary in too few directions to be
    whitened so: those of layer normalisation at its start, in one less than they have numbers."""
    texts = sentences.corpus().train
    there = directions(encode(start, texts.select(range(min(len(texts), max(1000, 2 * settings.whiten))))).x)
    if there < settings.whiten:
        raise InputError(
            f"--whiten {settings.whiten}: the vectors of {len(texts):,} texts vary in {there} directions: say --whiten "
            f"{there} at most"
        )


def pooling_of(settings: SentenceSettings) -> str | None:
    """How --init makes a vector of a text, in words, where it is a folder for sentence-transformers and --pooling does
    not say it. Raises InputError, which names --pooling, where that is not known here."""
    if settings.init is None or settings.pooling is not None:
        return None
    modules = read_sentence_modules(settings.init, named=f"--init {settings.init}")
    return None if modules is None else modules.in_words()


def say_what_is_read(settings: SentenceSettings, sentences: Sentences) -> None:
    """What is learnt from, and what was left out of it."""
    write_skipped(Path(settings.output_dir, "skipped_texts.txt"), sentences.left_out)
    print(sentences.taken)
    what = "pairs of texts" if len(sentences.columns) > 1 else "texts"
    print(
        f"train: {len(sentences.train):,} {what}, held out: {len(sentences.test):,} ({sentences.test_source}); log: "
        f"{settings.output_dir}/log.jsonl"
    )


# ---- model and training


def build(settings: SentenceSettings, method: SentenceMethod, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """f, with the weights of --init, and g. Raises InputError where that cannot be trained."""
    native, length = None, settings.sequence_length
    if settings.init is not None:
        native = architectures.load(AutoModel, settings.init, tokenizer=tokenizer, length=length)
        config = copy.deepcopy(native.config)
    else:
        config = architectures.make_config("bert", settings.size, tokenizer=tokenizer, length=length)
    config = method.configure(settings, with_dropout(config, settings.dropout))
    both_ways = type(config.encoder) in MODEL_FOR_MASKED_LM_MAPPING
    if config.pooling == "cls" and not both_ways and type(config.encoder) in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"--init {settings.init} reads from left to right, and the first token sees no other: say --pooling mean"
        )
    try:
        model = method.model_class(config)
    except ValueError as error:  # tsdae without a decoder
        raise InputError(f"--init {settings.init}: {error}") from error
    if native is not None:
        own = set(model.model.state_dict())
        model.model.load_state_dict({name: value for name, value in native.state_dict().items() if name in own})
    return model


@torch.no_grad()
def check_views(model: PreTrainedModel, collator: Any, rows: Dataset) -> None:
    """Raises InputError where two views of a text are to differ by dropout, and do not."""
    if getattr(collator, "count", 1) < 2:
        return
    with undisturbed():
        model.train()
        batch = collator.views(collator([rows[0], rows[1]]), Place(0, 0))
        vectors = model(**batch, return_loss=False).pooler_output
    if torch.equal(vectors[:, 0], vectors[:, 1]):
        raise InputError(
            "both views of a text are the same vector, as the encoder has no dropout, by which they are to differ: say "
            "--dropout 0.1, or take another --init"
        )


def make_trainer(
    settings: SentenceSettings,
    args: TrainingArguments,
    model: PreTrainedModel,
    collator: Any,
    rows: Dataset,
    *,
    batch: int,
    given: dict[str, Any],
) -> PretrainingTrainer:
    """The trainer of this run. batch: rows of this process in one loss; given: what the weights depend on."""
    at_once, timed = settings.per_device_train_batch_size, settings.max_minutes is not None
    args.per_device_train_batch_size = batch
    return PretrainingTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=collator,
        views=collator.views,
        micro_batch=at_once if batch > at_once else None,
        make_optimizer=partial(optimizers.adamw, lr=settings.learning_rate, weight_decay=settings.weight_decay),
        circumstances=given,
        max_skipped=settings.skippable_steps,
        max_minutes=settings.max_minutes,
        schedule=partial(schedules.linear, warmup=settings.warmup_steps) if timed else None,
        callbacks=[JSONLines(settings.output_dir), *([] if timed else [Estimate()])],
    )


# ---- result


def write_encoder(
    model: PreTrainedModel, out: Path, *, length: int, pooling: str, dense: nn.Linear | None = None
) -> None:
    """The encoder in transformers' format, with what makes it a folder for sentence-transformers. Its tokenizer is
    there. dense: a linear map behind the pooling."""
    save_native(model, out)
    export_sentence_transformers(out, max_length=length, pooling=pooling, dense=dense)


def export(method: SentenceMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the encoder of a checkpoint as a run leaves it, without whitening, which is fitted at a run's end."""
    tokenizer = tokenizer_of(checkpoint)
    tokenizer.save_pretrained(out)
    model = model_of(checkpoint, method.model_class)
    write_encoder(model.model, out, length=given["sequence_length"], pooling=model.config.pooling)


def with_whitened(
    settings: SentenceSettings, encode, networks: dict[str, Pooling], sentences: Sentences
) -> dict[str, Pooling]:
    """The networks, each behind itself with the map that whitens its vectors of texts trained on. That of the first is
    put into the folder.

    Raises TrainingError where they vary in fewer directions than are to be kept: the folder has no whitening then.
    """
    out, texts, found = settings.output_dir, sentences.corpus().train, {}
    texts = texts.shuffle(seed=settings.seed).select(range(min(len(texts), WHITENED_ON)))
    for name, network in networks.items():
        try:
            dense = whitening(encode(network, texts).x, settings.whiten)
        except InputError as error:
            left = f"{out} holds the encoder without whitening"
            raise TrainingError(f"--whiten {settings.whiten}: {name}: {error}; {left}") from error
        if not found:
            export_sentence_transformers(out, max_length=settings.sequence_length, pooling=network.how, dense=dense)
        after = dense.to(next(network.parameters()).device)
        found[f"{name}, whitened"] = Pooling(network.encoder, how=network.how, after=after)
        found[name] = network
    return found


def describe(
    settings: SentenceSettings,
    method: SentenceMethod,
    trainer: PretrainingTrainer,
    sentences: Sentences,
    model: PreTrainedModel,
) -> facts.Report:
    """The facts of this run for its report and card."""
    return facts.Report(
        method=method.objectives[settings.objective],
        encoder=facts.Encoder(
            library="sentence-transformers",
            pipeline_tag="sentence-similarity",
            architecture=type(model.model).__name__,
            parameters=model.model.num_parameters(),
            features=settings.whiten or model.model.config.get_text_config().hidden_size,
            input_size=[settings.sequence_length],
            initialized_from=settings.init or "random weights",
            base_model=settings.init if settings.init and not Path(settings.init).exists() else None,
        ),
        data=facts.Data(
            name=sentences.name,
            hub_id=sentences.hub_id,
            unit="text" if len(sentences.columns) == 1 else "text pair",
            train=len(sentences.train),
            test=len(sentences.test),
            skipped=0,
            classes=None,
            held_out=sentences.test_source,
        ),
        training=facts.Training(**trainer.summary()),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


# ---- what it is worth


def represent(
    settings: SentenceSettings, tokenizer: PreTrainedTokenizerBase, network: Pooling, texts: Dataset
) -> Features:
    """The vectors of rows of `text`, as the exported folder gives them."""
    preprocess = ProcessorInputs(
        tokenizer, settings.sequence_length, token_types=uses_token_types(network.encoder.config)
    )
    with undisturbed():
        return extract(network, texts, preprocess=preprocess, num_workers=settings.dataloader_num_workers)


def as_rows(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts})


def watch(encode, network: Pooling, pairs: Dataset) -> dict[str, float]:
    """The similarity of sentences in the midst of training; what cannot be measured is left out, as at the end."""
    first, second = (encode(network, as_rows(pairs[name][:])).x for name in ("text", "text_pair"))
    try:
        return {"sts_spearman": round(sts(first, second, torch.tensor(pairs["label"][:]))["sts_spearman"], 4)}
    except InputError:
        return {}


def show(
    report: facts.Report,
    settings: SentenceSettings,
    encode,
    networks: dict[str, Pooling],
    sentences: Sentences,
    judged_by: LabelledData | None,
) -> None:
    """Scores beside those of words, and how well texts are found, into the report; each may fail by itself."""
    if judged_by is not None:
        judge(report, settings, encode, networks, sentences, judged_by)
        report.save(settings.output_dir)
    report.own_task, _ = try_to_show("how well texts are found", partial(seek, settings, encode, networks, sentences))
    if report.own_task is not None:
        print(f"\n{report.own_task.table()}")


def judge(
    report: facts.Report,
    settings: SentenceSettings,
    encode,
    networks: dict[str, Pooling],
    sentences: Sentences,
    judged_by: LabelledData,
) -> None:
    """Spearman's correlation with people's scores, of each network and of common words."""
    test, metric = judged_by.test, f"sts_spearman_{re.sub(r'[^a-z0-9]+', '', judged_by.name.lower())}"
    pairs, scores = [as_rows(test[name][:]) for name in ("text", "text_pair")], torch.tensor(test["label"][:])
    found = {row: [encode(network, part) for part in pairs] for row, network in networks.items()}
    found["common words, the rarer the more"] = word_overlap(sentences.corpus().train, *pairs)
    for row, (first, second) in found.items():
        measure = partial(sts, first.x, second.x, scores, seed=settings.seed)
        scored, missing = alone(measure, metrics=["sts_spearman"], what=f"similarities of {row}")
        scored = {key.replace("sts_spearman", metric): value for key, value in scored.items()}
        report.rows[row] = scored | ({metric: None} if missing else {})
        if missing:
            report.missing[row] = {metric: missing["sts_spearman"]}
    which = f"{len(scores):,} pairs of {judged_by.name}, {judged_by.test_source}"
    report.protocols = {metric: JUDGED["sts_spearman"].format(test=which)}


def seek(settings: SentenceSettings, encode, networks: dict[str, Pooling], sentences: Sentences) -> facts.OwnTask:
    """Whether held-out texts are found by their partners, or by half of their words, among others."""
    unique = {}
    for row in sentences.test:
        unique.setdefault(row["text"], row.get("partner"))
    texts = list(unique)[:SOUGHT]
    if len(sentences.columns) > 1:
        partners = {unique[text]: text for text in reversed(texts)}  # each is the partner of one
        sought, given = list(partners), list(partners.values())
        told = f"The partner of a text, among those of {len(sought):,} pairs held out."
    else:
        sought, given = texts, without_half_of_its_words(texts, seed=settings.seed)
        told = f"A text by half of its words, among {len(sought):,} texts held out."
    parts = as_rows(given), as_rows(sought)
    (name, network), *others = networks.items()
    vectors = {"this run": [encode(network, part) for part in parts]}
    vectors |= {other: [encode(baseline, part) for part in parts] for other, baseline in others}
    vectors["common words, the rarer the more"] = word_overlap(sentences.corpus().train, *parts)
    rows = {row: find_partners(first.x, second.x) for row, (first, second) in vectors.items()}
    rows["chance"] = {
        "found first": 1 / len(sought),
        "mean 1 / rank": sum(1 / k for k in range(1, len(sought) + 1)) / len(sought),
    }
    return facts.OwnTask(told=told, rows=rows)
