import shutil
from pathlib import Path

import pytest
import trials


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "d"
    trials.make_data(folder)
    return folder


@pytest.fixture(scope="session")
def whole(data, tmp_path_factory):
    """The folder of an undisturbed run, made once for each recipe, number of processes and further arguments."""
    made = {}

    def run(recipe: str, *more: str, processes: int = 1, sharded: bool = False) -> Path:
        key = (recipe, processes, sharded, *more)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"whole_{recipe}")
            given = trials.arguments(recipe, data, folder / "out", *more)
            blow = trials.shards() if sharded else None
            started = trials.start(recipe, given, folder / "log", processes=processes, blow=blow)
            assert started.wait() == [0] * processes, started.printed()[-3000:]
            made[key] = folder / "out"
        return made[key]

    return run


@pytest.fixture
def copied(whole, tmp_path):
    """A copy of an undisturbed run's folder, as it was before its last checkpoint and its result were written."""

    def copy(recipe: str, *more: str) -> Path:
        out = tmp_path / "copy"
        shutil.copytree(whole(recipe, *more), out)
        for path in out.iterdir():
            if path.is_dir() and not path.name.startswith("checkpoint-"):
                shutil.rmtree(path)
            elif path.name not in ("recipe.yaml", "log.jsonl") and path.is_file():
                path.unlink()
        shutil.rmtree(out / f"checkpoint-{trials.STEPS}")
        return out

    return copy
