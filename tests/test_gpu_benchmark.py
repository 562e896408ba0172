"""The benchmark for a GPU runs, tiny and on the CPU, so that it can be relied on where there is one."""

import importlib.util
import json
import sys

import pytest

from benchmarks import gpu

QUICK = ["views", "masked_lm", "masked_lm_seconds", "documents", "cifar10"]
LIGHTLY = importlib.util.find_spec("lightly") is not None


def dry_run(monkeypatch, output, *arguments: str) -> dict[str, dict]:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments, "--dry_run", "--output", str(output)])
    gpu.main()
    return json.loads(output.read_text())["rows"] if output.exists() else {}


@pytest.mark.slow
def test_rows_are_measured_and_written(tmp_path, monkeypatch, capsys):
    rows = dry_run(monkeypatch, tmp_path / "gpu.json", "toy", "--rows", *QUICK)
    assert list(rows) == QUICK
    speeds = rows["masked_lm"]["tokens_per_second"]
    assert rows["masked_lm"]["ratio"] == pytest.approx(speeds["hf_replearn"] / speeds["Trainer"])
    found = rows["masked_lm_seconds"]["seconds_to_the_reference_s_final_loss"]
    assert found["Trainer"] > 0 and len(rows["masked_lm_seconds"]["tuning"]) == 3
    assert all(ms > 0 for ms in rows["views"]["ms"].values()) and len(rows["views"]["ms"]) == 4
    assert rows["cifar10"]["settings_are_valid"]
    assert all({"aim", "seconds", "setting", "machine"} <= row.keys() for row in rows.values())
    assert capsys.readouterr().out.splitlines()[-1].startswith('{"views": ')


def test_what_cannot_be_measured_is_named_and_a_failure_costs_one_row(tmp_path, monkeypatch, capsys):
    def fails(bench):
        raise ZeroDivisionError

    assert dry_run(monkeypatch, tmp_path / "none.json", "--rows", "masked_lm_seconds") == {}
    assert "masked_lm_seconds: left out: it needs TEXT" in capsys.readouterr().out
    assert dry_run(monkeypatch, tmp_path / "none.json", "--rows", "views", "--minutes", "0.5") == {}
    assert "views: left out: it takes 35 s, and 30 s are left" in capsys.readouterr().out
    monkeypatch.setitem(gpu.ROWS, "views", gpu.Row(fails, 1, ""))
    with pytest.raises(SystemExit, match="failed: views"):
        dry_run(monkeypatch, tmp_path / "gpu.json", "--rows", "views", "cifar10")
    assert list(json.loads((tmp_path / "gpu.json").read_text())["rows"]) == ["cifar10"]


def test_all_rows_fit_into_eight_minutes():
    assert sum(gpu.ROWS[name].seconds for name in gpu.TABLE if not name.endswith("_others")) <= 8 * 60


@pytest.mark.slow
def test_the_other_rows(tmp_path, monkeypatch):
    others = [name for name in gpu.ROWS if name not in QUICK]
    rows = dry_run(monkeypatch, tmp_path / "gpu.json", "toy", "--rows", *others)
    assert set(rows) == {name for name in others if LIGHTLY or gpu.ROWS[name].needs != "lightly"}
    assert len(rows["causal_lm_others"]["tokens_per_second"]) == 6
