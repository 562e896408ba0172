"""Images from more shards than a disk holds: some are looked at, the others are read when they are needed."""

from __future__ import annotations

import contextlib
import itertools
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import pyarrow
from datasets import Dataset, IterableDataset

from hf_replearn.data.images import ImageData, find_image_column, load_images
from hf_replearn.data.inventory import SUFFIXES
from hf_replearn.data.sources import Source, counted, load_source, read_addresses
from hf_replearn.errors import InputError

LOOKED_AT, OF_SHARDS = 1_000, 10  # images that are decoded before training, and the shards that they are taken from
ADDRESS = re.compile(r"(https?|hf)://\S+")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST_ADDRESSES = 1_000_000
NO_LABELS = (
    "labels of a stream are not read, and so there are no scores: `hf-replearn evaluate` judges the encoder on a "
    "labelled data set"
)
# What tarfile, zlib, pyarrow and datasets raise of files whose bytes are not as they should be.
DAMAGED = (tarfile.TarError, zlib.error, EOFError, pyarrow.ArrowInvalid, ValueError, KeyError)


@dataclass(frozen=True)
class Shards:
    """Rows in pieces, each of which is read from its beginning, or from where a state says.

    rows:   of one column, {"bytes", "path"}, which they give as `image`.
    names:  of the pieces, for whoever has to mend one.
    more:   further columns, that have one value in all rows.
    known:  how many rows there are; None where nobody has counted them.
    """

    rows: IterableDataset
    names: list[str]
    more: dict[str, Any]
    known: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def open(self, shard: int, state: dict | None = None) -> Shard:
        """A shard, to be read on from `state`, which `Shard.state` gave."""
        rows = self.rows.shard(num_shards=len(self), index=shard)
        if state is not None:
            rows.load_state_dict(state)
        return Shard(rows, self.names[shard], self.more)

    def for_readers(self, readers: int) -> Shards:
        """At least one shard for each reader. Parquet files are divided into their row groups where need be.

        Raises InputError where there are fewer.
        """
        if len(self) >= readers:
            return self
        rows = self.rows.reshard()
        if rows.num_shards < readers:
            raise InputError(
                f"{counted(rows.num_shards, 'shard')} for {readers} readers, the processes times "
                "--dataloader_num_workers: lower these, or write more shards"
            )
        return replace(self, rows=rows, names=[f"piece {n} of {rows.num_shards}" for n in range(rows.num_shards)])


@dataclass
class Shard:
    """The rows of one shard, see `Shards`. Iterated once."""

    rows: IterableDataset
    name: str
    more: dict[str, Any]

    def __iter__(self) -> Iterator[dict]:
        """Raises InputError where the shard is damaged, OSError where it cannot be had."""
        with damage_named():
            # Not iter(rows): in a loader's process that would divide the shard once more, among all of them.
            for batch in self.rows.iter(batch_size=1):
                [(image,)] = batch.values()
                yield {"image": image} | self.more

    def state(self) -> dict:
        """JSON values: where the row that was given last ends."""
        return self.rows.state_dict()


@contextlib.contextmanager
def damage_named() -> Iterator[None]:
    """Has what the libraries raise of files whose bytes are not as they should be come as InputError."""
    try:
        yield
    except DAMAGED as error:
        raise InputError(f"the shard is damaged: {' '.join(str(error).split())[:200]}") from error
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # Arrow's own, of damaged pages
            raise InputError(f"the shard is damaged: {' '.join(str(error).split())[:200]}") from error
        raise


def stream_images(
    dataset: str,
    *,
    files: Sequence[str] = (),
    image_column: str | None = None,
    max_undecodable: float = 0.01,
    value_range: Sequence[float] | None = None,
    channels: int | None = None,
) -> ImageData:
    """Images of which some are looked at before training; `train` are these, and `stream` is all.

    dataset: a folder or file of parquet, arrow or webdataset (.tar) shards; https://… or hf://… of one, or of several,
             such as https://host/train-{000..127}.tar; or a Hub id. The rest as of `load_images`.

    Up to a thousand images of up to ten shards are decoded, and what can be wrong with images is found out by these.
    Labels are not read. InputError for whatever the user has to mend.
    """
    source = _open(dataset, files)
    if "train" not in source.splits:
        raise InputError(f"the data has no split 'train', only {', '.join(source.splits)}")
    rows = source.splits["train"]
    if not isinstance(rows, IterableDataset):
        raise InputError(f"--streaming reads shards of parquet, arrow or .tar: read {dataset!r} without it")
    column = find_image_column(rows.features, image_column)
    rows = rows.select_columns(column).cast_column(column, datasets.Image(decode=False))
    names = source.files.get("train") or [source.name]
    if len(names) != rows.num_shards:  # of the Hub
        names = [f"shard {n} of {rows.num_shards}" for n in range(rows.num_shards)]
    more = {"value_range": list(value_range)} if value_range is not None else {}
    more |= {"channels": channels} if channels is not None else {}
    shards = Shards(rows, names, more)
    found, ended = _look_at(shards)
    if not found:
        looked = counted(min(len(shards), OF_SHARDS), "shard")
        raise InputError(f"there are no images in {dataset!r}: {looked} that were looked at, and no row")
    kind = datasets.Features(image=datasets.Image(decode=False))
    seen = Dataset.from_list([{"image": row["image"]} for row in found], features=kind)
    data = load_images(
        replace(source, splits={"train": seen}, kind="streamed"),
        label_type="ignored",
        max_undecodable=max_undecodable,
        value_range=value_range,
        channels=channels,
    )
    looked = f"of {counted(len(seen), 'image')} that {'were' if len(seen) > 1 else 'was'} looked at"
    broken = f", {len(data.skipped):,} do not decode: {data.skipped[0]}" if data.skipped else ", all decode"
    return replace(
        data,
        stream=replace(shards, known=len(found) if ended else None),
        taken=source.taken({"train": f"a stream of {counted(len(shards), 'shard')} of column `{column}`"}),
        fingerprint=f"{data.fingerprint} (images looked at, of a stream of {counted(len(shards), 'shard')})",
        notes=[looked + broken, *(f"{looked}: {note}" for note in data.notes), NO_LABELS],
    )


def _open(dataset: str, files: Sequence[str]) -> Source:
    if not ADDRESS.fullmatch(dataset):
        return load_source(dataset, purpose="shards", files=files, streaming=True)
    if files:
        raise InputError("--files is of folders: write a range into the address instead, such as {000..127}")
    urls = list(addresses(dataset))
    suffixes = {kind: SUFFIXES[kind] for kind in ("webdataset", "parquet", "arrow")}
    kind = next((kind for kind, known in suffixes.items() if urls[0].lower().endswith(known)), None)
    if kind is None:
        raise InputError(f"{dataset!r} is no address of shards: it must end in .tar, .parquet or .arrow")
    return read_addresses(dataset, kind, urls)


def addresses(pattern: str) -> Iterator[str]:
    """`a/{08..11}.tar` -> a/08.tar, a/09.tar, a/10.tar, a/11.tar. InputError for a range that runs backwards."""
    parts, total = [], 1
    for first, last in RANGE.findall(pattern):
        numbers = range(int(first), int(last) + 1)
        total *= len(numbers)
        if not 0 < total <= MOST_ADDRESSES:
            raise InputError(f"the range {{{first}..{last}}} in {pattern!r} names {total:,} shards")
        parts.append([str(number).zfill(len(first)) for number in numbers])
    between = RANGE.split(pattern)[::3]
    for chosen in itertools.product(*parts):
        yield between[0] + "".join(number + after for number, after in zip(chosen, between[1:], strict=True))


def _look_at(shards: Shards) -> tuple[list[dict], bool]:
    """Rows from all over the shards; and whether these are all there are."""
    places = sorted({round(place * (len(shards) - 1) / max(1, OF_SHARDS - 1)) for place in range(OF_SHARDS)})
    found, ended = [], len(places) == len(shards)
    for shard in places:
        opened, count = shards.open(shard), LOOKED_AT // len(places)
        try:
            rows = list(itertools.islice(opened, count))
        except (InputError, OSError) as error:
            reason = error if isinstance(error, InputError) else f"it cannot be read ({' '.join(str(error).split())})"
            raise InputError(f"{opened.name}: {reason}: mend it, or leave it out with --files") from error
        found += rows
        ended = ended and len(rows) < count
    return found, ended
