"""The log of a run, whatever became of it in between."""

import json
from types import SimpleNamespace

import pytest

from hf_replearn.training.callbacks import JSONLines


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
