"""What a step needs is told from shapes alone."""

import pytest
import torch
from torch import nn

from hf_replearn.errors import InputError
from hf_replearn.training.memory import check_memory, total_memory


def wide():
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())


def test_what_fits_is_silent_and_what_cannot_fit_is_refused(monkeypatch):
    cpu = torch.device("cpu")
    check_memory(wide, (2, 3, 32, 32), examples=256, device=cpu, lower="--x")
    with pytest.raises(
        InputError, match=r"a step needs at least [\d,.]+ GB of memory, and there are [\d,.]+ GB: lower --x"
    ):
        check_memory(wide, (2, 3, 4096, 4096), examples=1024, device=cpu, lower="--x")
    # By hand: the input, of 3 channels, and three maps of 64; a lower bound counts the half of what is kept.
    kept = 4 * 64 * 64 * (3 + 64 + 64 + 64)
    monkeypatch.setattr("hf_replearn.training.memory.total_memory", lambda device: kept * 100 // 2 + 4 * 4 * 40_000)
    check_memory(wide, (2, 3, 64, 64), examples=100, device=cpu, lower="--x")
    with pytest.raises(InputError):
        check_memory(wide, (2, 3, 64, 64), examples=110, device=cpu, lower="--x")


def test_the_memory_of_the_machine():
    assert total_memory(torch.device("cpu")) > 2**30
