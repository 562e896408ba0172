"""Batches on the device that trains: copied there beside the step before, or there from the beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hf_replearn.errors import InputError
from hf_replearn.training.memory import available_memory, total_memory

ROWS = "rows"  # key of a batch of numbers of rows
SHARE = 1 / 4  # of the device's memory that data may take without being asked for


class Ahead:
    """The batches of `source` on the device. A GPU copies the next one while the step before it runs, in a stream of
    its own, from the pinned memory that the loader puts it into; nobody waits. Elsewhere they are as they come.

    source: of mappings; values that are no tensors stay as they are.
    """

    def __init__(self, source: Iterator[dict], device: torch.device):
        self.source, self.device, self.begun, self.following = source, device, False, None
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __iter__(self) -> Iterator[dict]:
        return self

    def __next__(self) -> dict:
        if self.copying is None:
            return next(self.source)
        if not self.begun:
            self.begun, self.following = True, self._sent()
        if self.following is None:
            raise StopIteration
        batch, computing = self.following, torch.cuda.current_stream(self.device)
        computing.wait_stream(self.copying)
        for value in batch.values():
            if isinstance(value, Tensor):
                value.record_stream(computing)  # its memory is not given away while a step may read it
        self.following = self._sent()
        return batch

    def _sent(self) -> dict | None:
        batch = next(self.source, None)
        if batch is None:
            return None
        with torch.cuda.stream(self.copying):
            return {
                name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
                for name, value in batch.items()
            }


class HeldRows(Dataset):
    """All rows on the device, as a loader's processes make them: decoded, resized, uint8. As a data set its rows are
    their numbers, so that a sampler draws them in the same order; `batch` takes them by these."""

    def __init__(self, rows: Sequence, collate: Callable[[list], dict[str, Tensor]], device: torch.device):
        """collate: rows -> tensors whose first dimension is theirs, each row's independent of the others."""
        self.rows, self.collate = rows, collate
        self.held = {
            name: torch.empty((len(rows), *value.shape[1:]), dtype=value.dtype, device=device)
            for name, value in collate([rows[0]]).items()
        }

    def fill(self, *, workers: int, progress: bool) -> HeldRows:
        """Reads all rows. workers: processes that do it."""
        loader = DataLoader(
            self.rows, 256, num_workers=workers, collate_fn=self.collate, generator=torch.Generator()
        )  # which leaves torch's own generator alone
        start = 0
        for batch in tqdm(loader, desc="images to the device", disable=not progress):
            for name, value in batch.items():
                self.held[name][start : start + len(value)] = value
            start += len(value)
        return self

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> int:
        return number

    @staticmethod
    def numbers(rows: list[int]) -> dict[str, Tensor]:
        """What a loader collates."""
        return {ROWS: torch.tensor(rows)}

    def batch(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rows of these numbers, as `collate` would give them."""
        return {name: value.index_select(0, batch[ROWS]) for name, value in self.held.items()}


def held_on_device(
    rows: Sequence,
    collate: Callable[[list], dict[str, Tensor]],
    *,
    asked: str,
    device: torch.device,
    processes: int = 1,
) -> tuple[HeldRows | None, str]:
    """Room on the device for all rows, or None where they do not stay there, and in words why.

    asked:     "on", "off", or "auto": on a GPU, where they take no more than a quarter of its memory.
    processes: that share the memory of this machine. GPUs are not shared.
    Raises InputError where they have to be there, and there is no room.
    """
    size = len(rows) * sum(value.nbytes for value in collate([rows[0]]).values())
    on_gpu = device.type == "cuda"
    total, place = total_memory(device), "the GPU" if on_gpu else "memory"
    shown = f"{size / 1e9:,.3g} GB decoded, of {total / 1e9:,.3g} GB of {place}"
    if asked == "on":
        free = torch.cuda.mem_get_info(device)[0] if on_gpu else available_memory()
        if size * (1 if on_gpu else processes) > free:
            raise InputError(
                f"--data_on_device on: the images are {shown}, of which {free / 1e9:,.3g} GB are free: say auto or off"
            )
        return HeldRows(rows, collate, device), f"the images stay in {place} (--data_on_device on): {shown}"
    loaded = "the loader decodes the images of each batch"
    if asked == "off":
        return None, f"{loaded} (--data_on_device off)"
    fit = size * (1 if on_gpu else processes) <= SHARE * total
    if on_gpu and fit:
        return HeldRows(rows, collate, device), f"the images stay in {place}: {shown}, no more than a quarter"
    if on_gpu:
        return None, f"{loaded}: all are {shown}, more than a quarter"
    hint = "; with --data_on_device on each is decoded once" if fit else ""
    return None, f"{loaded}: all are {shown}, on a CPU{hint}"
