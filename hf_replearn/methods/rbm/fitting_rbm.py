"""Contrastive divergence (Hinton 2002) and its persistent form (Tieleman 2008), one machine after the other.

n units' states at once, V visible and H hidden units, W (H, V), biases b (V,) of visible and c (H,) of hidden ones:
E(v, h) = -hᵀ W v - bᵀ v - cᵀ h of binary units; of Gaussian ones of unit variance ½ |v - b|² in the place of -bᵀ v
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hf_replearn.errors import InputError
from hf_replearn.methods.fitting import Examples

START = 0.01  # deviation of the first weights (Hinton 2012, A practical guide, section 8)


class Units(NamedTuple):
    """One machine: weight (H, V), hidden (H,) and visible (V,) biases, and what its visible units are."""

    weight: Tensor
    hidden: Tensor
    visible: Tensor
    gaussian: bool

    def up(self, v: Tensor) -> Tensor:
        """P(h = 1 | v): (n, V) -> (n, H)"""
        return (v @ self.weight.T + self.hidden).sigmoid()

    def down(self, h: Tensor) -> Tensor:
        """E(v | h): (n, H) -> (n, V)"""
        x = h @ self.weight + self.visible
        return x if self.gaussian else x.sigmoid()

    def drawn_down(self, h: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of v given h."""
        mean = self.down(h)
        return mean + drawn(mean, generator, torch.randn) if self.gaussian else bits(mean, generator)

    def free_energy(self, v: Tensor) -> Tensor:
        """-log Σ_h exp(-E(v, h)): (n,)"""
        inner = torch.nn.functional.softplus(v @ self.weight.T + self.hidden).sum(1)
        own = (v - self.visible).square().sum(1) / -2 if self.gaussian else v @ self.visible
        return -inner - own


def drawn(like: Tensor, generator: torch.Generator, how=torch.rand) -> Tensor:
    """Random numbers of that shape: on the CPU, so that every device gets the same."""
    return how(like.shape, generator=generator).to(like.device)


def bits(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Each 1 with its probability, else 0."""
    return (drawn(probabilities, generator) < probabilities).float()


def gibbs(units: Units, h: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Visible states and the probabilities of hidden ones after so many steps from hidden states h (n, H)."""
    for step in range(steps):
        h = h if step == 0 else bits(h, generator)
        v = units.drawn_down(h, generator)
        h = units.up(v)
    return v, h


def gradient(v0: Tensor, h0: Tensor, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the log-likelihood, for weight, hidden and visible biases: what the data (v0, h0) say less what the machine
    makes up (v, h), means over the rows of each."""
    weight = h0.T @ v0 / len(v0) - h.T @ v / len(v)
    return weight, h0.mean(0) - h.mean(0), v0.mean(0) - v.mean(0)


@dataclass(frozen=True)
class BoltzmannMachines:
    """Machines of `widths` hidden units, the lowest first, each trained for `epochs` passes on what is below.

    visible:  of the lowest, "binary" or "gaussian". sampling: "cd", whose chains start at the data of each batch, or
              "pcd", whose chains go on from batch to batch. steps: of Gibbs sampling for a batch.
    """

    widths: Sequence[int]
    visible: Literal["binary", "gaussian"]
    epochs: int
    learning_rate: float
    batch: int = 32
    sampling: Literal["cd", "pcd"] = "pcd"
    steps: int = 1
    momentum: float = 0.5
    weight_decay: float = 1e-4

    @property
    def passes(self) -> int:
        return self.epochs * len(self.widths)

    def begin(self, examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        """Visible biases by the mean, as the guide has it; the rest near 0."""
        total, low, high = 0.0, torch.inf, -torch.inf
        for batch in examples.batches():
            total = total + batch.double().sum(0)
            low, high = min(low, batch.min().item()), max(high, batch.max().item())
        if self.visible == "binary" and (low < 0 or high > 1):
            raise InputError(
                f"--visible binary: the inputs are from {low:.3g} to {high:.3g}, and binary units are on with a "
                "probability of 0 to 1: say --visible gaussian"
            )
        mean = (total / len(examples)).float()
        state, wide = {"done": torch.zeros((), dtype=torch.int64)}, [examples.width, *self.widths]
        for place, (below, width) in enumerate(zip(wide, self.widths, strict=False)):
            weight = START * torch.randn(width, below, generator=generator)
            state |= {f"weight.{place}": weight.to(mean), f"hidden.{place}": mean.new_zeros(width)}
            state[f"visible.{place}"] = mean.new_zeros(below)
        state["visible.0"] = mean if self.visible == "gaussian" else mean.clamp(0.01, 0.99).logit()
        return state | self._fresh(state, 0)

    def _fresh(self, state: dict[str, Tensor], place: int) -> dict[str, Tensor]:
        """What only the machine that is being trained has."""
        names = ("weight", "hidden", "visible")
        moving = {f"moving.{name}": torch.zeros_like(state[f"{name}.{place}"]) for name in names}
        return moving | {"chain": state[f"hidden.{place}"].new_zeros(self.batch, self.widths[place])}

    def units(self, state: dict[str, Tensor], place: int) -> Units:
        about = (state[f"{name}.{place}"] for name in ("weight", "hidden", "visible"))
        return Units(*about, gaussian=place == 0 and self.visible == "gaussian")

    def go_on(self, state: dict[str, Tensor], examples: Examples, generator: torch.Generator) -> dict[str, float]:
        """One pass of the machine whose turn it is, in random order."""
        place, epoch = divmod(int(state["done"]), self.epochs)
        if epoch == 0:
            state |= self._fresh(state, place)
        below = [self.units(state, lower) for lower in range(place)]
        units, error, order = self.units(state, place), 0.0, torch.randperm(len(examples), generator=generator)
        for batch in examples.batches(self.batch, order):
            for lower in below:
                batch = lower.up(batch)
            units, left = self.step(state, units, batch, generator)
            error += left
        for name in ("weight", "hidden", "visible"):
            state[f"{name}.{place}"] = getattr(units, name)
        state["done"] = state["done"] + 1
        return {"loss": error / len(examples), "layer": place + 1}

    def step(
        self, state: dict[str, Tensor], units: Units, v0: Tensor, generator: torch.Generator
    ) -> tuple[Units, float]:
        """The machine after one batch v0 (n, V), and the squared error of all of it told from its hidden units."""
        h0 = units.up(v0)
        start = bits(h0, generator) if self.sampling == "cd" else state["chain"]
        v, h = gibbs(units, start, self.steps, generator)
        if self.sampling == "pcd":
            state["chain"] = bits(h, generator)
        moved, names = [], ("weight", "hidden", "visible")
        for name, slope in zip(names, gradient(v0, h0, v, h), strict=True):
            slope = slope - self.weight_decay * units.weight if name == "weight" else slope
            moving = self.momentum * state[f"moving.{name}"] + self.learning_rate * slope
            state[f"moving.{name}"] = moving
            moved.append(getattr(units, name) + moving)
        error = (units.down(h0) - v0).square().sum().item()
        return Units(*moved, gaussian=units.gaussian), error

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return False

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the model."""
        places = range(len(self.widths))
        names = ("weight", "hidden", "visible")
        return {f"machines.{place}.{name}": state[f"{name}.{place}"] for place in places for name in names}


__all__ = ["BoltzmannMachines", "Units", "bits", "gibbs", "gradient"]
