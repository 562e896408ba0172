"""Configuration of causal language modelling (Radford et al. 2018, 2019)."""

from transformers import AutoConfig, PreTrainedConfig


class CausalLMConfig(PreTrainedConfig):
    """decoder: the configuration of a transformers causal language model (GPT2Config, Qwen3Config, ...)."""

    model_type = "replearn-causal-lm"
    sub_configs = {"decoder": AutoConfig}

    decoder: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        if isinstance(self.decoder, dict):
            self.decoder = AutoConfig.for_model(**self.decoder)
        super().__post_init__(**kwargs)


__all__ = ["CausalLMConfig"]
