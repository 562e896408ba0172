"""Masked language modelling (Devlin et al. 2019, arXiv:1810.04805): tokens are hidden, the network tells them.

B rows, T tokens a row, n masked positions a row, D features, V tokens of the vocabulary
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask
from transformers.utils import ModelOutput

from hf_replearn.losses import chunked_cross_entropy

from .configuration_masked_lm import MaskedLMConfig


def _bert_head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    return model.cls.predictions.transform(hidden)


def _roberta_head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    return model.lm_head.layer_norm(gelu(model.lm_head.dense(hidden)))


def _modernbert_head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    return model.head(hidden)


# What each architecture does between its last hidden state and its output embeddings.
HEADS: dict[str, Callable[[PreTrainedModel, Tensor], Tensor]] = {
    "bert": _bert_head,
    "roberta": _roberta_head,
    "xlm-roberta": _roberta_head,
    "camembert": _roberta_head,
    "modernbert": _modernbert_head,
}
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert"}  # count positions from pad_token_id + 1


@dataclass
class MaskedLMOutput(ModelOutput):
    """loss: (), the cross entropy of the hidden tokens."""

    loss: Tensor | None = None


class MaskedLMForPreTraining(PreTrainedModel):
    """A native masked language model, `model`, whose vocabulary projection runs on the masked positions only.

    The weights are those of `model` and nothing else: `model.save_pretrained` is the export.
    Raises ValueError for an architecture that is not in `HEADS`.
    """

    config: MaskedLMConfig
    config_class = MaskedLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    accepts_loss_kwargs = True
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True

    def __init__(self, config: MaskedLMConfig):
        super().__init__(config)
        if config.encoder.model_type not in HEADS:
            raise ValueError(
                f"no masked-LM head known for {config.encoder.model_type!r}; supported: {', '.join(HEADS)}"
            )
        self.model = AutoModelForMaskedLM.from_config(config.encoder)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        self.model._init_weights(module)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        labels: Tensor,
        attention_mask: Tensor | None = None,
        documents: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """The loss of the tokens at `positions`, which `input_ids` no longer shows.

        input_ids: (B, T). positions: (B, n), the places of the masked tokens in their rows. labels: (B, n), the tokens
        that were there, or -100 where a row has fewer than n. attention_mask: (B, T), 0 for padding. documents: (B, T),
        numbers the documents of a row; they do not see each other and count their positions from 0.
        num_items_in_batch: what the sum of the losses is divided by; by default the number of labels.
        """
        if documents is not None:
            attention_mask, kwargs["position_ids"] = self._apart(documents)
        elif attention_mask is not None:
            attention_mask = self._masks(lambda row, head, query, key: key >= 0, input_ids, attention_mask)
        hidden = self.model.base_model(
            input_ids, attention_mask=attention_mask, **kwargs
        ).last_hidden_state  # (B, T, D)
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        hidden = hidden.flatten(0, 1).index_select(0, (rows * input_ids.shape[1] + positions).flatten())  # (B n, D)
        hidden = HEADS[self.config.encoder.model_type](self.model, hidden)
        decoder, labels = self.model.get_output_embeddings(), labels.flatten()
        loss = chunked_cross_entropy(hidden, decoder.weight, labels, bias=decoder.bias)
        items = (labels >= 0).sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return MaskedLMOutput(loss=loss / items)

    def _apart(self, documents: Tensor) -> tuple[Tensor | dict[str, Tensor], Tensor]:
        """Attention masks and positions that keep the documents (B, T) apart."""
        config = self.model.config
        place = torch.arange(documents.shape[1], device=documents.device)
        first = torch.ones_like(documents, dtype=torch.bool)
        first[:, 1:] = documents[:, 1:] != documents[:, :-1]
        positions = place - (place * first).cummax(1).values  # (B, T)
        if config.model_type in OFFSET_POSITIONS:
            positions = positions + config.pad_token_id + 1

        def same(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return documents[row, query] == documents[row, key]

        return self._masks(same, documents), positions

    def _masks(
        self, seen: Callable[..., Tensor], tokens: Tensor, attention_mask: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """The attention masks of tokens (B, T) that see those that `seen` says and `attention_mask` (B, T) has. Where
        it is asked for a mask alone, transformers looks whether it hides anything, and the host waits for a GPU."""
        config, shape = self.model.config, self.model.get_input_embeddings().weight.new_empty(*tokens.shape, 0)
        arguments = {"config": config, "inputs_embeds": shape, "attention_mask": attention_mask}
        mask = create_bidirectional_mask(**arguments, and_mask_function=seen)
        if "sliding_attention" in (getattr(config, "layer_types", None) or ()):  # one mask would be for all layers
            local = create_bidirectional_sliding_window_mask(**arguments, and_mask_function=seen)
            mask = {"full_attention": mask, "sliding_attention": local}
        return mask


__all__ = ["MaskedLMForPreTraining"]
