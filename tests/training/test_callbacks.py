"""The log of a run, whatever became of it in between."""

import json
from types import SimpleNamespace

import pytest

from hf_replearn.training.callbacks import Estimate, JSONLines


def begun(folder, step: int) -> list[dict]:
    state = SimpleNamespace(is_world_process_zero=True, global_step=step)
    JSONLines(str(folder)).on_train_begin(None, state, None)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_resumed_log_ends_where_its_checkpoint_was(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": NaN}\n{"step": 3}\n{"ste')
    entries = begun(tmp_path, 2)
    assert [entry["step"] for entry in entries] == [1, 2]
    assert entries[1]["loss"] != entries[1]["loss"]


@pytest.mark.parametrize(
    "line", [b"\xff\xfe\x00", b"[1, 2]", b'{"loss": 3}', b'{"step": "2"}', b"null", b"[" * 100_000, b"{"]
)
def test_damaged_lines_do_not_stop_a_run(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n" + line + b'\n{"step": 2}\n')
    with pytest.warns(UserWarning, match="log.jsonl: 2 lines are damaged, and left out from now on"):
        assert begun(tmp_path, 5) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize(
    ("steps", "told"), [(10_000, ["9,996 more steps will take about 2.8 hours (1 s a step)"]), (500, [])]
)
def test_a_long_run_says_early_how_long_it_will_take(steps, told, monkeypatch, capsys):
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    monkeypatch.setattr("hf_replearn.training.callbacks.time.perf_counter", lambda: next(clock))
    estimate = Estimate()
    for step in range(1, 7):
        estimate.on_step_end(None, SimpleNamespace(global_step=step, max_steps=steps, is_world_process_zero=True), None)
    assert [line.partition(";")[0] for line in capsys.readouterr().out.splitlines() if line] == told


def test_a_run_that_begins_again_begins_its_log_again(tmp_path):
    """Killed before its first checkpoint, after the scores of step 0."""
    (tmp_path / "log.jsonl").write_text('{"step": 0, "rankme": 3.0}\n{"step": 1, "loss": 3.0}\n')
    assert begun(tmp_path, 0) == []
