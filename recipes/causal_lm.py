"""Causal language modelling (GPT, Radford et al. 2018; GPT-2, Radford et al. 2019): from text to a decoder.

    accelerate launch recipes/causal_lm.py --config recipes/configs/causal_lm/toy.yaml --output_dir out/toy_gpt
    hf-replearn causal-lm --dataset PATH_OR_HUB_ID --size small --output_dir out/mine
    hf-replearn causal-lm --init gpt2 --dataset PATH_OR_HUB_ID --output_dir out/domain
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/causal_lm.py \\
        --config recipes/configs/causal_lm/gpt2_small.yaml --dataset HUB_ID --streaming --output_dir out/gpt2

The toy takes a minute on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import as_dict, changed, command_line, run, setting
from hf_replearn.training.settings import TextPretrainingSettings


@dataclass(kw_only=True)
class CausalLMSettings(TextPretrainingSettings):
    architecture: Literal["gpt2", "qwen3"] = setting("gpt2", "of a model from scratch", section="model")
    size: Literal["tiny", "mini", "small", "base", "medium", "large", "xl"] = setting(
        "small", "of a model from scratch; small (or base) is GPT-2's 124 million, xl 1.5 billion", section="model"
    )


def main(settings: CausalLMSettings) -> None:
    """Causal language modelling: learn a decoder by telling the next token (Radford et al. 2018, 2019)."""
    from transformers import set_seed

    from hf_replearn import architectures
    from hf_replearn.data.fingerprint import rows_fingerprint
    from hf_replearn.data.rows import cut_rows
    from hf_replearn.data.tokenization import special_tokens, vocabulary_size
    from hf_replearn.evaluation.held_out import frequency_loss, held_out_loss
    from hf_replearn.evaluation.samples import go_on
    from hf_replearn.methods.causal_lm import DataCollatorForCausalLM
    from hf_replearn.pretraining.texts import keep_tokenizer, longest, open_texts, save, say_what_is_read, show
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
        ended=False,
        check=partial(check_tokenizer, settings, args=args),
    )
    tokenizer, rows = texts.tokenizer, texts.rows
    data = rows_fingerprint(rows, workers=settings.dataloader_num_workers)
    facts = circumstances(settings, data=data, processes=args.world_size)
    checkpoint = find_checkpoint(settings, facts, args=args)

    # 2. Decoder f, its vocabulary head g, the objective
    collator = DataCollatorForCausalLM()
    set_seed(settings.seed)
    model = start(settings, tokenizer, args)
    tokenizer.model_max_length = longest(tokenizer, model.model.config, length=length)

    # 3. Train
    def whole_or_short(batch):
        return cut_rows(batch, 4) if trainer.progress() < settings.short_rows else batch

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
        targets=lambda batch: collator.targets(whole_or_short(batch)),
        make_optimizer=optimizer,
        schedule=schedules.by_name(settings.schedule, warmup=settings.warmup, decay=settings.decay),
        max_minutes=settings.max_minutes,
        flops=architectures.flops_per_token(model.model, length=length),
        circumstances=facts,
        max_skipped=settings.skippable_steps,
        callbacks=[JSONLines(out)],
    )
    measure = partial(
        held_out_loss, model, texts.test, collate=collator, views=collator.views, targets=collator.targets
    )
    trainer.add_callback(HeldOutLoss(trainer.over_processes(measure), steps=settings.eval_steps, log=trainer.log))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        keep_tokenizer(tokenizer, out)
        say_what_is_read(texts, out)
    trainer.train(resume_from_checkpoint=checkpoint)
    if not trainer.is_world_process_zero():
        return

    # 4. Save: the native model, f with g, and what the run was. Then what is only for show.
    report = describe(settings, trainer, texts.corpus, model.model, {"this model": trainer.last("held_out_loss")})
    save(model.model, report, out)
    special = special_tokens(tokenizer, vocabulary_size(tokenizer))
    show(
        report,
        texts,
        out,
        baseline=partial(frequency_loss, rows, texts.test, special=special),
        samples=partial(go_on, model.model, tokenizer, prompt=min(12, length // 2), tokens=min(40, length // 2)),
        private=settings.hub_private_repo,
    )


def check_tokenizer(settings: CausalLMSettings, tokenizer, *, args) -> None:
    """Raises InputError for a tokenizer without an end, and where the model does not fit into the memory."""
    from transformers import AutoModelForCausalLM

    from hf_replearn.architectures import check_memory

    if tokenizer.eos_token_id is None:
        raise InputError("causal language modelling needs a tokenizer with an end-of-text token: this one has none")
    if args.world_size == 1:
        check_memory(AutoModelForCausalLM, find_config(settings, tokenizer), settings=settings, device=args.device)


def find_config(settings: CausalLMSettings, tokenizer):
    """The configuration of the decoder: that of the checkpoint, or of one to be trained from scratch."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    from hf_replearn import architectures

    if settings.init:
        return architectures.load_config(settings.init, heads=MODEL_FOR_CAUSAL_LM_MAPPING, what="causal language model")
    return architectures.make_config(
        settings.architecture,
        settings.size,
        tokenizer=tokenizer,
        length=settings.sequence_length,
        dropout=settings.dropout,
    )


def start(settings: CausalLMSettings, tokenizer, args):
    """The model from scratch, or somebody's checkpoint, with its objective. InputError where that has no head."""
    from transformers import AutoModelForCausalLM

    from hf_replearn import architectures
    from hf_replearn.methods.causal_lm import CausalLMConfig, CausalLMForPreTraining, has_plain_head

    native = None
    if settings.init:
        native = architectures.load(
            AutoModelForCausalLM, settings.init, tokenizer=tokenizer, length=settings.sequence_length
        )
        config = native.config
        if not has_plain_head(native) or config._attn_implementation == "eager":
            raise InputError(
                f"--init {settings.init}: {config.model_type} sees later tokens, its logits are not one projection, or "
                "it has no fused attention (sdpa); supported are models such as gpt2, llama, qwen3, mistral and olmo2"
            )
    else:
        config = find_config(settings, tokenizer)
    config = CausalLMConfig(decoder=config)
    config._attn_implementation = architectures.attention_implementation(args.device, bf16=args.bf16)
    model = CausalLMForPreTraining(config)
    if native is not None:
        model.model.load_state_dict(native.state_dict())
    elif settings.zero_init:
        architectures.zero_output_projections(model)
    if settings.gradient_checkpointing:
        model.model.gradient_checkpointing_enable()
    return model


def export(checkpoint: Path, facts: dict, out: Path) -> None:
    """Writes the native model of a checkpoint, and its tokenizer. facts: what the run depended on."""
    from hf_replearn.methods.causal_lm import CausalLMForPreTraining
    from hf_replearn.pretraining.texts import tokenizer_of
    from hf_replearn.sharing.export import save_native

    tokenizer_of(checkpoint).save_pretrained(out)
    save_native(CausalLMForPreTraining.from_pretrained(checkpoint).model, out)


def describe(settings: CausalLMSettings, trainer, corpus, model, held_out: dict[str, float]):
    """The facts of this run for its report and card."""
    from hf_replearn.sharing import report as facts

    return facts.Report(
        method=facts.Method(
            name="causal language modelling",
            summary="Each token is told from those before it; no labels are used.",
            paper="Language Models are Unsupervised Multitask Learners",
            arxiv=None,
            bibtex=BIBTEX,
            model_class="hf_replearn.methods.causal_lm.CausalLMForPreTraining",
        ),
        encoder=facts.Encoder(
            library="transformers",
            pipeline_tag="text-generation",
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
        command=shlex.join(["hf-replearn", "causal-lm", *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


BIBTEX = """\
@techreport{radford2019language,
  title       = {Language Models are Unsupervised Multitask Learners},
  author      = {Radford, Alec and Wu, Jeffrey and Child, Rewon and Luan, David and Amodei, Dario and Sutskever, Ilya},
  institution = {OpenAI},
  year        = {2019}
}"""

if __name__ == "__main__":
    run(main, CausalLMSettings, prog="causal_lm")
