"""SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of an image attract, views of other images repel.

B images of this process, N images of all processes, V = 2 views, M = 2B rows, D features, P projected features
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining, first_row, gather_detached

from .configuration_simclr import SimCLRConfig


def nt_xent(projections: Tensor, temperature: float, *, chunk: int = 512) -> Tensor:
    """NT-Xent, the normalised temperature-scaled cross entropy (Chen et al. 2020, equation 1 and Algorithm 1).

    Every view has one positive, the other view of its image, and 2N - 2 negatives: all other views of all processes.
    Computed in float32 whatever the autocast, `chunk` rows at a time, so that memory is O(N * chunk).

    projections: (B, 2, P), the same B in every process; normalised here.
    Returns the mean over the 2B rows of this process. Its mean over the processes is equation 1 on the concatenated
    batch, and so is its gradient once DistributedDataParallel has averaged it.
    """
    if projections.ndim != 3 or projections.shape[1] != 2:
        raise ValueError(f"projections must be (B, 2, P), got {tuple(projections.shape)}")
    with torch.autocast(projections.device.type, enabled=False):
        return _NTXent.apply(nn.functional.normalize(projections.float(), dim=-1), temperature, chunk)


class _NTXent(torch.autograd.Function):
    """Cosines are at most 1, so exp((s - 1) / temperature) never overflows and one pass gives the row sums r.

    With e_ij = exp((s_ij - 1) / t) and e_ii = 0, the loss of row i is log r_i + (1 - s_i,positive) / t. Row i also
    stands in the sums of all other rows, in other processes too. As e is symmetric, gathering r once is enough:
    d(loss of all rows) / d z_i = (sum_j e_ij (1 / r_i + 1 / r_j) z_j - 2 z_positive) / t, without any reduction of
    gradients across processes.
    """

    @staticmethod
    def forward(ctx, z: Tensor, temperature: float, chunk: int) -> Tensor:
        rows, everyone = z.flatten(0, 1), gather_detached(z.flatten(0, 1))  # (M, P), (2N, P)
        sums = torch.cat([e.sum(1) for _, e in _similarities(rows, everyone, temperature, chunk)])  # (M,)
        ctx.save_for_backward(z, everyone, sums)
        ctx.temperature, ctx.chunk = temperature, chunk
        positives = (z[:, 0] * z[:, 1]).sum(-1)  # (B,)
        return sums.log().mean() + (1 - positives.mean()) / temperature

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor, None, None]:
        z, everyone, sums = ctx.saved_tensors
        rows, reciprocal = z.flatten(0, 1), 1 / gather_detached(sums)  # (M, P), (2N,)
        grad = torch.empty_like(rows)
        for part, e in _similarities(rows, everyone, ctx.temperature, ctx.chunk):
            grad[part] = e.mul_(reciprocal + 1 / sums[part, None]) @ everyone
        grad = grad.view_as(z) - 2 * z.flip(1)
        return grad * (grad_loss / (len(rows) * ctx.temperature)), None, None


def _similarities(rows: Tensor, everyone: Tensor, temperature: float, chunk: int):
    """Yields (slice of rows, e = exp((cosine - 1) / temperature) of these rows with all), zero with themselves."""
    first = first_row(rows)
    shift = rows.new_full((), -1 / temperature)
    for start in range(0, len(rows), chunk):
        part = slice(start, min(start + chunk, len(rows)))
        e = torch.addmm(shift, rows[part], everyone.T, alpha=1 / temperature).exp_()  # (chunk, 2N)
        e.diagonal(first + start).zero_()
        yield part, e


class SimCLRModel(ImageEncoder):
    config_class = SimCLRConfig


class SimCLRForPreTraining(TwoViewsForPreTraining):
    """Encoder f and projection head g under NT-Xent. Every layer of g is batch-normalised, as in the authors' code."""

    config_class = SimCLRConfig

    def make_projection(self, features: int) -> nn.Module:
        """g(h) = W2 relu(W1 h)."""
        width, layers = self.config.projection_dim, self.config.projection_layers
        return Projector(features, features, width, layers=layers, last_norm="affine")

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss of a whole batch from its projections (B, 2, P), for gradients cached batch by batch."""
        return nt_xent(projections, self.config.temperature)


__all__ = ["SimCLRForPreTraining", "SimCLRModel", "nt_xent"]
