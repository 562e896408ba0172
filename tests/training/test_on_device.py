"""Batches on the device: what stays there, and what is copied while a step runs."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from hf_replearn.errors import InputError
from hf_replearn.training import on_device
from hf_replearn.training.on_device import Ahead, HeldRows, held_on_device

ROWS = [{"level": level} for level in range(5)]  # a byte and four more of each
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def collate(rows):
    levels = torch.tensor([row["level"] for row in rows])
    return {"pixel_values": levels.to(torch.uint8)[:, None], "aspect": levels / 2}


@pytest.fixture
def memory(monkeypatch):
    """Of so many bytes, on any device; tensors for a GPU are on the CPU."""

    def has(total: int, free: int | None = None):
        monkeypatch.setattr(on_device, "total_memory", lambda device: total)
        monkeypatch.setattr(on_device, "available_memory", lambda: total if free is None else free)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (total if free is None else free, total))
        monkeypatch.setattr(on_device, "HeldRows", lambda rows, collate, device: HeldRows(rows, collate, CPU))

    return has


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_taken_by_their_numbers(workers):
    state = torch.get_rng_state()
    held = HeldRows(ROWS, collate, CPU).fill(workers=workers, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    taken = held.batch(held.numbers([held[4], held[1]]))
    expected = collate([ROWS[4], ROWS[1]])
    assert len(held) == 5 and taken.keys() == expected.keys()
    assert all(torch.equal(taken[name], expected[name]) and taken[name].dtype == expected[name].dtype for name in taken)


def test_up_to_a_quarter_of_a_gpu(memory):
    memory(100)  # the rows are 25 bytes
    held, said = held_on_device(ROWS, collate, asked="auto", device=GPU, processes=8)
    assert isinstance(held, HeldRows) and "no more than a quarter" in said
    memory(99)
    held, said = held_on_device(ROWS, collate, asked="auto", device=GPU)
    assert held is None and said.endswith("more than a quarter")


def test_never_on_a_cpu_unless_asked(memory):
    memory(100)
    held, said = held_on_device(ROWS, collate, asked="auto", device=CPU)
    assert held is None and said.endswith("on a CPU; with --data_on_device on each is decoded once")
    assert isinstance(held_on_device(ROWS, collate, asked="on", device=CPU)[0], HeldRows)
    assert held_on_device(ROWS, collate, asked="off", device=CPU)[0] is None
    assert "decoded once" not in held_on_device(ROWS, collate, asked="auto", device=CPU, processes=2)[1]


@pytest.mark.parametrize(("device", "processes", "free"), [(CPU, 1, 24), (CPU, 2, 49), (GPU, 1, 24)])
def test_asked_for_without_room(device, processes, free, memory):
    memory(100, free + 1)
    assert held_on_device(ROWS, collate, asked="on", device=device, processes=processes)[0] is not None
    memory(100, free)
    with pytest.raises(InputError, match="--data_on_device on: the images are .* are free: say auto or off"):
        held_on_device(ROWS, collate, asked="on", device=device, processes=processes)


def test_the_next_batch_is_on_its_way_before_a_batch_is_used(monkeypatch):
    """A GPU's streams, written down: each batch is waited for, kept while it is used, and the next is copied beside."""
    events = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            events.append(f"{self.name} waits for {other.name}")

    copying, computing, now = Stream("copying"), Stream("computing"), []

    @contextmanager
    def stream(entered):
        now.append(entered.name)
        yield
        now.pop()

    class Batch(torch.Tensor):
        def to(self, device, non_blocking):
            assert device == GPU and non_blocking and now == ["copying"]
            events.append(f"copy {self.item()}")
            return self

        def record_stream(self, kept_for):
            events.append(f"{kept_for.name} keeps {self.item()}")

    fake = SimpleNamespace(Stream=lambda device: copying, current_stream=lambda device: computing, stream=stream)
    monkeypatch.setattr(on_device.torch, "cuda", fake)
    batches = Ahead(iter([{"x": torch.tensor(n).as_subclass(Batch), "name": str(n)} for n in range(3)]), GPU)
    for batch in batches:
        events.append(f"step {batch['name']}")
    of_each = [
        ["computing waits for copying", f"computing keeps {n}", *[f"copy {n + 1}"] * (n < 2), f"step {n}"]
        for n in range(3)
    ]
    assert events == ["copy 0", *sum(of_each, [])]


def test_on_a_cpu_batches_are_as_they_come():
    batches = [{"x": torch.tensor(1)}, {"x": torch.tensor(2)}]
    assert [found is given for found, given in zip(Ahead(iter(batches), CPU), batches, strict=True)] == [True, True]
