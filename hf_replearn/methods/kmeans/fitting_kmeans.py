"""k-means by Lloyd's algorithm (Lloyd 1957), each pass over all of the data, from k-means++ (Arthur & Vassilvitskii
2007).

N inputs, D numbers of each, K centroids
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_replearn.errors import InputError
from hf_replearn.methods.fitting import Examples

DRAWN = 20  # inputs for each centroid among which the first ones are chosen, at most


@dataclass(frozen=True)
class KMeans:
    """K centroids, each the mean of the inputs that are nearest to it.

    It ends when the mean squared distance falls by less than the share `tolerance` in a pass. A centroid that nothing
    is nearest to starts anew at the input that is furthest from its own.
    """

    components: int
    passes: int = 50
    tolerance: float = 1e-4

    def begin(self, examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        if self.components > len(examples):
            raise InputError(f"--components {self.components}: there are {len(examples):,} inputs to be centroids of")
        places = torch.randperm(len(examples), generator=generator)[: DRAWN * self.components]
        drawn = examples.some(places)
        if len(drawn.unique(dim=0)) < self.components:
            raise InputError(
                f"--components {self.components}: {len(drawn):,} inputs have {len(drawn.unique(dim=0))} different "
                "values: give fewer"
            )
        far = torch.tensor(torch.finfo(torch.float64).max, dtype=torch.float64)  # of no pass yet
        return {"centroids": spread_out(drawn, self.components, generator), "error": far, "before": far.clone()}

    def go_on(self, state: dict[str, Tensor], examples: Examples, generator: torch.Generator) -> dict[str, float]:
        """Every input to its nearest centroid, then every centroid to the mean of its inputs."""
        centroids = state["centroids"]
        sums, counts = (
            torch.zeros_like(centroids, dtype=torch.float64),
            torch.zeros(len(centroids), dtype=torch.float64),
        )
        sums, counts = sums.to(centroids.device), counts.to(centroids.device)
        error, furthest = torch.zeros((), dtype=torch.float64), (torch.empty(0), torch.empty(0, examples.width))
        for batch in examples.batches():
            squares, nearest = squared_distances(batch, centroids).min(1)
            sums.index_add_(0, nearest, batch.double())
            counts += nearest.bincount(minlength=len(centroids))
            error += squares.double().sum().cpu()
            furthest = most(furthest, squares.cpu(), batch, count=len(centroids))
        dead = counts == 0
        means = (sums / counts.clamp(min=1)[:, None]).float()
        means[dead] = furthest[1][: int(dead.sum())].to(means)
        state["centroids"], state["before"], state["error"] = means, state["error"], error / len(examples)
        return {"loss": state["error"].item(), "restarted": int(dead.sum())}

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        before, now = state["before"].item(), state["error"].item()
        return before - now <= self.tolerance * before

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the model."""
        return {"centroids": state["centroids"]}


def squared_distances(inputs: Tensor, centroids: Tensor) -> Tensor:
    """(N, K) of inputs (N, D) and centroids (K, D); not below 0."""
    lengths = centroids.square().sum(1) + inputs.square().sum(1, keepdim=True)
    return lengths.addmm_(inputs, centroids.T, alpha=-2).clamp_(min=0)


def spread_out(inputs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the inputs (N, D), each drawn with a probability that grows with the square of its distance to those
    that were drawn before (k-means++)."""
    chosen = [int(torch.randint(len(inputs), (), generator=generator))]
    squares = torch.full((len(inputs),), torch.inf)
    for _ in range(count - 1):
        nearest = inputs[chosen[-1]]
        squares = squares.minimum((inputs - nearest).square().sum(1).cpu())
        heights = squares.double().cumsum(0)
        drawn = torch.rand((), generator=generator, dtype=torch.float64) * heights[-1]
        chosen.append(min(int(torch.searchsorted(heights, drawn, right=True)), len(inputs) - 1))
    return inputs[chosen].clone()


def most(known: tuple[Tensor, Tensor], squares: Tensor, inputs: Tensor, *, count: int) -> tuple[Tensor, Tensor]:
    """The `count` inputs with the largest squares of those known and of these, the largest first."""
    squares, places = squares.topk(min(count, len(squares)))
    squares, inputs = torch.cat([known[0], squares]), torch.cat([known[1], inputs.cpu()[places]])
    order = squares.argsort(descending=True, stable=True)[:count]
    return squares[order], inputs[order]


__all__ = ["KMeans", "spread_out", "squared_distances"]
