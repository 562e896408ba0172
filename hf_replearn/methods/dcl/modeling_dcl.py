"""DCL (Yeh et al. 2022, arXiv:2110.06848): SimCLR whose positive pair does not stand among the negatives.

B images of this process, N images of all processes, P projected features
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining, gather

from .configuration_dcl import DCLConfig


def dcl(projections: Tensor, temperature: float, *, chunk: int = 1024) -> Tensor:
    """The decoupled contrastive loss (equation 6), mean over the 2N views of all processes.

    A view's loss is log of the sum of exp(cosine / temperature) with the 2N - 2 views of other images, in one sum, less
    its cosine / temperature with the other view of its image: NT-Xent plus log(1 - p), p the probability that NT-Xent
    gives the positive. So it can be negative, and its gradient does not fade as p grows.
    Computed in float32 whatever the autocast, `chunk` rows at a time, so that memory is O(N * chunk).

    projections: (B, 2, P), the same B in every process; normalised here. Raises ValueError when N is 1.
    """
    with torch.autocast(projections.device.type, enabled=False):
        z = nn.functional.normalize(gather(projections.float()), dim=-1)  # (N, 2, P)
        if len(z) < 2:
            raise ValueError("a batch of one image has no negatives")
        first, second = z.unbind(1)
        rows = z.flatten(0, 1)  # (2N, P)
        sums = [
            checkpoint(_log_sums, rows, start, start + chunk, temperature, use_reentrant=False)
            for start in range(0, len(rows), chunk)
        ]
        return sum(sums) / len(rows) - (first * second).sum(-1).mean() / temperature


def _log_sums(rows: Tensor, start: int, stop: int, temperature: float) -> Tensor:
    """Log of the sum over views of other images, summed over the rows from `start` to before `stop`. Scalar."""
    image = torch.arange(len(rows), device=rows.device) // 2
    own = image[start:stop, None] == image  # (n, 2N)
    return (rows[start:stop] @ rows.T / temperature).masked_fill(own, -torch.inf).logsumexp(1).sum()


class DCLModel(ImageEncoder):
    config_class = DCLConfig


class DCLForPreTraining(TwoViewsForPreTraining):
    """Encoder f and projection head g under DCL; every layer of g is batch-normalised, as SimCLR's."""

    config_class = DCLConfig

    def make_projection(self, features: int) -> nn.Module:
        """g(h) = W2 relu(W1 h)."""
        width, layers = self.config.projection_dim, self.config.projection_layers
        return Projector(features, features, width, layers=layers, last_norm="affine")

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, 2, P)."""
        return dcl(projections, self.config.temperature)


__all__ = ["DCLForPreTraining", "DCLModel", "dcl"]
