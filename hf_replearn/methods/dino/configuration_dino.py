"""Configuration of DINO (Caron et al. 2021, arXiv:2104.14294)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class DINOConfig(ImageMethodConfig):
    """What rebuilds encoder f and head g of teacher and student, and the numbers of their loss.

    prototypes:          K, the directions among which a view is distributed (paper: 65536).
    projection_hidden:   width of the two hidden layers of g (paper: 2048).
    head_norm:           batch normalisation after the hidden layers of g (paper: none, as in its ViTs).
    student_temperature: of the student's distribution (paper: 0.1).
    teacher_temperature: of the teacher's, after its warm-up (paper: 0.07).
    warmup_temperature:  of the teacher's at the start (paper: 0.04).
    temperature_warmup:  share of the run in which the one becomes the other (paper: 30 of 300 epochs).
    centring:            "mean": what the teacher gives is centred by a running mean; "sinkhorn": each batch is spread
                         evenly over the prototypes instead (Caron et al. 2020, arXiv:2006.09882).
    centre_momentum:     of that mean (paper: 0.9).
    frozen_share:        of the run in which the student's prototypes stay as they are (paper: 1 of 100 epochs).
    momentum:            of the teacher at the start; it rises to 1 (paper: 0.996).
    """

    model_type = "dino"

    prototypes: int = 65_536
    projection_hidden: int = 2048
    head_norm: bool = False
    student_temperature: float = 0.1
    teacher_temperature: float = 0.07
    warmup_temperature: float = 0.04
    temperature_warmup: float = 0.1
    centring: Literal["mean", "sinkhorn"] = "mean"
    centre_momentum: float = 0.9
    frozen_share: float = 0.01
    momentum: float = 0.996

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name in ("momentum", "centre_momentum", "temperature_warmup", "frozen_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")


__all__ = ["DINOConfig"]
