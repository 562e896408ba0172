"""The hinge between training and evaluation: an encoder and a dataset go in, Features come out.

N examples, D features, C classes
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from datasets import Dataset
from torch import Tensor, nn

from hf_replearn.data.colours import lightness
from hf_replearn.data.decoding import bands_of, centre_crop, picture_of
from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.errors import InputError

__all__ = [
    "Features", "ImagePreprocessor", "Pooling", "ProcessorInputs", "extract", "extract_once", "fingerprint",
    "labels_of", "pca", "split_layers", "tfidf",
]  # fmt: skip

SEAL = hashlib.sha256().digest_size  # bytes behind the array in a file of features
FINGERPRINT = 3  # raised when the same weights, rows and preprocessing come to give other features


@dataclass(frozen=True)
class Features:
    """What every evaluator sees.

    x:      (N, D) float32 on the CPU; of tensors, arrays or lists of numbers of any type.
    labels: (N,) int64 class numbers, or (N, C) int8 for multi-label data (1 present, 0 absent, -1 to be ignored),
            or (N,) float32 numbers to regress on, or None when the data has no labels. Of class names (N,), their
            numbers.
    names:  of classes by number. None: of labels that are names these, in the order of the alphabet; else there are
            none. Where train and test do not have the same classes, both are given the same names.
    Raises InputError for what is neither, for other numbers of labels than features, for NaN in labels, and for NaN and
    infinity in arrays and lists; tensors, which may be read from a file as they are needed, every evaluator looks at.
    """

    x: Tensor
    labels: Tensor | None = None
    names: Sequence[str] | None = None

    def __post_init__(self):
        x = _tensor(self.x, "features")
        if x.ndim != 2:
            raise InputError(f"features must be (N, D), got {tuple(x.shape)}")
        if not isinstance(self.x, Tensor):
            _refuse_not_finite(x, "features")
        object.__setattr__(self, "x", x.to("cpu", torch.float32))
        if self.labels is None:
            return
        labels, names = _numbered(self.labels, self.names)
        labels = _as_labels(labels)
        if len(labels) != len(x):
            raise InputError(f"{len(x)} features but {len(labels)} labels")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> Features:
        return Features(self.x[rows], None if self.labels is None else self.labels[rows], self.names)


@dataclass(frozen=True)
class ImagePreprocessor:
    """Rows with an `image` column -> (B, C, size, size), normalised: what the exported encoder's own processor does.

    mean, std: of each of the C channels of the images, or one for all.
    lightness: whether they become their lightness alone, of which C is 1.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float = 1.0
    lightness: bool = False

    def __call__(self, examples: Sequence[dict]) -> Tensor:
        crop = partial(centre_crop, size=self.size, crop_pct=self.crop_pct)
        bands = (lambda row: [lightness(picture_of(row))]) if self.lightness else bands_of
        crops = [torch.cat(list(map(crop, bands(row)))) for row in examples]
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (torch.stack(crops).float() / 255 - mean) / std


def _tensor(numbers: Any, what: str) -> Tensor:
    """A tensor without gradient of whatever holds numbers."""
    if isinstance(numbers, Tensor):
        return numbers.detach()
    try:
        array = np.asarray(numbers)
    except ValueError as error:  # of lists
        raise InputError(f"{what} must be rows of one length: {' '.join(str(error).split())[:100]}") from error
    if array.dtype.kind not in "biuf":
        example = np.ravel(array)[0] if array.size else array
        raise InputError(
            f"{what} must be numbers, got {str(example)[:40]!r} (of classes, give their numbers: datasets' "
            "class_encode_column makes them of names)"
        )
    return torch.from_numpy(array.astype(np.int64) if array.dtype.kind == "u" else array)


def _refuse_not_finite(numbers: Tensor, what: str) -> None:
    """Raises InputError for NaN and infinity, naming the first row (N,) or (N, D) that has one."""
    rows = (~numbers.reshape(len(numbers), -1).isfinite()).any(dim=1).nonzero().flatten().tolist()
    if rows:
        raise InputError(f"{len(rows)} of {len(numbers)} {what} are NaN or infinite, first in row {rows[0]}")


def _numbered(labels: Any, names: Sequence[str] | None) -> tuple[Any, tuple[str, ...] | None]:
    """Class numbers of labels that are class names, and the names by number; other labels as they are."""
    names = None if names is None else tuple(names)
    if isinstance(labels, Tensor) or (isinstance(labels, np.ndarray) and labels.dtype.kind not in "USO"):
        return labels, names
    cells = np.asarray(labels, dtype=object)
    if cells.ndim != 1 or not any(isinstance(cell, str) for cell in cells):
        return labels, names
    for row, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell.strip():
            raise InputError(f"labels must be all numbers or all class names; that of row {row} is {cell!r:.40}")
    known = tuple(sorted(set(cells))) if names is None else names
    number = {name: place for place, name in enumerate(known)}
    if strange := sorted(set(cells) - set(known)):
        raise InputError(f"the label {strange[0]!r:.40} is none of the names {', '.join(known)[:80]}")
    return np.array([number[cell] for cell in cells], dtype=np.int64), known


def _as_labels(labels: Any) -> Tensor:
    """Labels as Features has them."""
    labels = _tensor(labels, "labels").cpu()
    if labels.ndim not in (1, 2):
        raise InputError(f"labels must be (N,), or (N, C) for several an example, got {tuple(labels.shape)}")
    if labels.ndim == 2:
        if labels.numel() and not ((labels >= -1) & (labels <= 1) & (labels == labels.round())).all():
            raise InputError("labels (N, C) say which of C classes an example has: 1, 0 or -1 (to be ignored)")
        return labels.to(torch.int8)
    if labels.is_floating_point():
        _refuse_not_finite(labels, "labels")
    return labels.float() if labels.is_floating_point() else labels.long()


def split_layers(features: Features, widths: Sequence[int]) -> list[Features]:
    """The layers that lie beside one another in features (N, D0 + D1 + …), `widths` wide."""
    return [Features(x, features.labels, features.names) for x in features.x.split(list(widths), dim=1)]


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
    dataset:    a datasets.Dataset.
    preprocess: rows -> the encoder's input, in the loader's processes.
    progress:   text of a progress bar; None: no bar.
    Raises InputError, before anything is computed, for what is no such dataset or has labels that are no numbers, and
    for an encoder that does not give one vector an example.
    """
    labels = labels_of(dataset)
    batches = _encoded(encode, dataset, preprocess, batch_size, num_workers, progress)
    return Features(torch.cat(list(batches)), labels)


@torch.no_grad()
def _encoded(encode, dataset, preprocess, batch_size: int, num_workers: int, progress: str | None):
    """The features of one batch after the other, (B, D) float32 on the CPU."""
    from tqdm import tqdm

    module = encode if isinstance(encode, nn.Module) else nn.Identity()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    was_training, left = module.training, len(dataset)
    module.eval()
    loader = torch.utils.data.DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=preprocess)
    for batch in tqdm(loader, desc=progress, disable=progress is None, leave=False):
        features, rows = encode(batch.to(device)), min(batch_size, left)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != rows:
            shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"the encoder gives {shape} for {rows} examples, not one vector an example, ({rows}, D)")
        left -= rows
        yield features.float().cpu()
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

    The file is found by `fingerprint`: other weights, rows or preprocessing are another file. It ends with its own
    hash: one that was cut, emptied or changed is made again. Where the folder cannot be written to, or is full,
    features are computed without it, which is said on stderr. Where torch.distributed is at work, all processes call
    this, each computes its part of the rows, and all get the whole; `cache` must be a folder that they share.
    """
    labels = labels_of(dataset)
    path = Path(cache, f"features-{fingerprint(encode, dataset, preprocess=preprocess)}.npy")
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = next((parameter.device for parameter in encode.parameters()), torch.device("cpu"))
    known, number = _of_first([rank == 0 and _is_sealed(path), os.getpid()], processes, device)
    if not known:
        partial = path.with_suffix(f".{number}.part")
        share = -(-len(dataset) // processes)
        start, end = (min(place * share, len(dataset)) for place in (rank, rank + 1))
        mine = dataset if processes == 1 else dataset.select(range(start, end))
        batches = _encoded(encode, mine, preprocess, batch_size, num_workers, None if rank else progress)
        reserved = False
        if rank == 0:
            batch = next(batches)
            batches = itertools.chain([batch], batches)
            reserved = _reserve(partial, (len(dataset), batch.shape[1]))
        [reserved] = _of_first([reserved], processes, device)
        if not reserved:
            options = {"batch_size": batch_size, "num_workers": num_workers, "progress": None if rank else progress}
            return extract(encode, dataset, preprocess=preprocess, **options)
        x = np.lib.format.open_memmap(partial, mode="r+")
        for batch in batches:
            x[start : start + len(batch)] = batch.numpy()
            start += len(batch)
        x.flush()
        _wait(processes)
        if rank == 0:
            _seal(partial)
            partial.replace(path)  # a file under this name is whole
        _wait(processes)
    return Features(torch.from_numpy(np.load(path, mmap_mode="c")), labels)


def _of_first(numbers: list[int], processes: int, device: torch.device) -> list[int]:
    """What the first process sees holds for all."""
    if processes == 1:
        return numbers
    seen = torch.tensor(numbers, device=device)
    dist.broadcast(seen, 0)
    return seen.tolist()


def _reserve(path: Path, shape: tuple[int, int]) -> bool:
    """A file of the size that features (N, D) and their seal need, on a disk that has the room; False if there is none.

    Room that is only promised would end a process when it writes to the mapped file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            size = file.tell() + 4 * math.prod(shape) + SEAL
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        return True
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if error.errno else error
        print(f"features are computed but not kept: {path.parent}: {reason}", file=sys.stderr)
        return False


def _seal(path: Path) -> None:
    """Puts the hash of the array, header and all, behind it, where numpy does not look."""
    array = np.load(path, mmap_mode="r")
    size = array.offset + array.nbytes
    with path.open("r+b") as file:
        digest = _hash(file, size)
        file.seek(size)
        file.write(digest)


def _is_sealed(path: Path) -> bool:
    """Whether the file is there and as it was written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) - SEAL
            return size > 0 and _hash(file, size) == file.read()
    except OSError:
        return False


def _hash(file, size: int) -> bytes:
    """SHA-256 of the first `size` bytes, behind which the file stands then."""
    digest = hashlib.sha256()
    file.seek(0)
    while size and (chunk := file.read(min(size, 1 << 24))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.digest()


def _wait(processes: int) -> None:
    if processes > 1:
        dist.barrier()


def fingerprint(encode: nn.Module, dataset, *, preprocess: Callable[[Sequence[dict]], Tensor]) -> str:
    """Of all that features depend on: the weights and structure of the encoder, the rows of the dataset with the bytes
    of their files of images and sounds, and the preprocessing, by its settings and what it makes of the first rows."""
    settings = preprocess.contents() if isinstance(preprocess, ProcessorInputs) else repr(preprocess)
    digest = hashlib.sha256(f"{FINGERPRINT} {encode!r} {settings}".encode())
    config = getattr(getattr(encode, "encoder", encode), "config", None)
    told = config.to_dict() if hasattr(config, "to_dict") else config
    if isinstance(told, dict):  # where the same network was found does not matter
        told = {name: value for name, value in told.items() if name != "_name_or_path"}
    digest.update(repr((told, [getattr(encode, name, None) for name in ("how", "all_layers", "unpadded")])).encode())
    for name, tensor in encode.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    for row in dataset:
        files = [row[name] for name in ("image", "audio") if row.get(name) is not None]
        for file in files:
            digest.update(file["bytes"] if file["bytes"] is not None else Path(file["path"]).read_bytes())
        digest.update(repr([value for name, value in row.items() if name not in ("image", "audio")]).encode())
    first = preprocess([dataset[row] for row in range(min(4, len(dataset)))])
    for tensor in first.values() if hasattr(first, "values") and not isinstance(first, Tensor) else [first]:
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def labels_of(dataset) -> Tensor | None:
    """The `label` column as Features has it: class numbers, or an indicator matrix where it holds lists.

    Raises InputError for what is no datasets.Dataset, has no rows, or labels that are no numbers.
    """
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"rows must be a datasets.Dataset, got {type(dataset).__name__}: datasets.Dataset.from_dict or "
            "from_generator makes one of other data"
        )
    if not len(dataset):
        raise InputError("the dataset is empty: there is nothing to represent")
    if "label" not in dataset.column_names:
        return None
    labels, feature = dataset["label"][:], dataset.features["label"]
    if not hasattr(feature, "feature"):
        return _as_labels(labels)
    indicators = torch.zeros(len(dataset), feature.feature.num_classes, dtype=torch.int8)
    for row, present in enumerate(labels):
        indicators[row, present] = 1
    return indicators


def pca(known: Features, *parts: Features, components: int) -> list[Features]:
    """Each part on the first principal components of `known`, or all there are: the best linear autoencoder."""
    components = min(components, *known.x.shape)
    centre = known.x.mean(0)
    axes = _principal_axes(known.x - centre, components)
    return [Features((part.x - centre) @ axes, part.labels, part.names) for part in parts]


def _principal_axes(x: Tensor, count: int) -> Tensor:
    """The `count` eigenvectors of xᵀx (D, D) with the largest eigenvalues, from the smaller of xᵀx and xxᵀ: (D, count).

    x: (N, D). Directions in which it does not vary are 0.
    """
    if len(x) >= x.shape[1]:
        return eigen(x.T @ x)[1].flip(-1)[:, :count]
    values, vectors = (part.flip(-1)[..., :count] for part in eigen(x @ x.T))
    lengths = values.clamp(min=0).sqrt()
    return x.T @ (vectors * torch.where(lengths > 1e-6 * lengths.max(), 1 / lengths, 0))


def eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (…, D), in ascending order, and eigenvectors (…, D, D) of symmetric matrices (…, D, D).

    In single precision LAPACK may come to no end, or to numbers that are not finite, where many eigenvalues are alike,
    as those of features that are mostly zero: then in double precision.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
        if vectors.isfinite().all():
            return values, vectors
    except torch.linalg.LinAlgError:
        pass
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.to(matrix), vectors.to(matrix)


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
