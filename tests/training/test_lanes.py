"""A stream read by several, that goes on where it was."""

import itertools
import json
import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from hf_replearn.errors import InputError
from hf_replearn.training.lanes import FAILURE, FEW, POSITION, Lanes, listed_in

SHARDS = [10, 7, 12, 9, 11]  # rows of each


class Numbers:
    """Shards of numbers: row r of shard s is 100 s + r. What is opened and read is written down."""

    def __init__(self, sizes=SHARDS, spoilt=None):
        self.names, self.sizes = [f"s{n}" for n in range(len(sizes))], sizes
        self.spoilt, self.read = spoilt or {}, []

    def __len__(self):
        return len(self.sizes)

    def open(self, shard, state=None):
        return Opened(self, shard, 0 if state is None else state["row"])


class Opened:
    def __init__(self, shards, shard, row):
        self.shards, self.shard, self.row = shards, shard, row

    def __iter__(self):
        for row in range(self.row, self.shards.sizes[self.shard]):
            number = 100 * self.shard + row
            if isinstance(error := self.shards.spoilt.get(number), Exception):
                raise error
            self.shards.read.append(number)
            self.row = row + 1
            yield number

    def state(self):
        return {"row": self.row}


def prepare(number):
    if number % 100 == 99:
        raise InputError("no picture")
    return number


def collate(numbers):
    return {"numbers": torch.tensor(numbers)}


def lanes(shards=None, **more) -> Lanes:
    about = {"prepare": prepare, "collate": collate, "batch": 4, "buffer": 6, "seed": 3, "share": 0.0, "usable": "rows"}
    about |= more
    return Lanes(shards or Numbers(), **about)


def batches(stream: Lanes, count: int) -> list[list[int]]:
    """So many batches, as a training takes them."""
    loader = DataLoader(stream, batch_size=None, num_workers=stream.workers)
    found = []
    for batch in itertools.islice(loader, count):
        assert FAILURE not in batch, batch
        stream.met(batch[POSITION])
        found.append(batch["numbers"].tolist())
    return found


def everything(sizes) -> list[int]:
    return [100 * shard + row for shard, size in enumerate(sizes) for row in range(size)]


def test_each_pass_has_each_row_once_but_for_less_than_a_batch():
    found = batches(lanes(), 3 * 12)  # 49 rows are 12 batches and one row
    passes = [sum(found[start : start + 12], []) for start in (0, 12, 24)]
    for numbers in passes:
        assert len(set(numbers)) == 48 and set(numbers) <= set(everything(SHARDS))
    assert len({tuple(numbers) for numbers in passes}) == 3  # each in an order of its own
    first = passes[0]
    assert first != sorted(first)
    assert len({number // 100 for number in first[:6]}) == 1  # a buffer of six is of the first shard


def test_as_they_come():
    assert sum(batches(lanes(buffer=1), 12), []) == everything(SHARDS)[:48]


def test_every_lane_has_shards_of_its_own():
    seen = []
    for rank in range(2):
        numbers = sum(batches(lanes(Numbers([8] * 4), rank=rank, processes=2, workers=2), 4), [])
        seen += numbers  # two batches of each lane: its whole shard
    assert Counter(seen) == Counter(everything([8] * 4))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("buffer", [1, 6, 1000])
def test_it_goes_on_where_it_was(workers, buffer, tmp_path):
    whole = batches(lanes(buffer=buffer, workers=workers), 40)
    for stop in (1, 2, 5, 12, 25):
        begun = lanes(buffer=buffer, workers=workers)
        assert batches(begun, stop) == whole[:stop]
        begun.save(tmp_path)
        again = lanes(buffer=buffer, workers=workers)
        assert again.load(tmp_path)
        assert batches(again, 6) == whole[stop : stop + 6]


def test_not_from_the_beginning(tmp_path):
    """Nothing is read that lies before the buffer."""
    begun = lanes(Numbers([1000]), prepare=int, buffer=8)
    batches(begun, 201)
    begun.save(tmp_path)
    again = lanes(shards := Numbers([1000]), prepare=int, buffer=8)
    again.load(tmp_path)
    batches(again, 1)
    assert shards.read == list(range(800, 808))


@pytest.mark.parametrize("other", [{"processes": 2}, {"workers": 2}, {"shards": Numbers([9] * 6)}])
def test_read_otherwise_it_begins_anew(other, tmp_path):
    begun = lanes()
    batches(begun, 3)
    begun.save(tmp_path)
    again = lanes(**other)
    assert not again.load(tmp_path)
    assert batches(again, 2) == batches(lanes(**other), 2)
    assert not lanes(rank=1, processes=2).load(tmp_path)  # which had no file


def test_rows_that_cannot_be_used_are_left_out_and_named(tmp_path):
    """Number 99 of a shard has no picture."""
    stream = lanes(Numbers([102, 102]), share=0.01)
    numbers = sum(batches(stream, 48), [])
    assert not {99, 199} & set(numbers) and len(set(numbers)) == 192
    stream.save(tmp_path)
    again = lanes(Numbers([102, 102]), share=0.01)
    again.load(tmp_path)
    batches(again, 2)
    assert again.unusable == 2
    again.save(tmp_path)
    assert sorted(listed_in(tmp_path)) == [["s0 row 99", "no picture"], ["s1 row 99", "no picture"]]


def test_too_many_of_them_end_it():
    def none(number):
        raise InputError("no picture")

    [end] = list(DataLoader(lanes(Numbers([8]), prepare=none, share=0.5), batch_size=None))
    assert end[FAILURE].startswith("a batch of 4 is more than the rows of 's0'")

    def some(number):
        return number if number % 3 else none(number)

    *_, end = itertools.islice(lanes(Numbers([90] * 5), prepare=some, share=0.3), 10**4)
    unusable, read = map(int, re.match(r"(\d+) of ([\d]+) images that one reader read do not", end[FAILURE]).groups())
    assert unusable == 301 and unusable > 0.3 * FEW and read < FEW  # it need not be told more of them


def test_what_is_left_of_a_damaged_shard_counts_as_one(tmp_path):
    stream = lanes(Numbers(spoilt={103: InputError("the shard is damaged")}), share=0.01)
    numbers = sum(batches(stream, 11), [])
    assert {number for number in numbers if 100 <= number < 200} <= {100, 101, 102}
    stream.save(tmp_path)
    assert listed_in(tmp_path) == [["s1 after 3 rows", "the shard is damaged"]]


def test_a_shard_that_cannot_be_had_ends_it():
    stream = lanes(Numbers(spoilt={103: ConnectionError("no route")}), workers=2)
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    end = next(batch for batch in itertools.islice(loader, 100) if FAILURE in batch)
    assert end[FAILURE] == "the stream cannot be read any further: no route"


def test_fewer_than_a_batch():
    *_, end = DataLoader(lanes(Numbers([3, 9]), processes=2), batch_size=None)
    assert end[FAILURE].startswith("a batch of 4 is more than the rows of 's0', which one reader")


def test_a_position_is_small_and_json():
    first = next(iter(lanes()))
    assert len(first[POSITION]) < 300 and json.loads(first[POSITION])["given"] == 4


def test_workers_that_take_no_signals_end_with_their_process():
    """At its exit Python sends them SIGTERM, and waits."""
    script = """
import multiprocessing, sys
from torch.utils.data import DataLoader
from hf_replearn.training.stopping import Undisturbed
over = multiprocessing.RawValue("b", 0)
loader = DataLoader(range(100), num_workers=2, worker_init_fn=Undisturbed(None, over), persistent_workers=True)
kept = iter(loader)
next(kept), next(kept)  # of one worker each, so that both have begun
for worker in multiprocessing.active_children():
    worker.terminate()
    worker.join(1)
    assert worker.is_alive()
over.value = 1
multiprocessing.util._exit_function()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
