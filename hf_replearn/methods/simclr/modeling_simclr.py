"""SimCLR (Chen et al. 2020, arXiv:2002.05709): two views of an image attract, views of other images repel.

B images of this process, N images of all processes, V = 2 views, M = 2B rows, D features, P projected features
"""

from dataclasses import dataclass

import timm
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

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
        rows, everyone = z.flatten(0, 1), _gather(z.flatten(0, 1))  # (M, P), (2N, P)
        sums = torch.cat([e.sum(1) for _, e in _similarities(rows, everyone, temperature, chunk)])  # (M,)
        ctx.save_for_backward(z, everyone, sums)
        ctx.temperature, ctx.chunk = temperature, chunk
        positives = (z[:, 0] * z[:, 1]).sum(-1)  # (B,)
        return sums.log().mean() + (1 - positives.mean()) / temperature

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor, None, None]:
        z, everyone, sums = ctx.saved_tensors
        rows, reciprocal = z.flatten(0, 1), 1 / _gather(sums)  # (M, P), (2N,)
        grad = torch.empty_like(rows)
        for part, e in _similarities(rows, everyone, ctx.temperature, ctx.chunk):
            grad[part] = e.mul_(reciprocal + 1 / sums[part, None]) @ everyone
        grad = grad.view_as(z) - 2 * z.flip(1)
        return grad * (grad_loss / (len(rows) * ctx.temperature)), None, None


def _similarities(rows: Tensor, everyone: Tensor, temperature: float, chunk: int):
    """Yields (slice of rows, e = exp((cosine - 1) / temperature) of these rows with all), zero with themselves."""
    first = len(rows) * (dist.get_rank() if dist.is_initialized() else 0)
    shift = rows.new_tensor(-1 / temperature)
    for start in range(0, len(rows), chunk):
        part = slice(start, min(start + chunk, len(rows)))
        e = torch.addmm(shift, rows[part], everyone.T, alpha=1 / temperature).exp_()  # (chunk, 2N)
        e.diagonal(first + start).zero_()
        yield part, e


def _gather(x: Tensor) -> Tensor:
    """Concatenates x of all processes along its first dimension, in the order of the ranks."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    gathered = x.new_empty(dist.get_world_size() * len(x), *x.shape[1:])
    dist.all_gather_into_tensor(gathered, x.contiguous())
    return gathered


class ProjectionHead(nn.Sequential):
    """g(h) = W2 relu(W1 h), each layer batch-normalised as in the authors' code. (B, D) -> (B, P)"""

    def __init__(self, features: int, projected: int, layers: int):
        modules: list[nn.Module] = []
        for _ in range(layers - 1):
            modules += [nn.Linear(features, features, bias=False), nn.BatchNorm1d(features), nn.ReLU()]
        super().__init__(*modules, nn.Linear(features, projected, bias=False), nn.BatchNorm1d(projected))


@dataclass
class SimCLROutput(ModelOutput):
    """loss: () NT-Xent, absent with `return_loss=False`. projections: (B, V, P). pooler_output: (B, V, D)."""

    loss: Tensor | None = None
    projections: Tensor | None = None
    pooler_output: Tensor | None = None


class SimCLRPreTrainedModel(PreTrainedModel):
    config: SimCLRConfig
    config_class = SimCLRConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """timm initialises its own networks; here are only the head and the buffers that no checkpoint holds."""
        if isinstance(module, ProjectionHead):
            for layer in module:
                if isinstance(layer, nn.Linear):
                    init.kaiming_uniform_(layer.weight, a=5**0.5)
        elif hasattr(module, "init_non_persistent_buffers"):  # timm's protocol for models made on the meta device
            module.init_non_persistent_buffers()


class SimCLRModel(SimCLRPreTrainedModel):
    """The encoder f: images to representations."""

    def __init__(self, config: SimCLRConfig):
        super().__init__(config)
        self.encoder = timm.create_model(config.backbone, num_classes=0, **(config.backbone_args or {}))
        if config.stem == "cifar":
            width, channels = self.encoder.conv1.weight.shape[:2]
            self.encoder.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(self.encoder.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm's ResNet
            self.encoder.maxpool = nn.Identity()
        self.post_init()

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """pixel_values: (B, C, H, W), normalised. Returns pooler_output: (B, D)."""
        return BaseModelOutputWithPooling(pooler_output=self.encoder(pixel_values))


class SimCLRForPreTraining(SimCLRPreTrainedModel):
    """Encoder f and projection head g under NT-Xent; g is thrown away after pretraining."""

    accepts_loss_kwargs = False  # the loss is a mean over this batch: Trainer has no item count to pass

    def __init__(self, config: SimCLRConfig):
        super().__init__(config)
        self.model = SimCLRModel(config)
        features = getattr(self.model.encoder, "head_hidden_size", self.model.encoder.num_features)
        self.projection = ProjectionHead(features, config.projection_dim, config.projection_layers)
        self.post_init()

    def forward(self, pixel_values: Tensor, return_loss: bool = True) -> SimCLROutput:
        """pixel_values: (B, 2, C, H, W), normalised. Both views of all images go through f and g in one pass."""
        images, views = pixel_values.shape[:2]
        h = self.model(pixel_values.transpose(0, 1).flatten(0, 1)).pooler_output  # (V * B, D)
        z = self.projection(h)
        h, z = (x.unflatten(0, (views, images)).transpose(0, 1) for x in (h, z))  # (B, V, D), (B, V, P)
        return SimCLROutput(loss=self.objective(z) if return_loss else None, projections=z, pooler_output=h)

    def objective(self, projections: Tensor) -> Tensor:
        """The loss of a whole batch from its projections (B, 2, P), for gradients cached batch by batch."""
        return nt_xent(projections, self.config.temperature)


__all__ = ["SimCLRForPreTraining", "SimCLRModel", "nt_xent"]
