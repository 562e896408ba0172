"""Which examples stand in a prompt: a function of (task, seed[, document]), never of the order in which it is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence

import numpy as np


def draw_order(size: int, *key: Hashable) -> np.ndarray:
    """A random order of 0 … size-1, (size,), the same for the same key on every machine, process and NumPy.

    The raw numbers of Philox, a counter-based generator, are sorted (Salmon et al. 2011); its key is a hash of `key`.
    """
    return np.argsort(np.random.Philox(key=draw_seed(*key)).random_raw(size), kind="stable")


def draw_seed(*key: Hashable) -> int:
    """A number below 2^63 that is a hash of `key`."""
    return int.from_bytes(hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest(), "little") >> 1


def balance(order: Sequence[int], answers: Sequence[Hashable]) -> list[int]:
    """The same numbers, reordered so that any first K of them hold each answer equally often, or one time more.

    answers: of every example. Answers take turns as they first appear in `order`; whatever runs out leaves its turn.
    """
    queues: dict[Hashable, list[int]] = {}
    for number in order:
        queues.setdefault(answers[number], []).append(number)
    taken = ((turn, place, number) for place, queue in enumerate(queues.values()) for turn, number in enumerate(queue))
    return [number for _, _, number in sorted(taken)]


def reorder(shots: Sequence[int], *key: Hashable) -> list[int]:
    """The same examples in another order; the same for the same key."""
    return [shots[place] for place in draw_order(len(shots), *key).tolist()]
