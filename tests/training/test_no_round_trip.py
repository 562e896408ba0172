"""Tests on a pretended GPU, or that compile, in a process of their own: autograd then starts threads for a GPU, after
which no process that is forked can train any more, as those of other tests do."""

import os
import subprocess
import sys
from pathlib import Path

FILES = [
    "no_round_trip.py",
    "no_wait_for_views.py",
    "../test_augmentation.py::test_all_at_once_is_one_graph_for_all_batches_of_a_size",
]


def test_the_host_waits_for_nothing():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, *(str(Path(__file__).parent / file) for file in FILES)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "OWN_PROCESS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-5000:]
