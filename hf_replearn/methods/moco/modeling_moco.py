"""MoCo, momentum contrast: the student's query finds the teacher's key of the other view of its image among others.

Version 2 (He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297): among keys of earlier batches, in a
queue. Version 3 (Chen et al. 2021, arXiv:2104.02057): among the keys of the batch, over all processes.

B images of this process, N images of all processes, P projected features, K keys in the queue
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from hf_replearn.methods.trunk import ImageEncoder, Projector, TeacherForPreTraining, first_row, gather_detached

from .configuration_moco import MoCoConfig


def moco_v2(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE: -log of the share of the positive among it and the queue (He et al. 2020, equation 1).

    The mean over both views as queries, where the paper takes the first alone. No gradient reaches keys and queue.
    Computed in float32 whatever the autocast. The mean of the processes' losses is that of all images.

    queries, keys: (B, 2, P), row b of both from image b. queue: (K, P), of no image in this batch, normalised.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (normalize(x.float(), dim=-1) for x in (queries, keys.detach().flip(1)))  # (B, 2, P)
        positives = (q * k).sum(-1, keepdim=True)  # (B, 2, 1)
        negatives = q @ queue.clone().T  # (B, 2, K); the queue goes on before the gradient is taken
        logits = torch.cat([positives, negatives], -1).flatten(0, 1) / temperature
        return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


def moco_v3(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of each view's queries with the keys of the other view of all images, 2 * temperature * cross entropy,
    the sum of both views (Chen et al. 2021, algorithm 1).

    No gradient reaches the keys. Computed in float32 whatever the autocast. The mean of the processes' losses is that
    of all images.

    queries, keys: (B, 2, P), the same B in every process, row b of both from image b.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (normalize(x.float(), dim=-1) for x in (queries, keys.detach().flip(1)))  # (B, 2, P)
        logits = torch.einsum("bvp,nvp->vbn", q, gather_detached(k)) / temperature  # (2, B, N)
        own = torch.arange(len(q), device=q.device) + first_row(q)
        return 2 * temperature * sum(cross_entropy(of_view, own) for of_view in logits)


@torch.no_grad()
def enqueue(queue: Tensor, oldest: Tensor, keys: Tensor) -> None:
    """Puts the keys (B, 2, P) of all processes, normalised, in the place of the oldest of the queue (K, P), and counts
    `oldest` (), the row of these, on. Any K will do: the end of the queue is followed by its beginning."""
    size = len(queue)
    new = gather_detached(normalize(keys.float(), dim=-1)).flatten(0, 1)[-size:]  # (2N, P)
    rows = (oldest + torch.arange(len(new), device=queue.device)) % size
    queue.index_copy_(0, rows, new)
    oldest.copy_((oldest + len(new)) % size)


class MoCoModel(ImageEncoder):
    config_class = MoCoConfig


class MoCoForPreTraining(TeacherForPreTraining):
    """Encoder f with projection head g and, in version 3, a predictor; a teacher of f and g; in version 2 a queue of
    the teacher's keys. f of the student is kept."""

    config_class = MoCoConfig

    def __init__(self, config: MoCoConfig):
        super().__init__(config)
        width = config.projection_dim
        if config.version == 3:
            self.predictor = Projector(width, config.predictor_hidden, width, layers=2)
        else:
            self.register_buffer("queue", normalize(torch.randn(config.queue_size, width), dim=1))
            self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    def make_projection(self, features: int) -> nn.Module:
        """Version 2 is without batch normalisation; version 3 has it after the last layer too."""
        hidden, width = self.config.projection_hidden, self.config.projection_dim
        if self.config.version == 2:
            return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, width))
        return Projector(features, hidden, width, layers=self.config.projection_layers, last_norm="plain")

    def objective(self, projections: Tensor, targets: Tensor) -> Tensor:
        """The loss () of the student's projections and the teacher's keys, both (B, 2, P). In training the queue then
        takes the keys in, as batch normalisation takes in its statistics."""
        if self.config.version == 3:
            queries = self.predictor(projections.flatten(0, 1)).view_as(projections)
            return moco_v3(queries, targets, self.config.temperature)
        loss = moco_v2(projections, targets, self.queue, self.config.temperature)
        if self.training:
            enqueue(self.queue, self.oldest, targets)
        return loss

    def momentum(self, progress: float) -> float:
        """Of the teacher: along a cosine from the first to the final one."""
        first, final = self.config.momentum, self.config.final_momentum
        return final - (final - first) * (1 + math.cos(math.pi * progress)) / 2


__all__ = ["MoCoForPreTraining", "MoCoModel", "enqueue", "moco_v2", "moco_v3"]
