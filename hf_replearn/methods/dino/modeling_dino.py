"""DINO (Caron et al. 2021, arXiv:2104.14294): of every crop, small ones too, the student tells how the teacher, its own
running mean, distributes the large crops of the image among prototypes.

B images of this process, N images of all processes, V crops, the first two of them large, K prototypes
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from hf_replearn.methods.trunk import ImageEncoder, TeacherForPreTraining, gather_detached

from .configuration_dino import DINOConfig


def dino(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the student's distribution over the prototypes under the teacher's, the mean over all pairs of
    one of the two large crops and another crop of the image (equation 3).

    Computed in float32 whatever the autocast. The mean of the processes' losses is that of all images.

    logits: (B, V, K), the student's. targets: (B, 2, K), the teacher's distributions of the first two crops.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_p = (logits.float() / temperature).log_softmax(-1)
        all_pairs = (targets.sum(1) * log_p.sum(1)).sum(-1)  # (B,), with the pairs of a crop and itself
        same = (targets * log_p[:, :2]).sum((1, 2))
        return (same - all_pairs).mean() / (2 * (logits.shape[1] - 1))


def centred(logits: Tensor, centre: Tensor, temperature: Tensor | float) -> Tensor:
    """The teacher's distributions over the prototypes, each prototype's running mean taken off: none of them wins all
    images (equation 1 and algorithm 1). logits: (B, 2, K). centre: (K,)."""
    return ((logits.float() - centre) / temperature).softmax(-1)


def sinkhorn(logits: Tensor, temperature: Tensor | float, *, iterations: int = 3) -> Tensor:
    """The teacher's distributions over the prototypes, of which over all processes each gets nearly the same share
    (Sinkhorn-Knopp; Caron et al. 2020, arXiv:2006.09882, section 3). Each sums to 1. logits: (B, 2, K)."""
    log_q = (logits.float() / temperature).flatten(0, 1)  # (2B, K)
    for _ in range(iterations):
        log_q = log_q - gather_detached(log_q.logsumexp(0, keepdim=True)).logsumexp(0)  # each prototype sums to 1
        log_q = log_q - log_q.logsumexp(1, keepdim=True)  # each crop sums to 1
    return log_q.exp().view_as(logits)


class DINOHead(nn.Module):
    """g: three linear layers to 256 numbers, then their cosines with the prototypes: (B, D) -> (B, K).

    frozen: (), whether the prototypes take no gradient.
    """

    def __init__(self, features: int, config: DINOConfig):
        super().__init__()
        hidden, width = config.projection_hidden, 256
        first, second, third = nn.Linear(features, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, width)
        for layer in (first, second, third):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        norm = nn.BatchNorm1d if config.head_norm else nn.Identity
        self.mlp = nn.Sequential(first, norm(hidden), nn.GELU(), second, norm(hidden), nn.GELU(), third)
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, width))
        self.register_buffer("frozen", torch.tensor(config.frozen_share > 0))

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, D)."""
        weight = self.prototypes.detach()
        weight = (
            weight + (self.prototypes - weight) * ~self.frozen
        )  # a gradient of 0: DistributedDataParallel wants one
        return linear(normalize(self.mlp(features).float(), dim=1), normalize(weight, dim=1))


class DINOModel(ImageEncoder):
    config_class = DINOConfig


class DINOForPreTraining(TeacherForPreTraining):
    """Encoder f and head g of the teacher, which are `model` and `projection` and what is kept, as in the paper; and of
    the student, which is trained.

    centre:              (K,), the running mean of what the teacher gives.
    teacher_temperature: (), that of the next step.
    """

    config_class = DINOConfig
    student, teacher = TeacherForPreTraining.teacher, TeacherForPreTraining.student

    def __init__(self, config: DINOConfig):
        super().__init__(config)
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("teacher_temperature", torch.tensor(self.temperature(0.0)))

    def make_projection(self, features: int) -> nn.Module:
        return DINOHead(features, self.config)

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """The loss () of the student's logits (B, V, K) and the teacher's (B, 2, K). In training the centre then moves
        on, as the running statistics of batch normalisation do."""
        if self.config.centring == "sinkhorn":
            told = sinkhorn(targets, self.teacher_temperature)
        else:
            told = centred(targets, self.centre, self.teacher_temperature)
            if self.training:
                mean = gather_detached(targets.float().mean((0, 1))[None]).mean(0)
                self.centre.lerp_(mean, 1 - self.config.centre_momentum)
        return dino(projections, told, self.config.student_temperature)

    def temperature(self, progress: float) -> float:
        """Of the teacher, when so much of the run is done, from 0 to 1."""
        config = self.config
        warm = min(progress / config.temperature_warmup, 1.0) if config.temperature_warmup else 1.0
        return config.warmup_temperature + warm * (config.teacher_temperature - config.warmup_temperature)

    def after_step(self, progress: float) -> None:
        """The teacher follows; its temperature rises; the student's prototypes may begin to learn."""
        self.student[1].frozen.fill_(progress < self.config.frozen_share)
        super().after_step(progress)
        self.teacher_temperature.fill_(self.temperature(progress))


__all__ = ["DINOForPreTraining", "DINOModel", "centred", "dino", "sinkhorn"]
