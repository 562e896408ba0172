"""SupCon (Khosla et al. 2020, arXiv:2004.11362): views of images of one class attract, those of other classes repel.

B images of this process, N images of all processes, P projected features
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining, gather

from .configuration_supcon import SupConConfig


def supcon(projections: Tensor, labels: Tensor, temperature: float, *, chunk: int = 1024) -> Tensor:
    """The supervised contrastive loss L_out (equation 2), mean over the 2N views of all processes.

    A view's loss is the mean, over all other views of its class, of the cross entropy of finding that one among the
    2N - 1 other views. With one image a class it is NT-Xent. The authors' code multiplies it by temperature / 0.07.
    Computed in float32 whatever the autocast, `chunk` rows at a time, so that memory is O(N * chunk).

    projections: (B, 2, P), the same B in every process; normalised here. labels: (B,) integers.
    """
    with torch.autocast(projections.device.type, enabled=False):
        z = nn.functional.normalize(gather(projections.float()), dim=-1)
        rows, label = z.flatten(0, 1), gather(labels).repeat_interleave(2)  # (2N, P), (2N,)
        losses = [
            checkpoint(_cross_entropies, rows, label, start, start + chunk, temperature, use_reentrant=False)
            for start in range(0, len(rows), chunk)
        ]
        return sum(losses) / len(rows)


def _cross_entropies(rows: Tensor, label: Tensor, start: int, stop: int, temperature: float) -> Tensor:
    """Summed over the rows from `start` to before `stop`. Scalar."""
    itself = torch.arange(len(rows), device=rows.device)[start:stop, None] == torch.arange(
        len(rows), device=rows.device
    )
    positive = (label[start:stop, None] == label) & ~itself
    logits = rows[start:stop] @ rows.T / temperature
    attraction = logits.where(positive, 0).sum(1) / positive.sum(1)
    return (logits.masked_fill(itself, -torch.inf).logsumexp(1) - attraction).sum()


class SupConModel(ImageEncoder):
    config_class = SupConConfig


class SupConForPreTraining(TwoViewsForPreTraining):
    """Encoder f and projection head g under SupCon, which needs the labels of the images."""

    config_class = SupConConfig

    def make_projection(self, features: int) -> nn.Module:
        """g(h) = W2 relu(W1 h)."""
        return Projector(features, self.config.projection_hidden, self.config.projection_dim, layers=2)

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, 2, P) and labels (B,)."""
        if labels is None:
            raise ValueError("SupCon needs labels, (B,) integers")
        return supcon(projections, labels, self.config.temperature)


__all__ = ["SupConForPreTraining", "SupConModel", "supcon"]
