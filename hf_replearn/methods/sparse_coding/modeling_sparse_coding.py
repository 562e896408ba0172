"""Sparse codes: an input is told as a sum of few atoms of a dictionary.

N inputs x, D numbers of each, K atoms, dictionary (K, D), codes z (N, K), input told as z D
"""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hf_replearn.methods.fitted import FittedModel

from .configuration_sparse_coding import SparseCodingConfig

LOOKED_AT = 10  # steps of FISTA between two looks at which codes are found
NOTHING = 1e-10  # of the squared length of an input: what is left of it is rounding


def residual(codes: Tensor, slope: Tensor, penalty: float) -> Tensor:
    """How far codes (N, K) are from the condition of the minimum of ½ |x - z D|² + λ |z|₁ (Karush-Kuhn-Tucker), (N,):
    where z is 0, |slope| is at most λ, elsewhere it is -λ sign(z).

    slope: (N, K), of the squared error: (z D - x) Dᵀ. penalty: λ.
    """
    zero = codes == 0
    off = torch.where(zero, (slope.abs() - penalty).clamp(min=0), (slope + penalty * codes.sign()).abs())
    return off.amax(1)


def fista(inputs: Tensor, dictionary: Tensor, penalty: float, *, tolerance: float = 1e-3, steps: int = 1000) -> Tensor:
    """Codes (N, K) that minimise ½ |x - z D|² + λ |z|₁ for each x of inputs (N, D) (Beck & Teboulle 2009), with the
    momentum of a code begun anew whenever it points uphill (O'Donoghue & Candès 2015).

    A code is found where its `residual` is at most tolerance * λ, and costs no more then. Each ends by itself, whatever
    stands beside it in the batch.
    """
    gram = dictionary @ dictionary.T
    rate = 1 / torch.linalg.eigvalsh(gram)[-1].clamp(min=1e-12)
    told = inputs @ dictionary.T  # (N, K)
    found, left = torch.zeros_like(told), torch.arange(len(told), device=told.device)
    z, y, momentum = found.clone(), found.clone(), found.new_ones(len(told), 1)
    for step in range(steps):
        moved = nn.functional.softshrink(y - rate * (y @ gram - told), (rate * penalty).item())
        uphill = ((y - moved) * (moved - z)).sum(1, keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        further = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        y = moved + (momentum - 1) / further * (moved - z)
        z, momentum = moved, further
        if step % LOOKED_AT == LOOKED_AT - 1:
            done = residual(z, z @ gram - told, penalty) <= tolerance * penalty
            found[left[done]] = z[done]
            left, z, y, momentum, told = (part[~done] for part in (left, z, y, momentum, told))
            if not len(left):
                return found
    found[left] = z
    return found


def omp(inputs: Tensor, dictionary: Tensor, nonzeros: int) -> Tensor:
    """Codes (N, K) of so many numbers that are not 0, at most, by orthogonal matching pursuit (Pati et al. 1993): each
    further atom is the one most correlated with what is left, and all are fitted anew by least squares.

    inputs: (N, D). dictionary: (K, D), atoms of length 1.
    """
    told, gram = inputs @ dictionary.T, dictionary @ dictionary.T
    codes, chosen = torch.zeros_like(told), told.new_zeros(len(told), 0, dtype=torch.long)
    enough = NOTHING * inputs.square().sum(1)
    for _ in range(min(nonzeros, *dictionary.shape)):
        slope = told - codes @ gram
        left = (inputs - codes @ dictionary).square().sum(1)
        slope = slope.scatter(1, chosen, 0.0).abs()
        chosen = torch.cat([chosen, slope.argmax(1, keepdim=True)], dim=1)  # (N, s)
        among = gram[chosen[:, :, None], chosen[:, None, :]]
        values, failed = torch.linalg.solve_ex(among, told.gather(1, chosen)[..., None])
        fine = (failed == 0) & (left > enough)  # not where an atom is a sum of others, or nothing is left to tell
        codes = torch.where(fine[:, None], torch.zeros_like(codes).scatter(1, chosen, values[..., 0]), codes)
    return codes


class SparseCodingModel(FittedModel):
    config_class = SparseCodingConfig
    signed = True

    def __init__(self, config: SparseCodingConfig):
        super().__init__(config)
        self.dictionary = nn.Parameter(torch.zeros(config.components, config.inputs))
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """As for all, and atoms are of length 1."""
        super()._init_weights(module)
        if module is self:
            init.copy_(self.dictionary, nn.functional.normalize(self.dictionary))

    def code(self, inputs: Tensor) -> Tensor:
        """(N, D) -> (N, K)"""
        config = self.config
        if config.codes == "omp":
            return omp(inputs, self.dictionary, config.nonzeros)
        if config.codes == "threshold":
            return nn.functional.softshrink(inputs @ self.dictionary.T, config.penalty)
        return fista(inputs, self.dictionary, config.penalty, tolerance=config.tolerance, steps=config.steps)

    def decode(self, codes: Tensor) -> Tensor:
        """(N, K) -> (N, D)"""
        return codes @ self.dictionary

    def filters(self) -> Tensor:
        """The atoms (K, D)."""
        return self.dictionary


__all__ = ["SparseCodingModel", "fista", "omp", "residual"]
