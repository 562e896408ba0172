"""A plain classifier, what learning from episodes has to beat (arXiv:1904.04232)."""

from hf_replearn.methods.trunk import register

from .configuration_classifier import ClassifierConfig
from .modeling_classifier import ClassifierForPreTraining, ClassifierModel

register(ClassifierConfig, ClassifierModel, ClassifierForPreTraining)

__all__ = ["ClassifierConfig", "ClassifierForPreTraining", "ClassifierModel"]
