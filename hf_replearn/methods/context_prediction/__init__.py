"""Context prediction: Unsupervised Visual Representation Learning by Context Prediction (arXiv:1505.05192)."""

from hf_replearn.methods.trunk import register

from .configuration_context_prediction import ContextPredictionConfig
from .modeling_context_prediction import (
    ContextPredictionForPreTraining,
    ContextPredictionModel,
    context_prediction,
)

register(ContextPredictionConfig, ContextPredictionModel, ContextPredictionForPreTraining)

__all__ = [
    "ContextPredictionConfig", "ContextPredictionForPreTraining", "ContextPredictionModel", "context_prediction",
]  # fmt: skip
