"""Configuration of sentence encoders under SimCSE, TSDAE or pairs of texts."""

from transformers import AutoConfig, PreTrainedConfig


class SentencesConfig(PreTrainedConfig):
    """encoder:     the configuration of a transformers encoder (BertConfig, ModernBertConfig, ...).
    objective:   "simcse", "tsdae" or "pairs".
    pooling:     one vector of a text: "cls", its first position, or "mean" of all its tokens.
    head:        whether a dense layer with tanh stands between the vector and the loss of simcse and pairs.
    temperature: of their softmax over cosines. symmetric: whether the second text of a pair tells the first one too.
    """

    model_type = "replearn-sentences"
    sub_configs = {"encoder": AutoConfig}

    encoder: dict | PreTrainedConfig | None = None
    objective: str = "simcse"
    pooling: str = "cls"
    head: bool = False
    temperature: float = 0.05
    symmetric: bool = False
    tie_word_embeddings: bool = True  # or no weight of f would be the decoder's

    def __post_init__(self, **kwargs):
        if isinstance(self.encoder, dict):
            self.encoder = AutoConfig.for_model(**self.encoder)
        super().__post_init__(**kwargs)


__all__ = ["SentencesConfig"]
