"""Configuration of k-means features (Coates, Lee & Ng 2011)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.fitted import FittedConfig


@strict
class KMeansConfig(FittedConfig):
    """activation: "triangle", how much nearer than the mean distance a centroid is, or 0; "hard", 1 for the nearest."""

    model_type = "kmeans"

    activation: str = "triangle"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.activation not in ("triangle", "hard"):
            raise ValueError(f"activation must be triangle or hard, got {self.activation!r}")


__all__ = ["KMeansConfig"]
