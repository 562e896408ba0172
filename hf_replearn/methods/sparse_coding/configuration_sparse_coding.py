"""Configuration of sparse codes over a dictionary."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.fitted import FittedConfig


@strict
class SparseCodingConfig(FittedConfig):
    """codes: "lasso", of least squared error and sum of magnitudes (FISTA); "omp", of so many numbers that are not 0 at
    most, chosen one after the other; "threshold", correlations with the atoms less the penalty, without a search.

    penalty:   λ of ½ |x - z D|² + λ |z|₁, and of the threshold. nonzeros: of an OMP code.
    tolerance: of FISTA: how far from optimal a code may be, as a share of λ. steps: of FISTA, at most.
    """

    model_type = "sparse_coding"

    codes: str = "lasso"
    penalty: float = 1.0
    nonzeros: int = 5
    tolerance: float = 1e-3
    steps: int = 1000

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.codes not in ("lasso", "omp", "threshold"):
            raise ValueError(f"codes must be lasso, omp or threshold, got {self.codes!r}")


__all__ = ["SparseCodingConfig"]
