"""CPC (van den Oord et al. 2018, arXiv:1807.03748; version 2, Hénaff et al. 2020, arXiv:1905.09272): from the patches
above, which of all patches is the one further below?

B images of this process, R rows and S columns of patches, N = B R S patches, D features, P projected features
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu
from torch.utils.checkpoint import checkpoint

from hf_replearn.methods.trunk import BATCH_NORMS, ImageEncoder, ImageForPreTraining, TwoViewsOutput

from .configuration_cpc import CPCConfig

SCALE = 0.1  # of predictions (version 2, appendix A.2): the loss starts near that of chance
TURNS = {"one": (0,), "two": (0, 2), "four": (0, 1, 2, 3)}  # quarter turns after which a direction is downwards


def info_nce(predictions: Tensor, candidates: Tensor, right: Tensor) -> Tensor:
    """Cross entropy in nats of telling the right candidate from all others (equation 4); ln N at chance, and never
    below ln N less the mutual information of context and candidate.

    predictions: (M, P). candidates: (N, P). right: (M,), the number of the right candidate of each.
    """
    return cross_entropy(predictions.float() @ candidates.float().T, right)


class MaskedBlock(nn.Module):
    """Three convolutions and what came in: of a place it sees the row itself and the one above, one column either way.
    There is no normalisation: it would mix places, or images."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.narrow = nn.Conv2d(features, hidden, 1)
        self.across = nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1))
        self.above = nn.Conv2d(hidden, hidden, (2, 1))
        self.wide = nn.Conv2d(hidden, features, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, D, R, S) -> (B, D, R, S)"""
        inner = self.across(relu(self.narrow(maps)))
        return maps + self.wide(relu(self.above(pad(inner, (0, 0, 1, 0)))))  # a row of zeros above the first


class Direction(nn.Module):
    """What tells patches further below from those above: a context network, a linear map for each distance, and one of
    the candidates. A sequence is a grid of one column."""

    def __init__(self, features: int, config: CPCConfig):
        super().__init__()
        self.ahead = range(config.nearest, config.farthest + 1)
        blocks = (MaskedBlock(features, config.context_hidden) for _ in range(config.context_layers))
        self.context = nn.Sequential(*blocks, nn.ReLU())
        self.predict = nn.Conv2d(features, len(self.ahead) * config.projection_dim, 1)
        self.project = nn.Conv2d(features, config.projection_dim, 1)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """patches: (B, D, R, S). Returns predictions (M, P), candidates (B R S, P) in the order of images, rows and
        columns, and the number (M,) of the right one. Predictions are in the order of distance, image, row and column;
        distances beyond the grid have none."""
        images, _, rows, columns = patches.shape
        candidates = self.project(patches).permute(0, 2, 3, 1).flatten(0, 2)
        numbers = torch.arange(len(candidates), device=patches.device).view(images, rows, columns)
        told = self.predict(self.context(patches)).unflatten(1, (len(self.ahead), -1)).mul(SCALE)
        predictions, right = [], []
        for place, distance in enumerate(self.ahead[: max(rows - self.ahead.start, 0)]):
            predictions.append(told[:, place, :, : rows - distance].permute(0, 2, 3, 1).flatten(0, 2))
            right.append(numbers[:, distance:].flatten())
        return torch.cat(predictions), candidates, torch.cat(right)

    def loss(self, patches: Tensor) -> Tensor:
        """() of patches (B, D, R, S). The M N products are not kept for the gradient but made again."""
        return checkpoint(info_nce, *self(patches), use_reentrant=False)


class CPCModel(ImageEncoder):
    config_class = CPCConfig


class CPCForPreTraining(ImageForPreTraining):
    """Encoder f, which sees each patch by itself, and a head g of each direction."""

    config_class = CPCConfig

    def __init__(self, config: CPCConfig):
        super().__init__(config)
        if any(isinstance(module, BATCH_NORMS) for module in self.model.modules()):
            raise ValueError(
                "it has batch normalisation, by which patches tell of one another; a ResNet without: --backbone_args "
                "\"{'norm_layer': 'groupnorm1'}\""
            )
        features = self.model.features
        self.directions = nn.ModuleList(Direction(features, config) for _ in TURNS[config.directions])
        self.post_init()

    def grid(self, pooled: Tensor) -> Tensor:
        """(B, R R, D) -> (B, D, R, R)"""
        return pooled.mT.unflatten(2, (math.isqrt(pooled.shape[1]),) * 2)

    def forward(self, pixel_values: Tensor, return_loss: bool = True) -> TwoViewsOutput:
        """pixel_values: (B, R R, C, h, w), normalised patches of a square grid, row by row; features are theirs,
        (B, R R, D)."""
        pooled = self.model(pixel_values.flatten(0, 1)).pooler_output.unflatten(0, pixel_values.shape[:2])
        if not return_loss:
            return TwoViewsOutput(pooler_output=pooled)
        patches = self.grid(pooled)
        turned = zip(self.directions, TURNS[self.config.directions], strict=True)
        losses = [direction.loss(patches.rot90(turns, (2, 3))) for direction, turns in turned]
        return TwoViewsOutput(loss=torch.stack(losses).mean(), pooler_output=pooled)


__all__ = ["CPCForPreTraining", "CPCModel", "Direction", "info_nce"]
