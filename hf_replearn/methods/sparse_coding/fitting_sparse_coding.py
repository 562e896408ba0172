"""A dictionary that is learnt online (Mairal, Bach, Ponce & Sapiro 2009), and one that is given.

n inputs of a batch, D numbers of each, K atoms
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_replearn.errors import InputError
from hf_replearn.methods.fitting import Examples

from .modeling_sparse_coding import fista

UNUSED = 1e-10  # of the sum of an atom's squared codes: it tells nothing
ROUGH = 0.1  # how far from optimal the codes may be that a dictionary is learnt by, as a share of the penalty


@dataclass(frozen=True)
class LearntDictionary:
    """K atoms, no longer than 1, such that inputs are told by sparse codes: ½ |x - z D|² + λ |z|₁ is small.

    Each batch is coded (FISTA); what its codes say of the atoms is added to two sums, from which those of earlier
    batches fade (section 3.4.3); then every atom goes to where the sums have it best, the others held (algorithm 2).
    """

    components: int
    penalty: float
    passes: int
    batch: int = 256

    def begin(self, examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        """Atoms are inputs, at random, that are not 0, with a little noise so that no two are the same."""
        places = torch.randperm(len(examples), generator=generator)[: 10 * self.components]
        drawn = examples.some(places)
        lengths = drawn.norm(dim=1)
        drawn = drawn[lengths > 1e-6 * lengths.max()]
        if not len(drawn):
            raise InputError("all inputs are 0: there is nothing to learn from them")
        drawn = nn.functional.normalize(drawn[torch.arange(self.components) % len(drawn)])
        noise = torch.randn(drawn.shape, generator=generator).to(drawn) * (0.1 * examples.width**-0.5)
        atoms = nn.functional.normalize(drawn + noise)
        sums = {"codes": atoms.new_zeros(len(atoms), len(atoms)), "told": torch.zeros_like(atoms)}
        return {"atoms": atoms, "batches": torch.zeros((), dtype=torch.int64), **sums}

    def go_on(self, state: dict[str, Tensor], examples: Examples, generator: torch.Generator) -> dict[str, float]:
        """One pass, in random order."""
        cost = used = 0.0
        order = torch.randperm(len(examples), generator=generator)
        for x in examples.batches(self.batch, order):
            z = fista(x, state["atoms"], self.penalty, tolerance=ROUGH)
            cost += ((z @ state["atoms"] - x).square().sum() / 2 + self.penalty * z.abs().sum()).item()
            used += z.count_nonzero().item()
            state["batches"] += 1
            state["codes"], state["told"] = (
                fading(known, new / len(x), batch=len(x), number=int(state["batches"]))
                for known, new in ((state["codes"], z.T @ z), (state["told"], z.T @ x))
            )
            state["atoms"] = updated(state["atoms"], state["codes"], state["told"], fresh=x)
        return {"loss": cost / len(examples), "nonzeros": used / len(examples)}

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return False

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the model, the atoms that tell most first."""
        return {"dictionary": state["atoms"][state["codes"].diagonal().argsort(descending=True, stable=True)]}


def fading(known: Tensor, new: Tensor, *, batch: int, number: int) -> Tensor:
    """The sums with those of one more batch, earlier ones faded: by little at first, more slowly later (section 3.4.3).

    number: of this batch, from 1.
    """
    weight = batch * number if number < batch else batch**2 + number - batch
    return (weight + 1 - batch) / (weight + 1) * known + new


def updated(atoms: Tensor, codes: Tensor, told: Tensor, *, fresh: Tensor) -> Tensor:
    """One round of block coordinate descent over atoms (K, D) (algorithm 2); those that nothing uses become inputs.

    codes: Σ z zᵀ (K, K). told: Σ z xᵀ (K, D). fresh: inputs (n, D).
    """
    atoms, unused = atoms.clone(), 0
    use = codes.diagonal()
    for place, of_this in enumerate((use > UNUSED * use.max().clamp(min=UNUSED)).tolist()):
        if of_this:
            atom = atoms[place] + (told[place] - codes[place] @ atoms) / use[place]
            atoms[place] = atom / atom.norm().clamp(min=1)
        else:
            other = fresh[unused % len(fresh)]
            atoms[place] = other / other.norm().clamp(min=1e-6)
            unused += 1
    return atoms


@dataclass(frozen=True)
class GivenDictionary:
    """The dictionary of another run, with its whitening: nothing is learnt."""

    given: dict[str, Tensor]
    passes: int = 1

    def begin(self, examples: Examples, generator: torch.Generator) -> dict[str, Tensor]:
        width = self.given["dictionary"].shape[1]
        if width != examples.width:
            raise InputError(f"--dictionary has atoms of {width} numbers, and the inputs here have {examples.width}")
        return dict(self.given)

    def go_on(self, state: dict[str, Tensor], examples: Examples, generator: torch.Generator) -> dict[str, float]:
        return {}

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return True

    def weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of the model: as given."""
        return dict(state)


__all__ = ["GivenDictionary", "LearntDictionary", "fading", "updated"]
