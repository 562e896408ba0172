"""Configuration of image GPT (Chen et al. 2020)."""

from transformers import AutoConfig, PreTrainedConfig


class ImageGPTPretrainingConfig(PreTrainedConfig):
    """decoder: the configuration of the native model. The last number of its vocabulary is no colour: with
    ImageGPTConfig it starts an image, with BertConfig it stands for a hidden pixel."""

    model_type = "replearn-image-gpt"
    sub_configs = {"decoder": AutoConfig}

    decoder: dict | PreTrainedConfig | None = None

    def __post_init__(self, **kwargs):
        if isinstance(self.decoder, dict):
            self.decoder = AutoConfig.for_model(**self.decoder)
        super().__post_init__(**kwargs)


__all__ = ["ImageGPTPretrainingConfig"]
