"""Sentence encoders: SimCSE (arXiv:2104.08821), TSDAE (arXiv:2104.06979), pairs of texts (arXiv:1705.00652)."""

from .collating_sentences import DataCollatorForDenoising, DataCollatorForSentences
from .configuration_sentences import SentencesConfig
from .modeling_sentences import SentencesForPreTraining, in_batch_loss, pool

__all__ = [
    "DataCollatorForDenoising", "DataCollatorForSentences", "SentencesConfig", "SentencesForPreTraining",
    "in_batch_loss", "pool",
]  # fmt: skip
