"""Causal language modelling: GPT (Radford et al. 2018) and GPT-2 (Radford et al. 2019)."""

from .collating_causal_lm import DataCollatorForCausalLM
from .configuration_causal_lm import CausalLMConfig
from .modeling_causal_lm import CausalLMForPreTraining, has_plain_head

__all__ = ["CausalLMConfig", "CausalLMForPreTraining", "DataCollatorForCausalLM", "has_plain_head"]
