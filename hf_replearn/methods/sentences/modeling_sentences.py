"""Sentence encoders: SimCSE (Gao et al. 2021, arXiv:2104.08821), TSDAE (Wang et al. 2021, arXiv:2104.06979), and pairs
of texts with the negatives of their batch (Henderson et al. 2017, arXiv:1705.00652).

B rows of this process, V texts a row, N rows of all processes, T tokens, D features
"""

import copy
import inspect
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from hf_replearn.losses import IGNORED
from hf_replearn.methods.trunk import gather, gather_detached

from .configuration_sentences import SentencesConfig


def in_batch_loss(projections: Tensor, texts: Tensor, *, temperature: float, symmetric: bool = False) -> Tensor:
    """Mean cross entropy of telling, by cosine, the partner of each first text from those of all other rows (SimCSE,
    equations 1 and 5), over all processes.

    projections: (B, V, D), the same B in every process: a text, its partner, and with V = 3 one that is none, a hard
                 negative, which is one for all rows.
    texts:       (B, V), equal where two texts are the same. What is the same text as the two of a row is no negative of
                 it, nor is another partner of the same first text.
    symmetric:   the mean with the loss of telling the first text from its partner, among all first texts.
    """
    z = nn.functional.normalize(gather(projections.float()), dim=-1)  # (N, V, D)
    same = gather_detached(texts)
    loss = _partner_loss(z, same, temperature)
    if symmetric:
        loss = (loss + _partner_loss(z[:, :2].flip(1), same[:, :2].flip(1), temperature)) / 2
    return loss


def _partner_loss(z: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """z: (N, V, D) of unit length; texts: (N, V)."""
    candidates = z[:, 1:].transpose(0, 1).flatten(0, 1)  # (M, D), all partners before all hard negatives
    named = texts[:, 1:].T.flatten()  # (M,)
    never = (named == texts[:, :1]) | (named == texts[:, 1:2])  # (N, M)
    never[:, : len(z)] |= texts[:, 0] == texts[:, :1]
    never.fill_diagonal_(False)
    similar = (z[:, 0] @ candidates.T / temperature).masked_fill(never, -torch.inf)
    return nn.functional.cross_entropy(similar, torch.arange(len(z), device=z.device))


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """(B, T, D), padded on the right where the mask (B, T) is 0 -> (B, D): "cls" or "mean"."""
    if how == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


@dataclass
class SentencesOutput(ModelOutput):
    """loss: (), absent with `return_loss=False`. projections, pooler_output: (B, V, D); of tsdae (B, D) and only the
    latter."""

    loss: Tensor | None = None
    projections: Tensor | None = None
    pooler_output: Tensor | None = None


class SentencesForPreTraining(PreTrainedModel):
    """A native encoder f of texts, `model`, under an objective whose head is thrown away.

    simcse: each text goes through f twice, and dropout makes the two different. pairs: two texts, or three. Both have
    `in_batch_loss`, maybe behind a dense layer with tanh. tsdae: a decoder tells the whole text from the one vector of
    what was left of it; its weights are f's, but for those that look at this vector and the output layer's.

    Raises ValueError for tsdae of a network of which transformers has no such decoder.
    """

    config: SentencesConfig
    config_class = SentencesConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    accepts_loss_kwargs = False  # the loss is a mean over this batch
    _supports_sdpa = True

    def __init__(self, config: SentencesConfig):
        super().__init__(config)
        self.model = AutoModel.from_config(config.encoder)
        if "add_pooling_layer" in inspect.signature(type(self.model).__init__).parameters:
            self.model.pooler = None  # nothing is made of it
        width = config.encoder.get_text_config().hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if config.head else None
        self.decoder = None
        if config.objective == "tsdae":
            self.decoder = AutoModelForCausalLM.from_config(decoder_of(config.encoder))
            self._tied_weights_keys = self._shared()
        self.post_init()

    def _shared(self) -> dict[str, str]:
        """Name of a weight of the decoder -> that of f which it is."""
        body, prefix = self.decoder.base_model, f"decoder.{self.decoder.base_model_prefix}"
        own = {name: weight.shape for name, weight in self.model.named_parameters()}
        return {
            f"{prefix}.{name}": f"model.{name}"
            for name, weight in body.named_parameters()
            if own.get(name) == weight.shape
        }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        self.model._init_weights(module)

    def objective(self, projections: Tensor, labels: Tensor) -> Tensor:
        """The loss () of a whole batch from its projections (B, V, D). labels: (B, V), which texts are the same."""
        config = self.config
        return in_batch_loss(projections, labels, temperature=config.temperature, symmetric=config.symmetric)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        whole: Tensor | None = None,
        whole_mask: Tensor | None = None,
        return_loss: bool = True,
    ) -> SentencesOutput:
        """input_ids, attention_mask, labels: (B, V, T), (B, V, T) and (B, V) of simcse and pairs. Of tsdae: (B, T) of
        what is left of the texts, and whole, whole_mask: (B, T') of the texts."""
        if self.decoder is not None:
            vector = self._encode(input_ids, attention_mask)
            return SentencesOutput(loss=self._told(vector, whole, whole_mask), pooler_output=vector)
        rows, texts = input_ids.shape[:2]
        h = self._encode(input_ids.flatten(0, 1), attention_mask.flatten(0, 1)).unflatten(0, (rows, texts))
        z = h if self.head is None else self.head(h)
        return SentencesOutput(loss=self.objective(z, labels) if return_loss else None, projections=z, pooler_output=h)

    def _encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pool(states, attention_mask, self.config.pooling)

    def _told(self, vector: Tensor, whole: Tensor, whole_mask: Tensor) -> Tensor:
        """The mean cross entropy of each token from those before it and the vectors (B, D)."""
        logits = self.decoder(
            input_ids=whole,
            attention_mask=whole_mask,
            encoder_hidden_states=vector.unsqueeze(1),
            encoder_attention_mask=whole_mask[:, :1],
            use_cache=False,
        ).logits[:, :-1]
        told = whole[:, 1:].masked_fill(whole_mask[:, 1:] == 0, IGNORED)
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), told.flatten())


def decoder_of(encoder: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of a decoder as f, with attention to a vector. Raises ValueError where there is none."""
    both = type(encoder) in MODEL_FOR_CAUSAL_LM_MAPPING and type(encoder) in MODEL_FOR_MASKED_LM_MAPPING
    if not both or not hasattr(encoder, "add_cross_attention"):
        raise ValueError(
            f"transformers has no decoder like a {encoder.model_type} that could look at a vector: take BERT, RoBERTa "
            "or their like, or another objective"
        )
    config = copy.deepcopy(encoder)
    config.is_decoder = config.add_cross_attention = True
    return config


__all__ = ["SentencesForPreTraining", "decoder_of", "in_batch_loss", "pool"]
