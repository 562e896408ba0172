"""Task files over the toy data that `folder` makes, and models that answer them."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HEAD = """task: toy
dataset_path: json
dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}
training_split: train
test_split: test
"""
LABELS = (
    HEAD
    + """output_type: multiple_choice
doc_to_text: "Review: {{text}}\\nSentiment:"
doc_to_choice: [negative, positive]
doc_to_target: label
"""
)
CHOICES = (
    HEAD
    + """output_type: multiple_choice
doc_to_text: "What is {{text}}? Answer:"
doc_to_choice: "{{[other, text, 'the moon is far away']}}"
doc_to_target: label
"""
)
TARGET = (
    HEAD
    + """output_type: loglikelihood
doc_to_text: "{{text.rsplit(' ', 1)[0]}}"
doc_to_target: " {{other}}"
target_delimiter: ""
"""
)
FREE = (
    HEAD
    + """output_type: generate_until
doc_to_text: "Question: {{text}}. Answer:"
doc_to_target: other
generation_kwargs: {until: ["."], max_gen_toks: 8}
metric_list: [{metric: exact_match}, {metric: bleu}, {metric: chrf}]
"""
)


def make_model(kind: str, *, length: int = 256):
    torch.manual_seed(0)
    ends = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.3}
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_positions=length, n_embd=32, n_layer=2, n_head=4, **ends)).eval()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(num_key_value_heads=2, max_position_embeddings=length, **sizes, **ends)
    return LlamaForCausalLM(config).eval()
