"""Configuration of BYOL (Grill et al. 2020, arXiv:2006.07733)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class BYOLConfig(ImageMethodConfig):
    """What rebuilds encoder f, projection head g and predictor, of student and teacher.

    projection_dim:    width of z = g(h) and of its prediction (paper: 256).
    projection_hidden: width of the one hidden layer of g (paper: 4096).
    predictor_hidden:  width of the one hidden layer of the predictor (paper: 4096).
    momentum:          of the teacher at the start; it rises to 1 (paper: 0.996; 0.99 for 300 epochs).
    """

    model_type = "byol"

    projection_dim: int = 256
    projection_hidden: int = 4096
    predictor_hidden: int = 4096
    momentum: float = 0.996

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum must be between 0 and 1, got {self.momentum}")


__all__ = ["BYOLConfig"]
