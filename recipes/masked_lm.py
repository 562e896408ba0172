"""Masked language modelling (BERT, arXiv:1810.04805; RoBERTa, arXiv:1907.11692): from text to an encoder.

    accelerate launch recipes/masked_lm.py --config recipes/configs/masked_lm/toy.yaml --output_dir out/toy_bert
    hf-replearn masked-lm --dataset PATH_OR_HUB_ID --size mini --output_dir out/mine
    hf-replearn masked-lm --init bert-base-uncased --dataset PATH_OR_HUB_ID --output_dir out/domain
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/masked_lm.py \\
        --config recipes/configs/masked_lm/roberta_base.yaml --dataset HUB_ID --streaming --output_dir out/roberta

The toy takes a minute on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import as_dict, changed, command_line, run, setting
from hf_replearn.training.settings import TextPretrainingSettings


@dataclass(kw_only=True)
class MaskedLMSettings(TextPretrainingSettings):
    architecture: Literal["bert", "roberta", "modernbert"] = setting("bert", "of a model from scratch", section="model")
    size: Literal["tiny", "mini", "small", "base", "large"] = setting(
        "base", "of a model from scratch", section="model"
    )
    mask_rate: float = setting(
        0.3, "share of hidden tokens in training (BERT: 0.15)", section="training", at_least=0.01, at_most=0.9
    )
    masking: Literal["dynamic", "fixed"] = setting(
        "dynamic", "dynamic: others each time (RoBERTa); fixed: the same for a row (BERT)", section="training"
    )
    whole_words: bool = setting(
        False, "hide whole words; needs a tokenizer that marks where words begin", section="training"
    )


def main(settings: MaskedLMSettings) -> None:
    """Masked language modelling: learn an encoder by telling hidden tokens (arXiv:1810.04805, arXiv:1907.11692)."""
    from transformers import set_seed

    from hf_replearn import architectures
    from hf_replearn.data.fingerprint import rows_fingerprint
    from hf_replearn.data.rows import cut_rows
    from hf_replearn.data.tokenization import special_tokens, starts_of_words, vocabulary_size
    from hf_replearn.evaluation.held_out import frequency_loss, held_out_loss
    from hf_replearn.evaluation.samples import fill_gaps
    from hf_replearn.methods.masked_lm import DataCollatorForMaskedLM
    from hf_replearn.pretraining.texts import keep_tokenizer, longest, open_texts, save, say_what_is_read, show
    from hf_replearn.sharing.export import export_sentence_transformers
    from hf_replearn.sharing.show import try_to_show
    from hf_replearn.training import optimizers, schedules
    from hf_replearn.training.callbacks import HeldOutLoss, JSONLines
    from hf_replearn.training.folder import circumstances, claim_folder, find_checkpoint
    from hf_replearn.training.trainer import PretrainingTrainer

    # 1. Data: documents, their tokenizer, rows of one length. What is wrong with the input is found out here.
    out, length = Path(settings.output_dir), settings.sequence_length
    args = settings.text_arguments()
    texts = open_texts(
        settings,
        args,
        kind=architectures.TOKENIZERS[settings.architecture],
        ended=True,
        check=partial(check_tokenizer, settings, args=args),
    )
    tokenizer, rows = texts.tokenizer, texts.rows
    data = rows_fingerprint(rows, workers=settings.dataloader_num_workers)
    facts = circumstances(settings, data=data, processes=args.world_size)
    checkpoint = find_checkpoint(settings, facts, args=args)

    # 2. Masks
    vocabulary = architectures.padded(vocabulary_size(tokenizer))
    special = special_tokens(tokenizer, vocabulary)
    collator = DataCollatorForMaskedLM(
        mask_token_id=tokenizer.mask_token_id,
        special=special,
        rate=settings.mask_rate,
        dynamic=settings.masking == "dynamic",
        starts_word=starts_of_words(tokenizer, vocabulary) if settings.whole_words else None,
        seed=settings.seed,
    )
    if settings.whole_words:
        check_words(collator, texts.test)

    # 3. Encoder f, its prediction head g, the objective
    set_seed(settings.seed)
    model = start(settings, tokenizer, args)
    tokenizer.model_max_length = longest(tokenizer, model.model.config, length=length)

    # 4. Train
    def whole_or_short(batch):
        short = trainer.progress() < settings.short_rows
        return cut_rows(batch, 4, start=texts.start, end=texts.end) if short else batch

    matrices = {"matrices": architectures.hidden_matrices(model.model), "muon_lr": settings.muon_learning_rate}
    optimizer = partial(
        {"muon": partial(optimizers.muon, **matrices), "adamw": optimizers.adamw}[settings.optimizer],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    trainer = PretrainingTrainer(
        model=model,
        args=args,
        train_dataset=rows.repeat(None) if settings.streaming else rows,  # a stream has no end, and so no epochs
        data_collator=collator,
        views=lambda batch, place: collator.views(whole_or_short(batch), place),
        targets=None if settings.whole_words else lambda batch: collator.targets(whole_or_short(batch)),
        make_optimizer=optimizer,
        schedule=schedules.by_name(settings.schedule, warmup=settings.warmup, decay=settings.decay),
        max_minutes=settings.max_minutes,
        flops=architectures.flops_per_token(model.model, length=length, predicted=settings.mask_rate),
        circumstances=facts,
        max_skipped=settings.skippable_steps,
        callbacks=[JSONLines(out)],
    )
    judge = replace(collator, rate=0.15, dynamic=False, starts_word=None, seed=0)  # at any --mask_rate
    measure = partial(held_out_loss, model, texts.test, collate=judge, views=judge.views, targets=judge.targets)
    trainer.add_callback(HeldOutLoss(trainer.over_processes(measure), steps=settings.eval_steps, log=trainer.log))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        keep_tokenizer(tokenizer, out)
        say_what_is_read(texts, out)
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.is_world_process_zero():
        return

    # 5. Save: the native model, f with g, and what the run was. Then what is only for show.
    report = describe(settings, trainer, texts.corpus, model.model, {"this model": trainer.last("held_out_loss")})
    save(model.model, report, out)
    try_to_show("sentence-transformers' files", partial(export_sentence_transformers, out, max_length=length))
    show(
        report,
        texts,
        out,
        baseline=partial(frequency_loss, rows, texts.test, special=special),
        samples=partial(fill_gaps, model.model, tokenizer, length=length),
        private=settings.hub_private_repo,
    )


def check_tokenizer(settings: MaskedLMSettings, tokenizer, *, args) -> None:
    """Raises InputError for a tokenizer without masks, and where the model does not fit into the memory."""
    from transformers import AutoModelForMaskedLM

    from hf_replearn.architectures import check_memory

    if tokenizer.mask_token_id is None:
        raise InputError("masked language modelling needs a tokenizer with a mask token, and this one has none")
    if args.world_size == 1:
        check_memory(AutoModelForMaskedLM, find_config(settings, tokenizer), settings=settings, device=args.device)


def check_words(collator, rows: list[dict]) -> None:
    """Raises InputError where words are so long that few tokens or none would be hidden, as in Chinese byte by byte."""
    from hf_replearn.losses import IGNORED

    batch = collator(rows[:64])
    labels = replace(collator, dynamic=False).views(batch)["labels"]
    hidden = int((labels != IGNORED).sum()) / max(int(collator.targets(batch)), 1)
    if hidden < 0.5:
        raise InputError(
            f"--whole_words would hide {hidden * collator.rate:.1%} of the tokens instead of {collator.rate:.0%}: the "
            "tokenizer marks too few beginnings of words in this text; leave it out"
        )


def find_config(settings: MaskedLMSettings, tokenizer):
    """The configuration of the encoder: that of the checkpoint, or of one to be trained from scratch."""
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    from hf_replearn import architectures

    if settings.init:
        return architectures.load_config(settings.init, heads=MODEL_FOR_MASKED_LM_MAPPING, what="masked language model")
    return architectures.make_config(
        settings.architecture,
        settings.size,
        tokenizer=tokenizer,
        length=settings.sequence_length,
        dropout=settings.dropout,
    )


def start(settings: MaskedLMSettings, tokenizer, args):
    """The model from scratch, or somebody's checkpoint, with its objective. InputError where that has no head."""
    from transformers import AutoModelForMaskedLM

    from hf_replearn import architectures
    from hf_replearn.methods.masked_lm import HEADS, MaskedLMConfig, MaskedLMForPreTraining

    native = None
    if settings.init:
        native = architectures.load(
            AutoModelForMaskedLM, settings.init, tokenizer=tokenizer, length=settings.sequence_length
        )
        config = native.config
        if config.model_type not in HEADS:
            raise InputError(f"--init {settings.init} is a {config.model_type}; supported are {', '.join(HEADS)}")
    else:
        config = find_config(settings, tokenizer)
    config = MaskedLMConfig(encoder=config)
    config._attn_implementation = architectures.attention_implementation(args.device, bf16=args.bf16)
    model = MaskedLMForPreTraining(config)
    if native is not None:
        model.model.load_state_dict(native.state_dict())
    elif settings.zero_init:
        architectures.zero_output_projections(model)
    if settings.gradient_checkpointing:
        model.model.gradient_checkpointing_enable()
    return model


def export(checkpoint: Path, facts: dict, out: Path) -> None:
    """Writes the native model of a checkpoint, and its tokenizer. facts: what the run depended on."""
    from hf_replearn.methods.masked_lm import MaskedLMForPreTraining
    from hf_replearn.pretraining.texts import tokenizer_of
    from hf_replearn.sharing.export import export_sentence_transformers, save_native

    tokenizer_of(checkpoint).save_pretrained(out)
    save_native(MaskedLMForPreTraining.from_pretrained(checkpoint).model, out)
    export_sentence_transformers(out, max_length=facts["sequence_length"])


def describe(settings: MaskedLMSettings, trainer, corpus, model, held_out: dict[str, float]):
    """The facts of this run for its report and card."""
    from hf_replearn.sharing import report as facts

    return facts.Report(
        method=facts.Method(
            name="masked language modelling",
            summary=f"{settings.mask_rate:.0%} of the tokens are hidden and told from all others; no labels are used.",
            paper="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
            arxiv="1810.04805",
            bibtex=BIBTEX,
            model_class="hf_replearn.methods.masked_lm.MaskedLMForPreTraining",
        ),
        encoder=facts.Encoder(
            library="transformers",
            pipeline_tag="fill-mask",
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
        command=shlex.join(["hf-replearn", "masked-lm", *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


BIBTEX = """\
@inproceedings{devlin2019bert,
  title     = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author    = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Conference of the North American Chapter of the Association for Computational Linguistics},
  year      = {2019}
}"""

if __name__ == "__main__":
    run(main, MaskedLMSettings, prog="masked_lm")
