"""Masked language modelling (BERT, arXiv:1810.04805; RoBERTa, arXiv:1907.11692): from text to an encoder.

    accelerate launch recipes/masked_lm.py --config recipes/configs/masked_lm/toy.yaml --output_dir out/toy_bert
    hf-replearn masked-lm --dataset PATH_OR_HUB_ID --size mini --output_dir out/mine
    hf-replearn masked-lm --init bert-base-uncased --dataset PATH_OR_HUB_ID --output_dir out/domain
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/masked_lm.py \\
        --config recipes/configs/masked_lm/roberta_base.yaml --dataset HUB_ID --streaming --output_dir out/roberta

The toy takes a minute on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import Method, TextMethod, TextSettings, run, setting


@dataclass(kw_only=True)
class MaskedLMSettings(TextSettings):
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


def prepare(settings: MaskedLMSettings, texts):
    """Which tokens of a row are hidden, and told. Raises InputError where --whole_words would hide too few."""
    from hf_replearn.architectures import padded
    from hf_replearn.data.tokenization import special_tokens, starts_of_words, vocabulary_size
    from hf_replearn.methods.masked_lm import DataCollatorForMaskedLM
    from hf_replearn.pretraining.texts import Objective

    vocabulary = padded(vocabulary_size(texts.tokenizer))
    special = special_tokens(texts.tokenizer, vocabulary)
    collator = DataCollatorForMaskedLM(
        mask_token_id=texts.tokenizer.mask_token_id,
        special=special,
        rate=settings.mask_rate,
        dynamic=settings.masking == "dynamic",
        starts_word=starts_of_words(texts.tokenizer, vocabulary) if settings.whole_words else None,
        seed=settings.seed,
    )
    if settings.whole_words:
        check_words(collator, texts.test)
    return Objective(
        collator,
        judge=replace(collator, rate=0.15, dynamic=False, starts_word=None, seed=0),  # at any --mask_rate
        special=special,
        around={"start": texts.start, "end": texts.end},
        predicted=settings.mask_rate,
        counted=not settings.whole_words,
    )


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


def refuses(native) -> str | None:
    """Why a model cannot be trained: its prediction head is not known here."""
    from hf_replearn.methods.masked_lm import HEADS

    kind = native.config.model_type
    return None if kind in HEADS else f"it is a {kind}; supported are {', '.join(HEADS)}"


def samples(model, tokenizer, length: int):
    """What the model puts into gaps."""
    from hf_replearn.evaluation.samples import fill_gaps

    return partial(fill_gaps, model, tokenizer, length=length)


def finish(out, length: int) -> None:
    """Makes the folder one that sentence-transformers loads too."""
    from hf_replearn.sharing.export import export_sentence_transformers

    export_sentence_transformers(out, max_length=length)


METHOD = TextMethod(
    command="masked-lm",
    facts=Method(
        name="masked language modelling",
        summary="{mask_rate:.0%} of the tokens are hidden and told from all others; no labels are used.",
        paper="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
        arxiv="1810.04805",
        bibtex="""\
@inproceedings{devlin2019bert,
  title     = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author    = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Conference of the North American Chapter of the Association for Computational Linguistics},
  year      = {2019}
}""",
        model_class="hf_replearn.methods.masked_lm.MaskedLMForPreTraining",
    ),
    part="encoder",
    auto_class="AutoModelForMaskedLM",
    token=("mask_token_id", "a mask token"),
    ended=True,
    pipeline_tag="fill-mask",
    prepare=prepare,
    refuses=refuses,
    samples=samples,
    finish=finish,
)


def main(settings: MaskedLMSettings, **given):
    """Masked language modelling: learn an encoder by telling hidden tokens (arXiv:1810.04805, arXiv:1907.11692)."""
    from hf_replearn.pretraining.texts import pretrain_texts

    return pretrain_texts(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, MaskedLMSettings, prog="masked_lm")
