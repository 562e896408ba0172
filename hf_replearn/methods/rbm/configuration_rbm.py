"""Configuration of restricted Boltzmann machines, one on top of another."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.fitted import FittedConfig


@strict
class RBMConfig(FittedConfig):
    """visible: what the inputs are to the lowest machine: "binary", probabilities in 0...1, or "gaussian", numbers of
    unit variance. lower_layers: hidden units of the machines below the last one, which has `components`.
    """

    model_type = "rbm"

    visible: str = "binary"
    lower_layers: list[int] | tuple[int, ...] = ()

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.visible not in ("binary", "gaussian"):
            raise ValueError(f"visible must be binary or gaussian, got {self.visible!r}")


__all__ = ["RBMConfig"]
