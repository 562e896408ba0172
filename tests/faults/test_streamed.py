"""Runs on images that are streamed: killed and told to stop, with what is wrong in the middle of a shard."""

import json
import signal

import pytest
import shards as make
import trials
from test_killed import at_step, killed_and_run_again
from test_told_to_stop import told

STREAM = ["--streaming", "--shuffle_buffer", "6"]


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """Ten images are in each of four shards; three do not decode."""
    folder = tmp_path_factory.mktemp("stream")
    make.write_tars(folder / "images")
    members = {f"{number:05}.png": make.png(number) for number in range(10, 20)}
    make.write_tar(folder / "images" / "train-001.tar", members | {"00013.png": b"", "00014.png": b"no picture"})
    return folder


@pytest.fixture(scope="module")
def undisturbed(tars, tmp_path_factory):
    made = {}

    def run(*more: str, processes: int = 1):
        if (more, processes) not in made:
            folder = tmp_path_factory.mktemp("whole")
            given = trials.arguments("simclr", tars, folder / "out", *STREAM, *LENIENT, *more)
            started = trials.start("simclr", given, folder / "log", processes=processes)
            assert started.wait() == [0] * processes, started.printed()[-3000:]
            made[more, processes] = folder / "out"
        return made[more, processes]

    return run


LENIENT = ["--max_undecodable", "0.1"]
WORKERS = ["--dataloader_num_workers", "2"]


@pytest.mark.parametrize(("more", "processes"), [pytest.param([], 1, marks=pytest.mark.slow), (WORKERS, 2)])
def test_killed_it_ends_with_the_same_bits(more, processes, undisturbed, tars, tmp_path):
    """The 38 images that decode are four batches, and seven are trained on: killed in the second pass."""
    more = [*more, *(["--per_device_train_batch_size", "4"] if processes > 1 else [])]
    out = killed_and_run_again("simclr", at_step(6), tars, tmp_path, *STREAM, *LENIENT, *more, processes=processes)
    assert trials.digest(out) == trials.digest(undisturbed(*more, processes=processes))
    epochs = [json.loads(line)["epoch"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert epochs == sorted(epochs) and epochs[-1] == 1.0  # of the run, since a stream has none


def test_told_to_stop_its_workers_live_on_until_it_has_saved(undisturbed, tars, tmp_path):
    given = trials.arguments("simclr", tars, tmp_path / "out", *STREAM, *LENIENT, *WORKERS)
    stopped = trials.start("simclr", given, tmp_path / "log", blow=told(signal.SIGTERM, whole_group=True))
    assert stopped.wait() == [75], stopped.printed()[-3000:]
    again = trials.start("simclr", given, tmp_path / "again")
    assert again.wait() == [0], again.printed()[-3000:]
    assert trials.digest(tmp_path / "out") == trials.digest(undisturbed(*WORKERS))


def test_what_is_left_out_is_counted_and_listed(undisturbed):
    out = undisturbed()
    lines = (out / "skipped_images.txt").read_text().splitlines()
    assert {line.split(" (")[0] for line in lines} == {"train-001.tar row 3", "train-001.tar row 4"}
    data = json.loads((out / "report.json").read_text())["data"]
    assert data["skipped"] == len(lines) >= 2 and data["train"] is None
    logs = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    counts = [log["undecodable"] for log in logs if "loss" in log]
    assert counts[-1] == len(lines) and counts == sorted(counts)


def test_a_shard_is_damaged_while_it_trains(tars, tmp_path):
    """What is left of it is one more that is left out, and the run goes to its end."""
    make.write_tars(tmp_path / "images")

    def blow():
        from hf_replearn.training.trainer import PretrainingTrainer

        path = tmp_path / "images" / "train-002.tar"
        trials.before(PretrainingTrainer, "train", lambda: path.write_bytes(path.read_bytes()[:6000]))

    given = trials.arguments("simclr", tmp_path, tmp_path / "out", *STREAM)
    run = trials.start("simclr", given, tmp_path / "log", blow=blow)
    assert run.wait() == [0], run.printed()[-3000:]
    [line, *_] = (tmp_path / "out" / "skipped_images.txt").read_text().splitlines()
    assert line.startswith("train-002.tar after ") and "the shard is damaged" in line


def test_a_shard_is_gone_while_it_trains(tmp_path):
    make.write_tars(tmp_path / "images")

    def blow():
        from hf_replearn.training.trainer import PretrainingTrainer

        trials.after(PretrainingTrainer, "training_step", (tmp_path / "images" / "train-002.tar").unlink, calls=1)

    given = trials.arguments("simclr", tmp_path, tmp_path / "out", "--streaming", "--shuffle_buffer", "1")
    run = trials.start("simclr", given, tmp_path / "log", blow=blow)
    assert run.wait() == [1], run.printed()[-3000:]
    assert "error: the stream cannot be read any further: " in run.printed() and "Traceback" not in run.printed()
    assert "checkpoint-2 is the last good checkpoint" in run.printed()


def ended(tars, tmp_path, *more: str) -> str:
    """The line that a run ends with, which nothing was trained in."""
    run = trials.start("simclr", trials.arguments("simclr", tars, tmp_path / "out", *more), tmp_path / "log")
    assert run.wait() == [2], run.printed()[-3000:]
    return run.printed().splitlines()[-1]


REFUSED = [
    (["--streaming", "--max_steps", "-1"], "--streaming needs --max_steps or --max_minutes: a stream has no known"),
    (["--streaming", "--data_on_device", "on"], "--data_on_device on: a stream is not kept anywhere"),
    (["--streaming", "--label_column", "cls"], "labels of a stream are not read: leave --label_column"),
    (["--streaming", "--label_type", "classes"], "labels of a stream are not read: leave --label_column"),
    (["--shuffle_buffer", "6"], "--shuffle_buffer is of --streaming"),
    ([*STREAM, *LENIENT, "--dataloader_num_workers", "5"], "4 shards for 5 readers"),
    ([*STREAM, *LENIENT, "--per_device_train_batch_size", "64"], "a batch of 64 images is larger than the data, 40"),
    (
        [*STREAM, *LENIENT, "--per_device_train_batch_size", "16", "--dataloader_num_workers", "4"],
        "a batch of 16 is more than the images that decode of 'train-000.tar', which one reader has to itself",
    ),
    ([*STREAM], "2 of 40 images (5.0%)"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED)
def test_what_is_refused(more, said, tars, tmp_path):
    assert said in ended(tars, tmp_path, *more)
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_other_readers_begin_anew_if_allowed(undisturbed, tars, tmp_path):
    given = trials.arguments("simclr", tars, tmp_path / "out", *STREAM, *LENIENT)
    assert trials.start("simclr", given, tmp_path / "log", blow=at_step(5)).wait() == [-9]
    other = trials.start("simclr", [*given, *WORKERS], tmp_path / "log")
    assert other.wait() == [2] and "(images looked at, of a stream of 4 shards), 0 workers" in other.printed()
    allowed = trials.start("simclr", [*given, *WORKERS, "--allow_change"], tmp_path / "log")
    assert allowed.wait() == [0], allowed.printed()[-3000:]
    assert "warning: the stream begins anew: other processes, workers or shards read it before" in allowed.printed()
