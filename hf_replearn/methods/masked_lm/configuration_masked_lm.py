"""Configuration of masked language modelling (Devlin et al. 2019, arXiv:1810.04805)."""

from transformers import AutoConfig, PreTrainedConfig


class MaskedLMConfig(PreTrainedConfig):
    """encoder: the configuration of a transformers masked language model (BertConfig, ModernBertConfig, ...)."""

    model_type = "replearn-masked-lm"
    sub_configs = {"encoder": AutoConfig}

    encoder: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        if isinstance(self.encoder, dict):
            self.encoder = AutoConfig.for_model(**self.encoder)
        super().__post_init__(**kwargs)


__all__ = ["MaskedLMConfig"]
