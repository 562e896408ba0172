"""No test looks anything up on the Hub, and none writes to the user's caches."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_DATASETS_CACHE"] = os.path.join(tempfile.gettempdir(), f"hf_replearn_tests_{os.getpid()}")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tests are small: threads would only wait for one another

import shutil
import warnings

import pytest


@pytest.fixture(autouse=True, scope="session")
def _remove_caches():
    yield
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)
    warnings.simplefilter("default")
