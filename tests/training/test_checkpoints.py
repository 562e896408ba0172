"""What is sealed is used only bit by bit as it was; what is not is set aside, and nothing is lost."""

import os
import random
import resource

import pytest

from hf_replearn.errors import InputError
from hf_replearn.training import checkpoints
from hf_replearn.training.checkpoints import (
    MANIFEST,
    NOTE,
    UNFINISHED,
    check_room,
    newest,
    problem,
    read_manifest,
    rotate,
    seal,
)

FILES = {"model.safetensors": os.urandom(500), "optimizer.pt": os.urandom(900), "rng/state_0.pth": os.urandom(60)}


@pytest.fixture
def run(tmp_path):
    """A folder with checkpoints of steps 2, 9 and 10."""
    for step in (2, 9, 10):
        make(tmp_path, step)
    return tmp_path


def make(folder, step: int):
    checkpoint = folder / f"checkpoint-{step}"
    for name, data in FILES.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(data)
    seal(checkpoint, {"seed": step})
    return checkpoint


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_seal_holds_sizes_hashes_and_circumstances(run):
    content = read_manifest(run / "checkpoint-9")
    assert {name: file["size"] for name, file in content["files"].items()} == {n: len(d) for n, d in FILES.items()}
    assert content["circumstances"] == {"seed": 9}
    assert problem(run / "checkpoint-9") is None
    assert newest(run) == run / "checkpoint-10"  # and not 9, which is last in the alphabet


def test_every_single_bit_is_guarded(run):
    """One flipped bit anywhere, manifest included, 400 times."""
    checkpoint, rng = run / "checkpoint-10", random.Random(0)
    for _ in range(400):
        path = checkpoint / rng.choice([*FILES, MANIFEST])
        good = path.read_bytes()
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        assert "damaged" in problem(checkpoint)
        path.write_bytes(good)
    assert problem(checkpoint) is None


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("left", [None, 0, 0.5, 0.99])
def test_files_cut_short_or_deleted(name, left, run):
    path = run / "checkpoint-10" / name
    if left is None:
        path.unlink()
    else:
        os.truncate(path, int(left * path.stat().st_size))
    assert name in problem(path.parents[name.count("/")])
    with pytest.warns(UserWarning, match=f"checkpoint-10 is not used: .*{name}"):
        assert newest(run) == run / "checkpoint-9"


def test_what_was_damaged_is_kept_with_the_reason(run):
    for number in (1, 2):  # the run comes to step 10 again, and the disk fails again
        (run / "checkpoint-10" / "optimizer.pt").write_bytes(b"x" * 900)
        with pytest.warns(UserWarning, match="damaged"):
            assert newest(run) == run / "checkpoint-9"
        place = run / ("damaged-checkpoint-10" + ("-2" if number == 2 else ""))
        assert (place / "optimizer.pt").read_bytes() == b"x" * 900
        assert "optimizer.pt is damaged" in (place / NOTE).read_text()
        make(run, 10)


def test_a_save_that_was_cut_short_is_done_again_in_its_place(run):
    (run / "checkpoint-12").mkdir()
    (run / "checkpoint-12" / "model.safetensors").write_bytes(b"half")
    with pytest.warns(UserWarning, match="cut short"):
        assert newest(run) == run / "checkpoint-10"
    assert "cut short" in (run / "checkpoint-12" / NOTE).read_text()
    assert newest(make(run, 12).parent) == run / "checkpoint-12"


def test_the_mark_of_transformers_is_honoured(run):
    (run / "checkpoint-10" / UNFINISHED).write_text("x")
    assert UNFINISHED in problem(run / "checkpoint-10")


def test_no_good_checkpoint_at_all(tmp_path):
    assert newest(tmp_path) is None
    (make(tmp_path, 3) / "optimizer.pt").unlink()
    with pytest.warns(UserWarning, match="optimizer.pt is missing"):
        assert newest(tmp_path) is None


def test_rotation_counts_only_what_is_sealed(run):
    (run / "checkpoint-9" / MANIFEST).unlink()
    (run / "checkpoint-11").mkdir()  # of another run, further on
    rotate(run, keep=2, newest=run / "checkpoint-10")
    assert names(run) == {"checkpoint-2", "checkpoint-9", "checkpoint-10", "checkpoint-11"}
    rotate(run, keep=1, newest=run / "checkpoint-10")
    assert names(run) == {"checkpoint-10", "checkpoint-11"}


def test_nothing_is_removed_for_a_checkpoint_that_does_not_verify(run):
    (run / "checkpoint-10" / "optimizer.pt").write_bytes(b"x" * 900)
    with pytest.raises(OSError, match="does not hold what was written"):
        rotate(run, keep=1, newest=run / "checkpoint-10")
    assert names(run) == {"checkpoint-2", "checkpoint-9", "checkpoint-10"}


def test_room_is_asked_for_before(tmp_path, monkeypatch):
    check_room(tmp_path, checkpoint=10**6, keep=2)
    assert names(tmp_path) == set()
    with pytest.raises(InputError, match=r"needs 4\d+\.\d+ GB \(\d{17} bytes\).*are free: make room"):
        check_room(tmp_path, checkpoint=10**16, keep=2)

    def over_quota(*args):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(checkpoints.os, "posix_fallocate", over_quota)
    with pytest.raises(InputError, match=r"needs 4.00 MB \(4000000 bytes\).*but: Disk quota exceeded"):
        check_room(tmp_path, checkpoint=10**6, keep=2)


def test_what_is_there_already_needs_no_more_room(run, monkeypatch):
    """Three checkpoints are there: of 5 that are needed at most at a time, 2 are not."""
    size = sum(path.stat().st_size for path in (run / "checkpoint-9").rglob("*") if path.is_file())
    usage = type("Usage", (), {"free": 2 * size + 100})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: usage)
    check_room(run, checkpoint=size, keep=3)
    with pytest.raises(InputError, match="make room"):
        check_room(run, checkpoint=size, keep=4)


def test_a_largest_file_size_is_found_out(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        with pytest.raises(InputError, match=r"needs 8.00 MB .* a file may have 1.00 MB at most"):
            check_room(tmp_path, checkpoint=2 * 10**6, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
