"""The wheel gives the same commands as a clone, and starting them is instant."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's content, and an environment in which Python finds it before the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True, cwd=folder
    )
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", *folder.glob("*.whl")], check=True)
    return folder / "site", os.environ | {"PYTHONPATH": str(folder / "site")}


def test_the_wheel_has_recipes_configs_and_profiles(installed):
    site, _ = installed
    inside = {path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.py")}
    inside |= {path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")}
    assert {name for name in inside if (site / "hf_replearn" / "recipes" / name).exists()} == inside
    assert (site / "hf_replearn" / "sharing" / "card_template.md").exists()


def test_the_command_of_the_wheel_runs(installed, tmp_path):
    site, environment = installed
    code = "import hf_replearn.recipes.simclr as r; print(r.__file__)"
    where = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert where.stdout.startswith(str(site))
    command = [
        sys.executable,
        "-m",
        "hf_replearn",
        "simclr",
        "--dataset",
        "toy",
        "--output_dir",
        "out",
        "--print_config",
    ]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "dataset: toy" in run.stdout


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("import hf_replearn", 0.1),
        ("from hf_replearn.cli import main; main(['--help'])", 0.3),
        ("from hf_replearn.cli import main; main(['simclr', '--help'])", 0.3),
    ],
)
def test_starting_is_instant(code, limit):
    """CPU seconds beyond those of an empty interpreter, so that a busy machine changes little."""

    def seconds(code: str) -> float:
        times = []
        for _ in range(5):
            before = os.times()
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
            after = os.times()
            times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        return statistics.median(times)

    assert seconds(code) - seconds("pass") < limit
