"""The tests of the CPU see no GPU, on whatever machine they run, and neither do the processes that they start."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hf_replearn.training.settings import has_bf16


def test_no_gpu_is_seen():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert torch.cuda.device_count() == 0
    assert not torch.cuda.is_initialized()


def test_nor_by_processes_that_tests_start():
    code = "import torch; print(torch.cuda.device_count())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "0\n"


def test_those_of_a_gpu_see_it(monkeypatch):
    """`-m gpu` leaves the devices as they are; everything else hides them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    spec = importlib.util.spec_from_file_location("root_conftest", Path(__file__).with_name("conftest.py"))
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    for expression, seen in (("gpu", "7"), ("not slow", ""), ("", "")):
        conftest.pytest_configure(SimpleNamespace(getoption=lambda name, value=expression: value))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),  # which is slower so
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, False),
        ({}, False),  # of another architecture
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_is_faster_so(known, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert has_bf16("cpu") is expected
