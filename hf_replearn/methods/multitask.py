"""Several tasks learnt by one trunk with a head each, and ways to weigh them.

uniform: every loss counts as it is. uncertainty: Kendall, Gal & Cipolla 2018 (arXiv:1705.07115). gradnorm: Chen et al.
2018 (arXiv:1711.02257). pcgrad: Yu et al. 2020 (arXiv:2001.06782). mgda: Désidéri 2012; Sener & Koltun 2018
(arXiv:1810.04650). That uniform weights do as well where all is tuned: Kurin et al. 2022 (arXiv:2201.04122).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Weighting = Literal["uniform", "uncertainty", "gradnorm", "pcgrad", "mgda"]
TOGETHER = ("gradnorm", "pcgrad", "mgda")  # which compare the gradients of all tasks, and need all in every step
UNKNOWN = -1.0  # a first loss that is not known yet
LEAST = 1e-3  # a weight of GradNorm


@dataclass(frozen=True)
class Weigher:
    """How tasks are weighed.

    rate:  of the steps of the weights of uncertainty and GradNorm, by gradient descent (GradNorm: 0.025).
    alpha: of GradNorm: how much faster slow tasks are to learn; 0: as fast as the others (paper: 1.5).
    seed:  of the order in which PCGrad meets the other tasks.
    """

    how: Weighting = "uniform"
    rate: float = 0.025
    alpha: float = 1.5
    seed: int = 0


# ---- weights


def uncertainty_weight(log_variance: Tensor, regression: Tensor) -> Tensor:
    """The factor on each loss: 1 / sigma^2 of classes, 1 / (2 sigma^2) of numbers (equations 7 and 10).

    log_variance: (T,), s = log sigma^2. regression: (T,) bool. The objective is weight * loss + s / 2, whose minimum
    over s has the weight 1 / (2 loss), of both kinds.
    """
    return torch.exp(-log_variance) * torch.where(regression, 0.5, 1.0)


def uncertainty_gradient(log_variance: Tensor, losses: Tensor, regression: Tensor) -> Tensor:
    """Of weight * loss + s / 2 with regard to s: (T,)."""
    return 0.5 - uncertainty_weight(log_variance, regression) * losses


def gradnorm_gradient(weights: Tensor, norms: Tensor, losses: Tensor, first: Tensor, *, alpha: float) -> Tensor:
    """Of GradNorm's loss, the sum of |w_i n_i - target_i|, with regard to w, targets held fixed (equations 1 and 2), in
    units of the mean of w_i n_i: (T,).

    norms: (T,) of the gradients of the losses, not weighted, in the last layer that all share. first: losses at the
    start of the run.
    """
    told = weights * norms
    pace = losses / first
    target = told.mean() * (pace / pace.mean()) ** alpha
    return torch.sign(told - target) * norms / told.mean().clamp_min(torch.finfo(norms.dtype).tiny)


def pcgrad(gram: Tensor, order: list[list[int]]) -> Tensor:
    """What each task's gradient counts in the sum of the projected ones: (T,) (algorithm 1).

    gram:  (T, T) products of the gradients. order: for each task, the others in the order in which it meets them.
    Each is projected onto the plane normal to the others' own gradients, which are never projected ones, where it
    points against them: so all is linear in the gradients, and their products are enough.
    """
    total = torch.zeros(len(gram), dtype=gram.dtype, device=gram.device)
    for task, others in enumerate(order):
        own = torch.zeros_like(total)
        own[task] = 1.0
        for other in others:
            along = own @ gram[:, other]
            if along < 0:
                own[other] -= along / gram[other, other]
        total += own
    return total


def min_norm(gram: Tensor) -> Tensor:
    """The weights (T,), none negative, of sum 1, whose sum of gradients is the shortest: MGDA (Sener & Koltun, equation
    3). gram: (T, T) products of the gradients.

    Where w' G w + (sum w - 1)^2 is the smallest of all w >= 0, w is that point times a number: with u = w / sum w the
    best such number leaves q / (1 + q), q = u' G u. So a solver of least squares without negative numbers finds it
    exactly; of two tasks it is the point of the line between them that is nearest to 0.
    """
    from scipy.optimize import nnls

    scaled = gram.detach().double().cpu().numpy()
    values, vectors = np.linalg.eigh(scaled / max(np.trace(scaled), np.finfo(float).tiny))
    rows = np.vstack([np.sqrt(values.clip(0))[:, None] * vectors.T, np.ones(len(scaled))])
    found, _ = nnls(rows, np.append(np.zeros(len(scaled)), 1.0))
    return torch.from_numpy(found / found.sum()).to(gram)


# ---- the model


class MultiTask(nn.Module):
    """Networks that have one trunk, each with a head of its own, and the loss of them together.

    networks:   task -> a classifier of transformers; they share modules, but for those of `heads`.
    heads:      task -> the modules that are its own.
    regression: the tasks whose labels are numbers.
    about:      JSON values that a checkpoint holds beside the weights.

    forward(tasks={task: batch with labels}) gives the loss of a step: of one task, or of all at once where `weigher`
    compares them. Its value is then the mean of the losses, and its gradient the combined one.
    """

    accepts_loss_kwargs = False  # the loss is the mean of a batch

    def __init__(
        self,
        networks: dict[str, nn.Module],
        heads: dict[str, list[nn.Module]],
        *,
        regression: Iterable[str],
        weigher: Weigher,
        about: dict[str, Any],
    ):
        super().__init__()
        self.tasks, self.weigher, self.networks, self.about = list(networks), weigher, networks, about
        self.trunk = networks[self.tasks[0]]  # with its own head
        self.heads = nn.ModuleList(nn.ModuleList(heads[task]) for task in self.tasks[1:])
        own = {id(p) for modules in heads.values() for module in modules for p in module.parameters()}
        self.shared = [p for p in self.trunk.parameters() if id(p) not in own and p.requires_grad]
        self.own = [[p for module in heads[task] for p in module.parameters()] for task in self.tasks]
        count, numbers = len(self.tasks), set(regression)
        self.register_buffer("regression", torch.tensor([task in numbers for task in self.tasks]), persistent=False)
        self.register_buffer("log_variance", torch.zeros(count))
        self.register_buffer("weights", torch.ones(count))
        self.register_buffer("first", torch.full((count,), UNKNOWN))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("change", torch.zeros(count), persistent=False)  # of the weights, after this step
        self.register_buffer("watched", torch.zeros(count, 2), persistent=False)  # sums of losses, and their number

    def train(self, mode: bool = True) -> MultiTask:
        super().train(mode)
        for network in self.networks.values():
            network.train(mode)
        return self

    def logits(self, task: str, batch: Batch) -> Tensor:
        """(B, C) of one task."""
        return self.networks[task](**{name: value for name, value in batch.items() if name != "labels"}).logits

    def loss(self, task: str, batch: Batch) -> Tensor:
        """Cross entropy of classes, squared error of numbers."""
        logits, labels = self.logits(task, batch).float(), batch["labels"]
        if self.regression[self.tasks.index(task)]:
            return nn.functional.mse_loss(logits.squeeze(1), labels.float())
        return nn.functional.cross_entropy(logits, labels)

    def forward(self, tasks: dict[str, Batch]) -> dict[str, Tensor]:
        losses = {task: self.loss(task, batch) for task, batch in tasks.items()}
        places = torch.tensor([self.tasks.index(task) for task in losses], device=self.weights.device)
        found = torch.stack(list(losses.values()))
        if self.training:
            self.watched[places] += torch.stack([found.detach(), torch.ones_like(found)], dim=1)
        if self.weigher.how in TOGETHER and self.training:
            return {"loss": self._together(found)}
        if self.weigher.how == "uncertainty":
            s, numbers = self.log_variance[places], self.regression[places]
            if self.training:
                self.change[places] = uncertainty_gradient(s, found.detach(), numbers)
            return {"loss": (uncertainty_weight(s, numbers) * found + s / 2).mean()}
        return {"loss": found.mean()}

    def _together(self, losses: Tensor) -> Tensor:
        """Of all tasks: the mean of their losses, whose gradient is the combined one."""
        each = [self._gradients(loss, own) for loss, own in zip(losses, self.own, strict=True)]
        shared = [[found[place] for found, _ in each] for place in range(len(self.shared))]
        known = [place for place, found in enumerate(shared) if any(gradient is not None for gradient in found)]
        counts, weights = self._combine(losses.detach(), [shared[place] for place in known])
        surrogate = losses.detach().mean()
        for place in known:
            parts = [count * g for count, g in zip(counts, shared[place], strict=True) if g is not None]
            surrogate = surrogate + _only_gradient(self.shared[place], sum(parts))
        for (_, gradients), parameters, weight in zip(each, self.own, weights, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    surrogate = surrogate + _only_gradient(parameter, weight * gradient)
        return surrogate

    def _gradients(self, loss: Tensor, own: list[nn.Parameter]) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Of a loss with regard to what all share, and to its own head."""
        found = torch.autograd.grad(loss, [*self.shared, *own], retain_graph=True, allow_unused=True)
        return list(found[: len(self.shared)]), list(found[len(self.shared) :])

    def _combine(self, losses: Tensor, shared: list[list[Tensor | None]]) -> tuple[Tensor, Tensor]:
        """What the gradient of each task counts in the trunk, and in its own head."""
        even = torch.full_like(losses, 1 / len(losses))
        if self.weigher.how == "gradnorm":
            last = next(found for found in reversed(shared) if all(g is not None and g.ndim > 1 for g in found))
            norms = torch.stack([gradient.float().norm() for gradient in last])
            first = torch.where(self.first == UNKNOWN, losses, self.first)
            self.first.copy_(first)
            self.change.copy_(gradnorm_gradient(self.weights, norms, losses, first, alpha=self.weigher.alpha))
            return self.weights * even, self.weights * even
        gram = sum(_products(found) for found in shared)
        if self.weigher.how == "mgda":
            counts = min_norm(gram)
            return counts, even
        draws = torch.Generator().manual_seed(self.weigher.seed * 2_147_483_647 + int(self.steps))
        order = [[other for other in torch.randperm(len(losses), generator=draws).tolist() if other != task]
                 for task in range(len(losses))]  # fmt: skip
        return pcgrad(gram, order) / len(losses), even

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Moves the weights that are learnt, after each optimizer step."""
        if self.weigher.how == "uncertainty":
            self.log_variance -= self.weigher.rate * self.change
        elif self.weigher.how == "gradnorm":
            moved = (self.weights - self.weigher.rate * self.change).clamp_min(LEAST)
            self.weights.copy_(moved * len(moved) / moved.sum())
        self.change.zero_()
        self.steps += 1

    def relative_weights(self) -> dict[str, float]:
        """The factor on the loss of each task as it is now, with the mean 1."""
        weights = self.weights
        if self.weigher.how == "uncertainty":
            weights = uncertainty_weight(self.log_variance, self.regression)
        return dict(zip(self.tasks, (weights / weights.mean()).tolist(), strict=True))

    def losses_since(self) -> dict[str, float]:
        """The mean loss of each task that was met since this was asked before."""
        sums, counts = self.watched.T.tolist()
        self.watched.zero_()
        return {task: total / n for task, total, n in zip(self.tasks, sums, counts, strict=True) if n}

    def save_pretrained(self, folder: str | Path, state_dict: dict[str, Any] | None = None) -> None:
        """A checkpoint's weights, what is shared once. The result is exported otherwise."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_model(self, str(Path(folder, "model.safetensors")))
        content = json.dumps({"recipe": "multitask"} | self.about, indent=2, ensure_ascii=False)
        Path(folder, "config.json").write_text(content + "\n", encoding="utf-8")


def _only_gradient(parameter: nn.Parameter, gradient: Tensor) -> Tensor:
    """0, whose gradient with regard to the parameter is `gradient`."""
    return ((parameter - parameter.detach()) * gradient.detach().to(parameter.dtype)).sum()


def _products(gradients: list[Tensor | None]) -> Tensor:
    """(T, T) of the gradients of one parameter; 0 where a task does not reach it."""
    known = next(gradient for gradient in gradients if gradient is not None)
    rows = torch.stack([torch.zeros_like(known) if g is None else g for g in gradients]).flatten(1).float()
    return rows @ rows.T
