"""The hinge between training and evaluation: an encoder and a dataset go in, Features come out.

N examples, D features, C classes
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from hf_replearn.data.decoding import centre_crop, picture_of
from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.pooling import Pooling

__all__ = [
    "Features", "ImagePreprocessor", "Pooling", "ProcessorInputs", "extract", "extract_once", "fingerprint",
    "labels_of", "pca", "split_layers", "tfidf",
]  # fmt: skip

FINGERPRINT = 1  # raised when the same weights, rows and preprocessing come to give other features


@dataclass(frozen=True)
class Features:
    """What every evaluator sees.

    x:      (N, D) float32 on the CPU.
    labels: (N,) int64 class numbers, or (N, C) int8 for multi-label data (1 present, 0 absent, -1 to be ignored),
            or (N,) float32 numbers to regress on, or None when the data has no labels.
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
        crops = [centre_crop(picture_of(row), self.size, crop_pct=self.crop_pct) for row in examples]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (torch.stack(crops).float() / 255 - mean) / std


def split_layers(features: Features, widths: Sequence[int]) -> list[Features]:
    """The layers that lie beside one another in features (N, D0 + D1 + …), `widths` wide."""
    return [Features(x, features.labels) for x in features.x.split(list(widths), dim=1)]


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
    batches = _encoded(encode, dataset, preprocess, batch_size, num_workers, progress)
    return Features(torch.cat(list(batches)), labels_of(dataset))


@torch.no_grad()
def _encoded(encode, dataset, preprocess, batch_size: int, num_workers: int, progress: str | None):
    """The features of one batch after the other, (B, D) float32 on the CPU."""
    from tqdm import tqdm

    module = encode if isinstance(encode, nn.Module) else nn.Identity()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    loader = torch.utils.data.DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=preprocess)
    for batch in tqdm(loader, desc=progress, disable=progress is None, leave=False):
        yield encode(batch.to(device)).flatten(1).float().cpu()
    module.train(was_training)


def extract_once(
    encode: nn.Module,
    dataset,
    *,
    preprocess: Callable[[Sequence[dict]], Tensor],
    cache: Path,
    batch_size: int = 256,
    num_workers: int = 0,
    progress: str | None = None,
) -> Features:
    """As `extract`, but what was computed before is read from the folder `cache`, and mapped into memory from there, so
    that features may be larger than it.

    The file is found by `fingerprint`: other weights, rows or preprocessing are another file. Where torch.distributed
    is at work, all processes call this, each computes its part of the rows, and all get the whole; `cache` must be a
    folder that they share.
    """
    path = Path(cache, f"features-{fingerprint(encode, dataset, preprocess=preprocess)}.npy")
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    known, number = path.exists(), os.getpid()
    if processes > 1:  # what the first process sees holds for all
        seen = torch.tensor([known, number], device=next(encode.parameters()).device)
        dist.broadcast(seen, 0)
        known, number = seen.tolist()
    if not known:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{number}.part")
        share = -(-len(dataset) // processes)
        start, end = (min(place * share, len(dataset)) for place in (rank, rank + 1))
        mine = dataset if processes == 1 else dataset.select(range(start, end))
        batches = _encoded(encode, mine, preprocess, batch_size, num_workers, None if rank else progress)
        if rank == 0:
            batch = next(batches)
            batches = itertools.chain([batch], batches)
            np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(len(dataset), batch.shape[1]))
        _wait(processes)  # until there is a file to write into
        x = np.lib.format.open_memmap(partial, mode="r+")
        for batch in batches:
            x[start : start + len(batch)] = batch.numpy()
            start += len(batch)
        x.flush()
        _wait(processes)
        if rank == 0:
            partial.replace(path)  # a file under this name is whole
        _wait(processes)
    return Features(torch.from_numpy(np.load(path, mmap_mode="c")), labels_of(dataset))


def _wait(processes: int) -> None:
    if processes > 1:
        dist.barrier()


def fingerprint(encode: nn.Module, dataset, *, preprocess: Callable[[Sequence[dict]], Tensor]) -> str:
    """Of all that features depend on: the weights and structure of the encoder, the rows of the dataset with the bytes
    of their image files, and the preprocessing, by its settings and what it makes of the first rows."""
    digest = hashlib.sha256(f"{FINGERPRINT} {encode!r} {preprocess!r}".encode())
    config = getattr(getattr(encode, "encoder", encode), "config", None)
    digest.update(repr((config, getattr(encode, "how", None), getattr(encode, "all_layers", None))).encode())
    for name, tensor in encode.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    for row in dataset:
        image = row.get("image")
        if image is not None:
            digest.update(image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes())
        digest.update(repr([value for name, value in row.items() if name != "image"]).encode())
    first = preprocess([dataset[row] for row in range(min(4, len(dataset)))])
    for tensor in first.values() if hasattr(first, "values") and not isinstance(first, Tensor) else [first]:
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def labels_of(dataset) -> Tensor | None:
    """The `label` column as Features has it: class numbers, or an indicator matrix where it holds lists."""
    if "label" not in dataset.column_names:
        return None
    labels, feature = dataset["label"][:], dataset.features["label"]
    if not hasattr(feature, "feature"):
        return torch.tensor(labels)
    indicators = torch.zeros(len(dataset), feature.feature.num_classes, dtype=torch.int8)
    for row, present in enumerate(labels):
        indicators[row, present] = 1
    return indicators


def pca(known: Features, *parts: Features, components: int) -> list[Features]:
    """Each part on the first principal components of `known`, or all there are: the best linear autoencoder."""
    components = min(components, *known.x.shape)
    centre = known.x.mean(0)
    axes = _principal_axes(known.x - centre, components)
    return [Features((part.x - centre) @ axes, part.labels) for part in parts]


def _principal_axes(x: Tensor, count: int) -> Tensor:
    """The `count` eigenvectors of xᵀx (D, D) with the largest eigenvalues, from the smaller of xᵀx and xxᵀ: (D, count).

    x: (N, D). Directions in which it does not vary are 0.
    """
    if len(x) >= x.shape[1]:
        return torch.linalg.eigh(x.T @ x).eigenvectors.flip(-1)[:, :count]
    values, vectors = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(x @ x.T))
    lengths = values.clamp(min=0).sqrt()
    return x.T @ (vectors * torch.where(lengths > 1e-6 * lengths.max(), 1 / lengths, 0))


def tfidf(train, *others, terms: int = 2048) -> list[Features]:
    """TF-IDF of the most frequent words and pairs of words of the training texts: rows of norm 1, (N, terms).

    train, others: datasets with `text` and maybe `text_pair`; a pair is both vectors and their product, (N, 3 · terms).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = [name for name in ("text", "text_pair") if name in train.column_names]
    bag = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]", max_features=terms, dtype=np.float32
    )
    bag.fit([text for name in columns for text in train[name][:]])
    found = []
    for part in (train, *others):
        vectors = [torch.from_numpy(bag.transform(part[name][:]).toarray()) for name in columns]
        vectors += [vectors[0] * vectors[1]] if len(vectors) == 2 else []
        found.append(Features(torch.cat(vectors, dim=1), labels_of(part)))
    return found
