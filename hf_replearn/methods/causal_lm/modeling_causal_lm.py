"""Causal language modelling (Radford et al. 2018, 2019): each token is told from those before it.

B rows, T tokens a row, D features, V tokens of the vocabulary
"""

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from hf_replearn.losses import chunked_cross_entropy

from .configuration_causal_lm import CausalLMConfig

LARGE = 1000.0  # the largest logit of a trial
ATTENTION_ALONE = {"gpt2", "llama", "mistral", "qwen2", "qwen3"}  # whose cache holds keys and values, and nothing else


@torch.no_grad()
def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether no token sees a later one and the logits are one linear map of the last hidden state.

    So it is in GPT-2, Llama, Qwen and most others; Gemma 2 caps its logits, BERT's head has a layer of its own. Found
    out by trying a few tokens, with logits so large that a cap would show.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        return False
    was_training = model.training
    tokens = torch.arange(4, device=model.device)[None]
    hidden = model.eval().base_model(tokens, use_cache=False)[0]
    scale = LARGE / head(hidden).abs().max().clamp(min=1e-6)
    with head.register_forward_hook(lambda module, inputs, logits: logits * scale):
        logits = model(tokens, use_cache=False).logits
        plain = torch.allclose(logits, head(hidden), rtol=1e-3, atol=1e-4 * LARGE)
        before = model(tokens[:, :2], use_cache=False).logits
    causal = torch.allclose(before, logits[:, :2], rtol=1e-3, atol=1e-4 * LARGE)
    model.train(was_training)
    return plain and causal


class KeepsNothing(DynamicCache):
    """Without a cache transformers looks in each step whether a row holds several documents, and the host waits for a
    GPU to know. With this one it does not, and blocks are called without it (`_without_cache`)."""


def _without_cache(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """What a block is called with, but for a cache that keeps nothing: blocks that are compiled would else be one graph
    each, as each has another number in the cache."""

    def known(value):
        return None if isinstance(value, KeepsNothing) else value

    return tuple(map(known, args)), {name: known(value) for name, value in kwargs.items()}


def _know(*_) -> None:
    """That padding is at the end, where it does no harm."""


@dataclass
class CausalLMOutput(ModelOutput):
    """loss: (), the cross entropy of the next tokens."""

    loss: Tensor | None = None


class CausalLMForPreTraining(PreTrainedModel):
    """A native causal language model, `model`, whose (B T, V) logits are never held.

    The weights are those of `model` and nothing else: `model.save_pretrained` is the export.
    Only for models with a plain head (`has_plain_head`).
    """

    config: CausalLMConfig
    config_class = CausalLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, config: CausalLMConfig):
        super().__init__(config)
        self.model = AutoModelForCausalLM.from_config(config.decoder)
        self.model.base_model.warn_if_padding_and_no_attention_mask = _know  # in each step the host would wait for it
        self.cache_argument = None
        if config.decoder.model_type in ATTENTION_ALONE:
            arguments = inspect.signature(self.model.base_model.forward).parameters
            self.cache_argument = "cache" if "cache" in arguments else "past_key_values"  # its earlier name
            for module in self.model.modules():
                if isinstance(module, GradientCheckpointingLayer):
                    module.register_forward_pre_hook(_without_cache, with_kwargs=True)
        self.post_init()

    def _recomputes(self) -> bool:
        """Whether gradient checkpointing is on, which takes no cache."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())

    @torch.no_grad()
    def _init_weights(self, module):
        self.model._init_weights(module)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs,
    ) -> CausalLMOutput:
        """The loss of each token but the first, given those before it.

        input_ids: (B, T). labels: (B, T), input_ids, or -100 for tokens that are not to be told: padding, and the first
        of a document. position_ids: (B, T), restart where documents begin that must not see the ones before.
        num_items_in_batch: what the sum of the losses is divided by; by default the number of labels.
        """
        # No attention mask: padding is at the end, where no token sees it, and without one transformers keeps documents
        # apart whose positions restart. With a cache it would not; of these models we do it, and no host waits.
        if self.cache_argument and position_ids is not None:
            kwargs["attention_mask"] = self._apart(position_ids)
        elif self.cache_argument and not self._recomputes():
            kwargs[self.cache_argument] = KeepsNothing()
        hidden = self.model.base_model(input_ids, position_ids=position_ids, use_cache=False, **kwargs)[0]  # (B, T, D)
        head, labels = self.model.get_output_embeddings(), labels[:, 1:].flatten()
        loss = chunked_cross_entropy(hidden[:, :-1].flatten(0, 1), head.weight, labels, bias=head.bias)
        items = (labels >= 0).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutput(loss=loss / items)

    def _apart(self, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """The attention masks of rows whose `positions` (B, T) restart where a document begins, by kind of layer where
        there are several. No token sees a later one, or one of another document."""
        config, documents = self.model.config, (positions == 0).cumsum(1)
        shape = self.model.get_input_embeddings().weight.new_empty(*positions.shape, 0)

        def same(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return documents[row, query] == documents[row, key]

        def mask(kind: str) -> Tensor:
            make = create_sliding_window_causal_mask if kind == "sliding_attention" else create_causal_mask
            return make(config, shape, None, None, and_mask_function=same)

        if kinds := set(getattr(config, "layer_types", None) or ()):
            return {kind: mask(kind) for kind in kinds}
        return mask("sliding_attention" if getattr(config, "sliding_window", None) else "full_attention")


__all__ = ["CausalLMForPreTraining"]
