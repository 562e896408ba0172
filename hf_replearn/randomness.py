"""The random numbers of a training step, as a function of its place in the run: a resumed run draws them again."""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Place(NamedTuple):
    """A micro-batch of a run: which optimizer step, which micro-step within it, which process of how many."""

    seed: int
    step: int
    micro_step: int = 0
    rank: int = 0
    world_size: int = 1

    def generator(self) -> torch.Generator:
        """Of this micro-batch alone, on the CPU."""
        return torch.Generator().manual_seed(_key(self.seed, self.step, self.micro_step, self.rank) >> 1)

    def uniform(self, rows: int, numbers: int) -> Tensor:
        """Numbers in [0, 1) for each row of this micro-batch, (rows, numbers) float32.

        They depend on the row's place in the global batch and not on the processes and micro-steps it is cut into.
        Philox is counter-based: the numbers of earlier rows are jumped over, not drawn (Salmon et al. 2011).
        """
        width = -(-numbers // 4) * 4  # a counter gives four numbers
        philox = np.random.Philox(key=_key(self.seed, self.step))
        philox.advance((self.micro_step * self.world_size + self.rank) * rows * width // 4)
        drawn = np.random.Generator(philox).random((rows, width))
        return torch.from_numpy(drawn[:, :numbers].astype(np.float32))


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device. Nobody waits: from pinned memory a GPU fetches it when its turn comes."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """What is drawn inside, from the generators of Python, NumPy and PyTorch, is as if it had not been drawn."""
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)


def content_uniform(seed: int, rows: Tensor, numbers: int) -> Tensor:
    """Numbers in [0, 1) for each row of `rows` (B, T), (B, numbers) float32: a function of the seed and its content."""
    keys = [hashlib.blake2b(row.tobytes(), digest_size=8, salt=struct.pack("<q", seed)) for row in rows.cpu().numpy()]
    drawn = [np.random.Generator(np.random.Philox(key=int.from_bytes(key.digest()))).random(numbers) for key in keys]
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


def _key(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest(), "little")
