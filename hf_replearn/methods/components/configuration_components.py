"""Configuration of one linear map: principal or independent components."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.fitted import FittedConfig


@strict
class ComponentsConfig(FittedConfig):
    """Nothing but what all fitted encoders have."""

    model_type = "components"


__all__ = ["ComponentsConfig"]
