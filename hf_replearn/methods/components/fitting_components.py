"""PCA in one pass over the data, and FastICA (Hyvärinen 1999; Hyvärinen & Oja 2000) in as many as it needs.

N inputs, D numbers of each, K components
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.methods.fitting import Examples, principal_axes

GAUSSIAN = 0.374567  # E log cosh of a standard normal number


@dataclass(frozen=True)
class PrincipalComponents:
    """The K directions of most variance. whiten: codes get unit variance each."""

    components: int
    whiten: bool = False
    passes: int = 1

    def begin(self, examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        mean, values, axes = principal_axes(examples, self.components)
        return {"mean": mean, "values": values, "axes": axes}

    def go_on(self, state: dict[str, Tensor], examples: Examples, generator: torch.Generator) -> dict[str, float]:
        """One pass told all."""
        return {}

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return True

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the model."""
        axes, scale = (
            state["axes"],
            (state["values"].sqrt() if self.whiten else torch.ones_like(state["values"]))[:, None],
        )
        return {"shift": state["mean"], "components": axes / scale, "mixing": axes * scale}


@dataclass(frozen=True)
class IndependentComponents:
    """The K directions, of unit variance, that are least Gaussian: FastICA in its symmetric form, with the contrast
    log cosh, after whitening by the K principal components. Each pass is one step of all directions.

    tolerance: |1 - |cos|| of every direction with the one before it, below which it ends.
    """

    components: int
    passes: int = 200
    tolerance: float = 1e-4

    def begin(self, examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        mean, values, axes = principal_axes(examples, self.components)
        start = torch.randn(self.components, self.components, generator=generator, dtype=torch.float64)
        scale = values.sqrt()[:, None]
        return {
            "mean": mean,
            "whitening": axes / scale,
            "dewhitening": axes * scale,
            "rotation": decorrelated(start.to(mean.device)),
            "moved": torch.ones((), dtype=torch.float64),
            "contrast": torch.zeros_like(values),
        }

    def go_on(self, state: dict[str, Tensor], examples: Examples, generator: torch.Generator) -> dict[str, float]:
        """W <- E[g(W z) zᵀ] - diag(E[g'(W z)]) W with g = tanh, then (W Wᵀ)^-½ W."""
        rotation, count = state["rotation"], 0
        told = slope = contrast = 0.0
        for batch in examples.batches():
            z = (batch.double() - state["mean"]) @ state["whitening"].T
            y = z @ rotation.T
            g = y.tanh()
            told, slope = told + g.T @ z, slope + (1 - g.square()).sum(0)
            contrast = contrast + (y.abs() + torch.log1p((-2 * y.abs()).exp()) - torch.log(torch.tensor(2.0))).sum(0)
            count += len(z)
        state["rotation"] = decorrelated(told / count - (slope / count)[:, None] * rotation)
        state["moved"] = ((state["rotation"] * rotation).sum(1).abs() - 1).abs().max().cpu()
        state["contrast"] = (contrast / count - GAUSSIAN).square()
        return {"loss": -state["contrast"].sum().item(), "moved": state["moved"].item()}

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return state["moved"].item() < self.tolerance

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the model, the least Gaussian component first, the largest entry of its picture positive."""
        rotation = state["rotation"][state["contrast"].argsort(descending=True, stable=True)]
        mixing = rotation @ state["dewhitening"]
        sign = mixing.gather(1, mixing.abs().argmax(1, keepdim=True)).sign()
        return {"shift": state["mean"], "components": rotation @ state["whitening"] * sign, "mixing": mixing * sign}


def decorrelated(w: Tensor) -> Tensor:
    """(W Wᵀ)^-½ W: the orthogonal matrix nearest to W (K, K)."""
    values, vectors = torch.linalg.eigh(w @ w.T)
    return (vectors / values.sqrt()) @ vectors.T @ w


__all__ = ["IndependentComponents", "PrincipalComponents", "decorrelated"]
