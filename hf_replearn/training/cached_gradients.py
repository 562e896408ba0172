"""Gradients of a loss over a batch too large for memory, exactly (GradCache, Gao et al. 2021, arXiv:2101.06983).

A contrastive loss couples all examples, so that accumulating the gradients of small batches is not the gradient of the
large one: the negatives would not grow. Here the projections of all small batches are computed first without a graph,
the loss of all of them gives the gradient of every projection, and a second forward and backward of each small batch
carries it on into the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn


def cached_gradient_step(
    project: Callable[[int], Tensor],
    objective: Callable[[Tensor], Tensor],
    *,
    batches: int,
    model: nn.Module,
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> Tensor:
    """Adds the gradient of objective(all projections) to the parameters of `model`; returns the loss, detached.

    project:   projections (b, ...) of small batch i through `model`; called twice, and must draw the same views again.
    objective: the loss of the projections of all small batches, concatenated along the first dimension.
    backward:  how a scalar is differentiated (accelerate's, under mixed precision).

    Exact for networks whose outputs do not depend on batch-mates. Batch normalisation sees one small batch at a time,
    as it sees one process's batch in data-parallel training.
    """
    states = []
    with torch.no_grad(), _running_statistics_kept(model):
        projections = []
        for batch in range(batches):
            states.append(_random_state())
            projections.append(project(batch))
    projections = torch.cat(projections).float().requires_grad_()
    loss = objective(projections)
    (gradient,) = torch.autograd.grad(loss, projections)
    gradients = gradient.split([len(gradient) // batches] * batches)

    for batch in range(batches):
        synchronised_later = batch < batches - 1 and isinstance(model, nn.parallel.DistributedDataParallel)
        with model.no_sync() if synchronised_later else nullcontext():
            _set_random_state(states[batch])  # the same dropout as the first time
            backward((project(batch).float() * gradients[batch]).sum())
    return loss.detach()


@contextmanager
def _running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """The first of the two forward passes must not move the running averages of batch normalisation."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_random_state(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
