"""Text architectures by name and size, at their published dimensions, in transformers' own classes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn
from transformers import (
    AutoConfig,
    BertConfig,
    GPT2Config,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    RobertaConfig,
)

from hf_replearn.data.tokenization import vocabulary_size
from hf_replearn.encoders.load import longest_text
from hf_replearn.encoders.weights import load_whole, refusing
from hf_replearn.errors import InputError
from hf_replearn.training.memory import total_memory


class Size(NamedTuple):
    layers: int
    hidden: int
    heads: int


# tiny to small: Turc et al. 2019, "Well-read students learn better"; base and large: Devlin et al. 2019.
ENCODER_SIZES = {
    "tiny": Size(2, 128, 2),
    "mini": Size(4, 256, 4),
    "small": Size(4, 512, 8),
    "base": Size(12, 768, 12),
    "large": Size(24, 1024, 16),
}
# From small: Radford et al. 2019, 124, 355, 774 and 1,558 million parameters; base is another name of small.
DECODER_SIZES = {
    "tiny": Size(2, 128, 2),
    "mini": Size(4, 256, 4),
    "small": Size(12, 768, 12),
    "base": Size(12, 768, 12),
    "medium": Size(24, 1024, 16),
    "large": Size(36, 1280, 20),
    "xl": Size(48, 1600, 25),
}
ENCODERS = ("bert", "roberta", "modernbert")
DECODERS = ("gpt2", "qwen3")
TOKENIZERS: dict[str, Literal["bert", "roberta", "gpt"]] = {
    "bert": "bert",
    "roberta": "roberta",
    "modernbert": "roberta",
    "gpt2": "gpt",
    "qwen3": "gpt",
}
FLEX = ("bert", "roberta", "xlm-roberta", "camembert", "modernbert", "llama", "mistral", "qwen2", "qwen3")
FLEX_LENGTH = 512  # tokens of a row, from which FlexAttention is taken
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
# The linear maps that write into the residual stream, by the ends of their names in all these architectures.
OUTPUT_PROJECTIONS = ("attention.output.dense", "output.dense", "c_proj", ".Wo", "o_proj", "down_proj")


def make_config(
    architecture: str,
    size: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    dropout: float = 0.0,
) -> PreTrainedConfig:
    """The configuration of a model to be trained from scratch.

    The vocabulary reaches to the tokenizer's largest number, rounded up to a multiple of 64; `length` is the longest
    text, in tokens. ModernBERT and Qwen3 are the modern encoder and decoder (rotary positions, gated MLP of 8/3 the
    width, no dropout in the residual stream), at the sizes of BERT and GPT-2.

    Raises InputError for a size that the architecture has not, and for an encoder whose tokenizer cannot pad: texts of
    different lengths could not be in one batch.
    """
    sizes = ENCODER_SIZES if architecture in ENCODERS else DECODER_SIZES
    if size not in sizes:
        raise InputError(f"--size {size}: {architecture} comes as {', '.join(sizes)}")
    layers, hidden, heads = sizes[size]
    if architecture in ENCODERS and tokenizer.pad_token_id is None:
        raise InputError(
            "the tokenizer has no padding token, which encoders of texts need: "
            "tokenizer.add_special_tokens({'pad_token': '[PAD]'}) gives it one"
        )
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    common = {"vocab_size": padded(vocabulary_size(tokenizer)), **special}
    gated = -(-hidden * 8 // 3 // 64) * 64
    if architecture in ("bert", "roberta"):
        make, offset = (BertConfig, 0) if architecture == "bert" else (RobertaConfig, tokenizer.pad_token_id + 1)
        return make(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            intermediate_size=4 * hidden,
            max_position_embeddings=max(length, 128) + offset,
            type_vocab_size=2 if architecture == "bert" else 1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            **common,
        )
    if architecture == "modernbert":
        return ModernBertConfig(
            num_hidden_layers=layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            intermediate_size=gated,
            max_position_embeddings=max(length, 8192),
            cls_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            attention_dropout=dropout,
            mlp_dropout=dropout,
            embedding_dropout=dropout,
            **common,
        )
    if architecture == "gpt2":
        return GPT2Config(
            activation_function="gelu_pytorch_tanh",  # the function of its default, gelu_new, in one kernel
            n_layer=layers,
            n_embd=hidden,
            n_head=heads,
            n_positions=max(length, 128),
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            **common,
        )
    return Qwen3Config(
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        intermediate_size=gated,
        max_position_embeddings=max(length, 8192),
        tie_word_embeddings=True,
        attention_dropout=dropout,
        **common,
    )


def load_config(name: str, *, heads: Collection[type], what: str) -> PreTrainedConfig:
    """The configuration of a checkpoint to go on from.

    heads: kinds of configuration that transformers has a `what` for, such as MODEL_FOR_CAUSAL_LM_MAPPING.
    Raises InputError when there is no checkpoint, or it is of another kind.
    """
    where = "holds no checkpoint" if Path(name).is_dir() else "is no folder, and no Hub id that loads"
    with refusing(f"--init {name!r} {where}"):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if type(config) not in heads:
        raise InputError(f"--init {name!r} is a {config.model_type}, of which transformers has no {what}")
    return config


def load(auto_class: type, name: str, *, tokenizer: PreTrainedTokenizerBase, length: int) -> PreTrainedModel:
    """A checkpoint to go on from, by folder or Hub id, in float32 and with its head.

    Raises InputError when it cannot be loaded, has fewer token embeddings than the tokenizer numbers tokens, or cannot
    read rows of `length` tokens.
    """
    model = load_whole(auto_class, name, setting="--init", fresh_head=True, dtype=torch.float32)
    known, largest = model.get_input_embeddings().weight.shape[0], vocabulary_size(tokenizer) - 1
    if largest >= known:
        raise InputError(f"--init {name!r} knows {known} tokens, but its tokenizer has {largest + 1}")
    longest = longest_text(model.config)
    if longest is not None and length > longest:
        raise InputError(f"--sequence_length {length} is longer than --init {name!r} can read: {longest}")
    return model


def check_memory(
    auto_class: type, config: PreTrainedConfig, *, rows: int, length: int, smaller: str, device: torch.device
) -> None:
    """Raises InputError where training needs more memory than the device has at all, naming both and what to lower.

    Counted is what cannot be done without: weights, their gradients and one running mean of these in float32, and two
    bytes for each feature of each layer of a batch.

    rows: of a batch, of `length` tokens. smaller: what makes the model smaller, in words.
    """
    with torch.device("meta"):
        weights = auto_class.from_config(config, trust_remote_code=False).num_parameters()
    text = config.get_text_config()
    needed = 12 * weights + 2 * rows * length * text.hidden_size * text.num_hidden_layers
    there = total_memory(device)
    if needed > there:
        raise InputError(
            f"the training needs {needed / 1e9:,.1f} GB of memory at least, for {weights:,} parameters and {rows} rows "
            f"of {length:,} tokens, and the machine has {there / 1e9:,.1f} GB: {smaller}, "
            "--per_device_train_batch_size or --sequence_length"
        )


def attention_implementation(
    device: torch.device, *, bf16: bool, apart: PreTrainedConfig | None = None, length: int = 0
) -> str:
    """PyTorch's fused attention but on a CPU in bfloat16, where its backward takes twice the time of the plain one; and
    FlexAttention on a GPU where the documents of a row do not see each other, which passes over the blocks of 128 x 128
    tokens that are of two documents. Rows of few blocks gain nothing, and it has no dropout.

    apart: configuration of a model whose rows of `length` tokens hold such documents; None: they do not.
    """
    if device.type == "cuda" and apart is not None and length >= FLEX_LENGTH and apart.model_type in FLEX:
        dropout = [getattr(apart, name, 0.0) for name in ATTENTION_DROPOUT]
        return "sdpa" if any(dropout) else "flex_attention"
    return "eager" if device.type == "cpu" and bf16 else "sdpa"


def padded(vocabulary: int) -> int:
    """The vocabulary rounded up to a multiple of 64, which matrix products like."""
    return -(-vocabulary // 64) * 64


@torch.no_grad()
def zero_output_projections(model: nn.Module) -> None:
    """Sets what writes into the residual stream to zero: at the start each block is the identity (or its norm)."""
    for name, module in model.named_modules():
        if name.endswith(OUTPUT_PROJECTIONS) and getattr(module, "weight", None) is not None:
            module.weight.zero_()


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weight matrices between the embeddings and the vocabulary head: what Muon is for."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    if head := model.get_output_embeddings():
        embeddings.add(id(head.weight))
    return [p for p in model.parameters() if p.ndim == 2 and p.requires_grad and id(p) not in embeddings]


def flops_per_token(model: nn.Module, *, length: int, predicted: float = 1.0) -> float:
    """Floating-point operations of a training step per token: 6 a weight, and 12 times layers, width and `length`.

    The convention of Chowdhery et al. 2022 (PaLM, appendix B): recomputation and embedding look-ups do not count.
    predicted: the share of the tokens that goes through the vocabulary head.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for p in hidden_matrices(model))
    return 6 * (body + predicted * head) + 12 * config.num_hidden_layers * config.hidden_size * length
