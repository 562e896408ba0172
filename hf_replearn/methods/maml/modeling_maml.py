"""Adapting to an episode by steps of gradient descent on its support images: MAML (Finn et al. 2017), its first order,
ANIL (Raghu et al. 2020), Reptile (Nichol et al. 2018).

E episodes, N classes of one, K support images and Q queries of each class, M = K + Q, D features
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, linear
from transformers.utils import ModelOutput

from hf_replearn.methods.trunk import BATCH_NORMS, ImageEncoder, ImageForPreTraining

from .configuration_maml import MAMLConfig

Weights = dict[str, Tensor]
SQUARES, SMALL = 0.999, 1e-8  # of Reptile's Adam, whose first momentum is 0


@contextmanager
def normalised_by(network: nn.Module, count: int, *, moving: bool = False) -> Iterator[None]:
    """Batch normalisation by the statistics of the first `count` images of a batch, the support, for all of them, and
    with their gradient: an answer depends on no other query. Code of the papers goes by the statistics of all queries.

    moving: running statistics, by which the encoder goes alone, follow.
    """
    norms = [norm for norm in network.modules() if isinstance(norm, BATCH_NORMS)]
    for norm in norms:
        norm.forward = lambda x, norm=norm: _normalised(norm, x, count, moving=moving)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalised(norm: nn.Module, x: Tensor, count: int, *, moving: bool) -> Tensor:
    """What batch normalisation makes of x (B, C, …) by the statistics of its first rows."""
    rows, shape = x[:count].movedim(1, -1).reshape(-1, x.shape[1]), (1, -1, *[1] * (x.ndim - 2))
    mean = rows.mean(0)
    variance = (rows - mean).square().mean(0)  # several times as fast as torch.var_mean
    scale = (variance + norm.eps).rsqrt()
    scale = scale * norm.weight if norm.affine else scale
    shift = norm.bias - mean * scale if norm.affine else -mean * scale
    y = torch.addcmul(shift.view(shape), x, scale.view(shape))
    if moving and norm.track_running_stats:
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance, norm.momentum)
    return norm.act(norm.drop(y)) if hasattr(norm, "act") else y  # timm's have both in one


@dataclass
class AdaptedOutput(ModelOutput):
    """loss: () in nats a query, absent with `return_loss=False`; of Reptile the loss of the last inner step, whose
    gradient is that of its meta-step. pooler_output: (E N M, D), without gradient."""

    loss: Tensor | None = None
    pooler_output: Tensor | None = None


class MAMLModel(ImageEncoder):
    config_class = MAMLConfig


class MAMLForPreTraining(ImageForPreTraining):
    """The encoder f, and a linear map g to the classes of an episode, whose weights are the start of each adaptation.
    At first they are 0, for which class is which output is drawn for each episode, and whatever else they are is noise
    that has to be unlearnt (Kao, Chiu & Chen 2022). All is computed in single precision, whatever the autocast."""

    config_class = MAMLConfig

    def __init__(self, config: MAMLConfig):
        super().__init__(config)
        self.head = nn.Linear(self.model.features, config.way)
        self.post_init()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, pixel_values: Tensor, order: Tensor | None = None, return_loss: bool = True) -> AdaptedOutput:
        """pixel_values: (E, N, M, C, H, W), of each class the support first. order: (E, steps, images), of Reptile: the
        images of each inner step, out of the N M; None: all of them in each step."""
        with torch.autocast(pixel_values.device.type, enabled=False):
            if not return_loss:
                return AdaptedOutput(pooler_output=self.model(pixel_values.flatten(0, 2)).pooler_output)
            losses = []
            for number, episode in enumerate(pixel_values.float()):
                if self.config.method == "reptile":
                    losses.append(self.reptile(episode, None if order is None else order[number]))
                    continue
                support, query = episode.tensor_split([self.config.shots], dim=1)
                logits = self.answer(support, query.flatten(0, 1), steps=self.config.inner_steps)
                losses.append(cross_entropy(logits, _labels(query)))
        return AdaptedOutput(loss=torch.stack(losses).mean(), pooler_output=self.seen)

    def answer(self, support: Tensor, query: Tensor, *, steps: int | None = None) -> Tensor:
        """Logits (Q', N) of queries (Q', C, H, W) after so many steps on the support (N, K, C, H, W); None: those of
        `test_steps`. In training they have the gradient of the start (equation 1 of MAML); else there is none."""
        steps = self.config.test_steps if steps is None else steps
        adapt = self.adapt_head if self.config.method == "anil" else self.adapt_all
        if self.training and torch.is_grad_enabled():
            return adapt(support.flatten(0, 1), query, _labels(support), steps)
        with torch.enable_grad():
            return adapt(support.flatten(0, 1), query, _labels(support), steps).detach()

    def weights(self) -> tuple[Weights, Weights]:
        """Those of f and g at the start of an adaptation: the model's own in training, else copies."""
        found = [dict(part.named_parameters()) for part in (self.model.encoder, self.head)]
        if self.training:
            return found[0], found[1]
        return tuple({name: w.detach().clone().requires_grad_() for name, w in part.items()} for part in found)

    def features(self, f: Weights, images: Tensor, count: int, *, moving: bool = False) -> Tensor:
        """(B, D) of f with these weights, normalised by the first `count` images."""
        # Weights after a step have lost the order of axes in memory that is fast, where images have one channel.
        images = torch.empty_like(images, memory_format=torch.channels_last).copy_(images)
        with normalised_by(self.model.encoder, count, moving=moving and self.training):
            h = functional_call(self.model.encoder, f, (images,))
        self.seen = h.detach()
        return h

    def adapt_all(self, shown: Tensor, asked: Tensor, labels: Tensor, steps: int) -> Tensor:
        """MAML, by steps of gradient descent; Reptile's test, by steps of its Adam. Both adapt f and g."""
        (f, g), squares = self.weights(), None
        second = self.training and self.config.method == "maml"
        for step in range(steps):
            loss = cross_entropy(linear(self.features(f, shown, len(shown), moving=step == 0), **g), labels)
            gradients = torch.autograd.grad(loss, [*f.values(), *g.values()], create_graph=second)
            if self.config.method == "reptile":
                gradients, squares = _adam(gradients, squares, step)
            f, g = _stepped(f, g, gradients, self.config.inner_learning_rate)
        return linear(self.features(f, torch.cat([shown, asked]), len(shown))[len(shown) :], **g)

    def adapt_head(self, shown: Tensor, asked: Tensor, labels: Tensor, steps: int) -> Tensor:
        """ANIL: the features of f as it is, and steps of g alone."""
        f, g = self.weights()
        h = self.features(f, torch.cat([shown, asked]), len(shown), moving=True)
        for _ in range(steps):
            loss = cross_entropy(linear(h[: len(shown)], **g), labels)
            gradients = torch.autograd.grad(loss, list(g.values()), create_graph=self.training)
            _, g = _stepped({}, g, gradients, self.config.inner_learning_rate)
        return linear(h[len(shown) :], **g)

    def reptile(self, episode: Tensor, order: Tensor | None) -> Tensor:
        """A scalar whose value is the loss of the last inner step, and whose gradient is start - end of the inner steps
        (equation 7 of the paper up to the step): plain gradient descent on it moves the start towards the end."""
        images, labels = episode.flatten(0, 1), _labels(episode)
        steps = [torch.arange(len(images))] * self.config.inner_steps if order is None else order
        starts = [*self.model.encoder.parameters(), *self.head.parameters()]
        f, g = (
            {name: weight.detach().clone().requires_grad_() for name, weight in part.named_parameters()}
            for part in (self.model.encoder, self.head)
        )
        squares, loss = None, images.new_zeros(())
        with torch.enable_grad():
            for step, some in enumerate(steps):
                h = self.features(f, images[some], len(some), moving=step == 0)
                loss = cross_entropy(linear(h, **g), labels[some])
                gradients, squares = _adam(torch.autograd.grad(loss, [*f.values(), *g.values()]), squares, step)
                f, g = _stepped(f, g, gradients, self.config.inner_learning_rate)
                f, g = ({name: w.detach().requires_grad_() for name, w in part.items()} for part in (f, g))
        ends = [*f.values(), *g.values()]
        towards = sum((a - b.detach()).square().sum() / 2 for a, b in zip(starts, ends, strict=True))
        return towards - towards.detach() + loss.detach()


def _labels(images: Tensor) -> Tensor:
    """(N k,) 0, 0, …, 1, …, of images (N, k, …)."""
    return torch.arange(len(images), device=images.device).repeat_interleave(images.shape[1])


def _stepped(f: Weights, g: Weights, gradients: list[Tensor], rate: float) -> tuple[Weights, Weights]:
    """Both after a step of gradient descent."""
    moved = iter(gradients)
    f, g = ({name: weight - rate * next(moved) for name, weight in part.items()} for part in (f, g))
    return f, g


def _adam(gradients: list[Tensor], squares: list[Tensor] | None, step: int) -> tuple[list[Tensor], list[Tensor]]:
    """The directions of Adam without first momentum, and its running squares."""
    squares = squares or [torch.zeros_like(gradient) for gradient in gradients]
    squares = [SQUARES * s + (1 - SQUARES) * g.square() for s, g in zip(squares, gradients, strict=True)]
    grown = 1 - SQUARES ** (step + 1)
    return [g / ((s / grown).sqrt() + SMALL) for g, s in zip(gradients, squares, strict=True)], squares


__all__ = ["MAMLForPreTraining", "MAMLModel", "normalised_by"]
