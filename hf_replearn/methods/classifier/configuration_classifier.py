"""Configuration of a plain classifier, what learning from episodes has to beat (Chen et al. 2019, arXiv:1904.04232)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class ClassifierConfig(ImageMethodConfig):
    """classes: that are told apart."""

    model_type = "classifier"

    recipe: str = "episodes"
    classes: int = 2


__all__ = ["ClassifierConfig"]
