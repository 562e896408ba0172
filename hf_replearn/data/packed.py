"""Rows of a corpus that is larger than a disk: packed from documents while they are read, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from datasets import IterableDataset

from hf_replearn.data.rows import TOGETHER
from hf_replearn.data.streams import damage_named
from hf_replearn.data.text import Shards


@dataclass(frozen=True)
class PackedShards:
    """The rows of `documents`, in pieces for `training.lanes.Lanes`.

    pack:  documents -> rows, see `data.rows.packing_of`.
    parts: of each shard: its documents are taken in turns by so many readers, each of whom reads all of it.
    """

    documents: Shards
    pack: Callable
    parts: int = 1

    def __len__(self) -> int:
        return len(self.documents) * self.parts

    @property
    def names(self) -> list[str]:
        """Of the pieces, for whoever has to mend one."""
        parts = [f", part {part + 1} of {self.parts}" for part in range(self.parts)] if self.parts > 1 else [""]
        return [name + part for part in parts for name in self.documents.names]

    def for_readers(self, readers: int) -> PackedShards:
        """At least one piece for each reader."""
        return replace(self, parts=-(-readers // len(self.documents)))

    def open(self, number: int, state: dict | None = None) -> PackedShard:
        """A piece, to be read on from `state`, which `PackedShard.state` gave."""
        part, shard = divmod(number, len(self.documents))
        documents, parts = self.documents.shard(shard), self.parts
        if parts > 1:
            documents = documents.filter(lambda _, place: place % parts == part, with_indices=True)
        rows = documents.map(self.pack, batched=True, batch_size=TOGETHER, remove_columns=["text"])
        if state is not None:
            rows.load_state_dict(state)
        return PackedShard(rows)


@dataclass
class PackedShard:
    """The rows of one piece, see `PackedShards`. Iterated once."""

    rows: IterableDataset

    def __iter__(self) -> Iterator[dict]:
        """Raises InputError where the shard is damaged, OSError where it cannot be had."""
        with damage_named():
            # Not iter(rows): in a loader's process that would divide the shard once more, among all of them.
            for batch in self.rows.iter(batch_size=1):
                yield {name: values[0] for name, values in batch.items()}

    def state(self) -> dict:
        """JSON values: where the row that was given last ends."""
        return self.rows.state_dict()
