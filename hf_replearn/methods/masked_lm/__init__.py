"""Masked language modelling: BERT (arXiv:1810.04805) and RoBERTa (arXiv:1907.11692)."""

from .collating_masked_lm import DataCollatorForMaskedLM
from .configuration_masked_lm import MaskedLMConfig
from .modeling_masked_lm import HEADS, MaskedLMForPreTraining

__all__ = ["HEADS", "DataCollatorForMaskedLM", "MaskedLMConfig", "MaskedLMForPreTraining"]
