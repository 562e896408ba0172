"""A Hub that is overloaded, drops connections or refuses: nothing is lost, and one command pushes later."""

import os
import subprocess
import sys

import pytest
from loopback_hub import LoopbackHub

from hf_replearn.cli import main as hf_replearn
from hf_replearn.sharing.card import card

PUSH = """
import time
time.sleep = lambda seconds: None  # the client of the Hub tries some requests again itself
from hf_replearn.settings import run
from hf_replearn.sharing import hub
from hf_replearn.recipes.push import PushSettings, main
hub.PAUSES = (0.1, 0.1)
run(main, PushSettings, ["out", "--hub_model_id", "tester/x"])
"""


class FaultyHub(LoopbackHub):
    """Answers the next commits with `statuses`; None breaks the connection."""

    statuses: list = []

    def answer(self, method, path, token, body):
        if "/commit/" in path and self.statuses:
            status = self.statuses.pop(0)
            if status is None:
                raise ConnectionAbortedError
            return status, {}, {"error": "no"}
        return super().answer(method, path, token, body)


@pytest.fixture
def pushed(tmp_path, report):
    """Pushes a result against a Hub with these faults; returns the process and what arrived."""

    def push(*statuses):
        (tmp_path / "out").mkdir()
        report.save(tmp_path / "out")
        (tmp_path / "out" / "README.md").write_text(card(report, tmp_path / "out"), encoding="utf-8")
        (tmp_path / "out" / "model.safetensors").write_bytes(b"weights")
        with FaultyHub(home=tmp_path / "home") as hub:
            hub.statuses = list(statuses)
            environment = os.environ | hub.environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            done = subprocess.run(
                [sys.executable, "-c", PUSH], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            return done, hub.repositories["tester/x"].files

    return push


@pytest.mark.parametrize("statuses", [(500,) * 8, (None, 429)])
def test_tried_again_until_it_is_taken(statuses, pushed):
    done, arrived = pushed(*statuses)
    assert done.returncode == 0, done.stderr
    assert arrived["model.safetensors"] == b"weights" and b"tester/x" in arrived["README.md"]
    assert len(statuses) < 8 or "tried again" in done.stderr


@pytest.mark.parametrize(("statuses", "reason"), [((500,) * 99, "status 500"), ((403,), "status 403")])
def test_the_exit_code_and_the_command_for_later(statuses, reason, pushed, tmp_path):
    done, arrived = pushed(*statuses)
    assert done.returncode == 69
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ") and reason in error
    assert error.endswith("push it later: hf-replearn push out --hub_model_id tester/x")
    assert "model.safetensors" not in arrived
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"weights"
    assert LoopbackHub.token not in done.stdout + done.stderr


def test_a_folder_without_a_result(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        hf_replearn(["push", str(tmp_path)])
    assert end.value.code == 2
    assert "has no report.json" in capsys.readouterr().err
