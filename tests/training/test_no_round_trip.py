"""The tests of no_round_trip.py, in a process of their own: autograd starts threads for the pretended GPU, after which
no process that is forked can train any more, as those of other tests do."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_host_waits_for_nothing():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("no_round_trip.py"))],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-5000:]
