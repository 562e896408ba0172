"""Causal language modelling (GPT, Radford et al. 2018; GPT-2, Radford et al. 2019): from text to a decoder.

    accelerate launch recipes/causal_lm.py --config recipes/configs/causal_lm/toy.yaml --output_dir out/toy_gpt
    hf-replearn causal-lm --dataset PATH_OR_HUB_ID --size small --output_dir out/mine
    hf-replearn causal-lm --init gpt2 --dataset PATH_OR_HUB_ID --output_dir out/domain
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/causal_lm.py \\
        --config recipes/configs/causal_lm/gpt2_small.yaml --dataset HUB_ID --streaming --output_dir out/gpt2

The toy takes a minute on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import Method, TextMethod, TextSettings, run, setting


@dataclass(kw_only=True)
class CausalLMSettings(TextSettings):
    architecture: Literal["gpt2", "qwen3"] = setting("gpt2", "of a model from scratch", section="model")
    size: Literal["tiny", "mini", "small", "base", "medium", "large", "xl"] = setting(
        "small", "of a model from scratch; small (or base) is GPT-2's 124 million, xl 1.5 billion", section="model"
    )


def prepare(settings: CausalLMSettings, texts):
    """Every token is told, but the first of a row."""
    from hf_replearn.data.tokenization import special_tokens, vocabulary_size
    from hf_replearn.methods.causal_lm import DataCollatorForCausalLM
    from hf_replearn.pretraining.texts import Objective

    collator = DataCollatorForCausalLM()
    special = special_tokens(texts.tokenizer, vocabulary_size(texts.tokenizer))
    return Objective(collator, judge=collator, special=special, around={})


def refuses(native) -> str | None:
    """Why a model cannot be trained: its loss is not that of one projection of what it makes of earlier tokens."""
    from transformers import AutoModelForCausalLM

    from hf_replearn.encoders.load import has_fused_attention
    from hf_replearn.methods.causal_lm import has_plain_head

    if has_plain_head(native) and has_fused_attention(AutoModelForCausalLM, native.config):
        return None
    return (
        f"{native.config.model_type} sees later tokens, its logits are not one projection, or it has no fused "
        "attention (sdpa); supported are models such as gpt2, llama, qwen3, mistral and olmo2"
    )


def samples(model, tokenizer, length: int):
    """How the model goes on."""
    from hf_replearn.evaluation.samples import go_on

    prompt, tokens = min(12, length // 2), min(40, length // 2)
    return lambda texts: go_on(model, tokenizer, texts, prompt=prompt, tokens=tokens)


METHOD = TextMethod(
    command="causal-lm",
    facts=Method(
        name="causal language modelling",
        summary="Each token is told from those before it; no labels are used.",
        paper="Language Models are Unsupervised Multitask Learners",
        arxiv=None,
        bibtex="""\
@techreport{radford2019language,
  title       = {Language Models are Unsupervised Multitask Learners},
  author      = {Radford, Alec and Wu, Jeffrey and Child, Rewon and Luan, David and Amodei, Dario and Sutskever, Ilya},
  institution = {OpenAI},
  year        = {2019}
}""",
        model_class="hf_replearn.methods.causal_lm.CausalLMForPreTraining",
    ),
    part="decoder",
    auto_class="AutoModelForCausalLM",
    token=("eos_token_id", "an end-of-text token"),
    ended=False,
    pipeline_tag="text-generation",
    prepare=prepare,
    refuses=refuses,
    samples=samples,
)


def main(settings: CausalLMSettings, **given):
    """Causal language modelling: learn a decoder by telling the next token (Radford et al. 2018, 2019)."""
    from hf_replearn.pretraining.texts import pretrain_texts

    return pretrain_texts(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, CausalLMSettings, prog="causal_lm")
