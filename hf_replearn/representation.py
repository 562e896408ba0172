"""The hinge between training and evaluation: an encoder and a dataset go in, Features come out.

N examples, D features, C classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_replearn.data.images import centre_crop, decode_rgb


@dataclass(frozen=True)
class Features:
    """What every evaluator sees.

    x:      (N, D) float32 on the CPU.
    labels: (N,) int64 class numbers, or (N, C) int8 for multi-label data (1 present, 0 absent, -1 to be ignored),
            or None when the data has no labels.
    """

    x: Tensor
    labels: Tensor | None = None

    def __post_init__(self):
        if self.x.ndim != 2:
            raise ValueError(f"features must be (N, D), got {tuple(self.x.shape)}")
        if self.labels is not None and len(self.labels) != len(self.x):
            raise ValueError(f"{len(self.x)} features but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> Features:
        return Features(self.x[rows], None if self.labels is None else self.labels[rows])


@dataclass(frozen=True)
class ImagePreprocessor:
    """Rows with an `image` column -> (B, 3, size, size), normalised: what the exported encoder's own processor does."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0

    def __call__(self, examples: Sequence[dict]) -> Tensor:
        crops = [centre_crop(decode_rgb(row["image"]), self.size, crop_pct=self.crop_pct) for row in examples]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (torch.stack(crops).float() / 255 - mean) / std


@torch.no_grad()
def extract(
    encode: Callable[[Tensor], Tensor],
    dataset,
    *,
    preprocess: Callable[[Sequence[dict]], Tensor],
    batch_size: int = 256,
    num_workers: int = 0,
    progress: str | None = None,
) -> Features:
    """The representation of every row of `dataset`, in its order.

    encode:     (B, ...) -> (B, D); a module is put into evaluation mode, and left as it was found.
    preprocess: rows -> the encoder's input, in the loader's processes.
    progress:   text of a progress bar; None: no bar.
    """
    from tqdm import tqdm

    module = encode if isinstance(encode, nn.Module) else nn.Identity()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    loader = torch.utils.data.DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=preprocess)
    batches = tqdm(loader, desc=progress, disable=progress is None, leave=False)
    x = torch.cat([encode(batch.to(device)).flatten(1).float().cpu() for batch in batches])
    module.train(was_training)
    return Features(x, labels_of(dataset))


def labels_of(dataset) -> Tensor | None:
    """The `label` column as Features has it: class numbers, or an indicator matrix where it holds lists."""
    if "label" not in dataset.column_names:
        return None
    labels, feature = dataset["label"], dataset.features["label"]
    if not hasattr(feature, "feature"):
        return torch.tensor(labels)
    indicators = torch.zeros(len(dataset), feature.feature.num_classes, dtype=torch.int8)
    for row, present in enumerate(labels):
        indicators[row, present] = 1
    return indicators


def pca(train: Features, test: Features, *, components: int) -> tuple[Features, Features]:
    """The first principal components of the training features, or all there are: the best linear autoencoder."""
    components = min(components, *train.x.shape)
    centre = train.x.mean(0)
    eigenvectors = torch.linalg.eigh(torch.cov(train.x.T)).eigenvectors.flip(-1)[:, :components]  # (D, components)
    return tuple(Features((part.x - centre) @ eigenvectors, part.labels) for part in (train, test))
