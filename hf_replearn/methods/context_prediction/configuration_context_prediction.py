"""Configuration of context prediction (Doersch et al. 2015, arXiv:1505.05192)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class ContextPredictionConfig(ImageMethodConfig):
    """head_hidden: width of the two hidden layers of g (paper: 4096)."""

    model_type = "context_prediction"

    head_hidden: int = 4096


__all__ = ["ContextPredictionConfig"]
