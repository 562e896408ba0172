"""An endless stream of batches, read by every process and its loader's workers from shards of their own, that goes on
from where a checkpoint was without being read from its beginning."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hf_replearn.errors import InputError

POSITION, FAILURE = "position", "failure"  # keys of a batch: where its lane is after it, as JSON; why there is none
LISTED = 100  # rows of a lane that are named because they cannot be used; more are only counted
FEW = 1_000  # rows, before which a share of those that cannot be used says little
AT_THE_BEGINNING = {
    "place": 0,  # in the order of the lane's shards: that from which the buffer was filled first
    "row": 0,  # rows of that shard that were read before
    "shard": None,  # its own state there
    "given": 0,  # rows of the buffer that are done with
}
START = AT_THE_BEGINNING | {
    "turn": 0,  # passes over the lane's shards before
    "buffer": 0,  # buffers before, in this pass
    "batches": 0,  # in this pass
    "read": 0,  # rows, in all passes
    "unusable": 0,
    "listed": [],
}


class Row(NamedTuple):
    """A row, or the error in its place; what it is called; and the position after it, while nothing more is read."""

    content: dict | InputError
    name: str
    after: Callable[[], dict]


class Lanes(IterableDataset):
    """Batches of a process. Each of its workers reads a lane of its own, and they take turns.

    The shards of a lane are read one after the other, in another order in each pass, into a buffer that is then given
    out in random order; that way a place in the middle of it is the place where it began, and a number. At the end of a
    pass what is left of it is less than a batch, and dropped, so that no batch has a row twice. All is a function of
    the seed, the lanes and the shards.

    shards:  `len`, `names`, and `open(shard, state)` -> an iterable of rows with `state()` (see data.streams.Shards).
             A damaged one raises InputError: what was left of it counts as one row that cannot be used.
    prepare: a row -> what is collated. It raises InputError for a row that cannot be used: it is left out.
    collate: a batch of these -> tensors.
    buffer:  rows; 1: as they come.
    share:   of the rows read, that may be unusable; None: none is, whatever it is that is wrong with it.
    usable:  what the rows are called that can be used.
    """

    def __init__(  # noqa: PLR0913 (a stream, and its place among those of other processes)
        self,
        shards: Any,
        *,
        prepare: Callable[[dict], Any],
        collate: Callable[[list], dict[str, Tensor]],
        batch: int,
        buffer: int,
        seed: int,
        share: float | None,
        usable: str,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
    ):
        self.shards, self.prepare, self.collate = shards, prepare, collate
        self.batch, self.buffer, self.seed, self.share, self.usable = batch, buffer, seed, share, usable
        self.rank, self.processes, self.workers = rank, processes, workers
        self.own = range(rank * max(1, workers), (rank + 1) * max(1, workers))  # lanes of this process
        self.positions: dict[int, dict] = dict.fromkeys(self.own, START)
        self.turn = 0  # batches given so far

    # ---- in the training process

    def met(self, position: str) -> None:
        """A batch is used: the run goes on after it."""
        found = json.loads(position)
        self.positions[found.pop("lane")] = found
        self.turn += 1

    @property
    def unusable(self) -> int:
        """How many rows this process could not use."""
        return sum(at["unusable"] for at in self.positions.values())

    def _about(self) -> dict[str, int]:
        return {"processes": self.processes, "workers": self.workers, "shards": len(self.shards)}

    def save(self, checkpoint: str | Path) -> None:
        """Where this process is, into a file of its own."""
        content = self._about() | {"turn": self.turn, "lanes": self.positions}
        Path(checkpoint, f"stream-{self.rank}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")

    def load(self, checkpoint: str | Path) -> bool:
        """Goes on from there. Where it was another number of processes, workers or shards that read, the stream begins
        anew; returns whether it goes on."""
        try:
            content = json.loads(Path(checkpoint, f"stream-{self.rank}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        if any(content[name] != value for name, value in self._about().items()):
            return False
        self.turn = content["turn"]
        self.positions = {int(lane): at for lane, at in content["lanes"].items()}
        return True

    # ---- where rows are read: there, or in a worker

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        turn = self.turn + (0 if worker is None else worker.id)
        lane = self.own[turn % len(self.own)]  # a loader begins with its first worker, wherever the run goes on
        try:
            for batch, at in self._batches(lane, self.positions[lane]):
                yield self.collate(batch) | {POSITION: json.dumps(at | {"lane": lane})}
        except InputError as error:  # which as an exception would come with a traceback of the worker
            yield {FAILURE: str(error)}
        except OSError as error:
            yield {FAILURE: f"the stream cannot be read any further: {' '.join(str(error).split())[:500]}"}

    def _batches(self, lane: int, at: dict) -> Iterator[tuple[list, dict]]:
        """Batches from a position on, without end, and the position after each."""
        while True:
            rows, batch = self._rows(lane, at), []
            while held := list(itertools.islice(rows, self.buffer)):
                after = held[-1].after()
                for index in self._order(len(held), lane, at["turn"], at["buffer"] + 1)[at["given"] :]:
                    example, at = self._prepared(held[index], at)
                    batch += example
                    if len(batch) == self.batch:
                        at = at | {"batches": at["batches"] + 1}
                        yield batch, at
                        batch = []
                at = at | after | {"given": 0, "buffer": at["buffer"] + 1}
            if not at["batches"]:
                own = [self.shards.names[shard] for shard in self._own_shards(lane)]
                raise InputError(
                    f"a batch of {self.batch} is more than the {self.usable} of {own[0]!r}"
                    f"{f' and {len(own) - 1} more shards' * (len(own) > 1)}, which one reader has to itself: lower "
                    "--per_device_train_batch_size, the number of processes or --dataloader_num_workers"
                )
            at = at | {"turn": at["turn"] + 1, "batches": 0, "buffer": 0} | AT_THE_BEGINNING

    def _prepared(self, row: Row, at: dict) -> tuple[list, dict]:
        """The row as it is collated, in a list, which is empty where it cannot be used; and the position after it."""
        at = at | {"given": at["given"] + 1, "read": at["read"] + 1}
        try:
            if isinstance(row.content, InputError):
                raise row.content
            return [self.prepare(row.content)], at
        except InputError as error:
            line = [[row.name, str(error)]] if len(at["listed"]) < LISTED else []
            at = at | {"unusable": at["unusable"] + 1, "listed": at["listed"] + line}
            if self.share is None:
                raise InputError(f"{row.name}: {error}") from error
            if at["unusable"] > self.share * max(at["read"], FEW):
                raise InputError(
                    f"{at['unusable']:,} of {at['read']:,} images that one reader read do not decode, more than "
                    f"--max_undecodable {self.share:g}: {', '.join(': '.join(line) for line in at['listed'][-3:])}"
                ) from error
            return [], at

    def _rows(self, lane: int, at: dict) -> Iterator[Row]:
        """Those of what is left of a pass."""
        own, begin = self._own_shards(lane), at["place"]
        for place, index in enumerate(self._order(len(own), lane, at["turn"], 0)[begin:], start=begin):
            number, state = (at["row"], at["shard"]) if place == begin else (0, None)
            shard, next_one = self.shards.open(own[index], state), AT_THE_BEGINNING | {"place": place + 1}
            try:
                for content in shard:
                    number += 1
                    after = partial(self._within, shard, place, number)
                    yield Row(content, f"{self.shards.names[own[index]]} row {number - 1}", after)
            except InputError as error:
                yield Row(error, f"{self.shards.names[own[index]]} after {number} rows", lambda at=next_one: at)

    @staticmethod
    def _within(shard: Any, place: int, number: int) -> dict:
        return {"place": place, "row": number, "shard": shard.state()}

    def _own_shards(self, lane: int) -> range:
        return range(lane, len(self.shards), self.processes * len(self.own))

    def _order(self, count: int, *key: int) -> list[int]:
        """The order of so many, by the seed and the key."""
        if self.buffer == 1:
            return list(range(count))
        return np.random.default_rng([self.seed, *key]).permutation(count).tolist()


def listed_in(checkpoint: str | Path) -> list[list[str]]:
    """The rows that could not be used, of all processes: what they are called, and why; at most 100 of each lane."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(Path(checkpoint).glob("stream-*.json"))]
    return [line for content in files for at in content["lanes"].values() for line in at["listed"]]
