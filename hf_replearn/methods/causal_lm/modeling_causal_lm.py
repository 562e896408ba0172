"""Causal language modelling (Radford et al. 2018, 2019): each token is told from those before it.

B rows, T tokens a row, D features, V tokens of the vocabulary
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import ModelOutput

from hf_replearn.losses import chunked_cross_entropy

from .configuration_causal_lm import CausalLMConfig

# Settings with which a model changes its logits after the projection, by names of transformers' configurations.
CHANGES_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the logits are one linear map of the last hidden state, as in GPT-2, Llama, Qwen and most others."""
    changed = any(getattr(model.config, name, None) not in (None, 1.0) for name in CHANGES_LOGITS)
    return isinstance(model.get_output_embeddings(), nn.Linear) and not changed


@dataclass
class CausalLMOutput(ModelOutput):
    """loss: (), the cross entropy of the next tokens."""

    loss: Tensor | None = None


class CausalLMForPreTraining(PreTrainedModel):
    """A native causal language model, `model`, whose (B T, V) logits are never held.

    The weights are those of `model` and nothing else: `model.save_pretrained` is the export.
    Raises ValueError for an architecture that changes its logits after the projection.
    """

    config: CausalLMConfig
    config_class = CausalLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    _supports_sdpa = _supports_flash_attn = True

    def __init__(self, config: CausalLMConfig):
        super().__init__(config)
        self.model = AutoModelForCausalLM.from_config(config.decoder)
        if not has_plain_head(self.model):
            raise ValueError(
                f"{config.decoder.model_type!r} changes its logits after the projection; supported are models that do "
                "not, such as gpt2, llama, qwen3, mistral and olmo2"
            )
        self.post_init()

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
        # apart whose positions restart. With a cache it would not.
        hidden = self.model.base_model(input_ids, position_ids=position_ids, use_cache=False, **kwargs)[0]  # (B, T, D)
        head, labels = self.model.get_output_embeddings(), labels[:, 1:].flatten()
        loss = chunked_cross_entropy(hidden[:, :-1].flatten(0, 1), head.weight, labels, bias=head.bias)
        items = (labels >= 0).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutput(loss=loss / items)


__all__ = ["CausalLMForPreTraining"]
