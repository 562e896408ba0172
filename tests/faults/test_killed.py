"""Killed at any point, the same command ends with the same bits as the run that was left alone."""

import shutil

import pytest
import trials
from trials import after, before, die


def at_step(step: int, *, rank=None):
    """Killed when the gradients of a micro-step have just been computed; steps count from 1."""

    def blow():
        from hf_replearn.training.trainer import PretrainingTrainer

        after(PretrainingTrainer, "training_step", die, calls=step, rank=rank)

    return blow


def killed_and_run_again(recipe, blow, data, tmp_path, *more, processes=1):
    """The folder of a run that was dealt a blow and started again with the same command."""
    given = trials.arguments(recipe, data, tmp_path / "out", *more)
    first = trials.start(recipe, given, tmp_path / "first", processes=processes, blow=blow)
    assert -9 in first.wait(), first.printed()[-3000:]  # a test whose blow missed would prove nothing
    again = trials.start(recipe, given, tmp_path / "again", processes=processes)
    assert again.wait() == [0] * processes, again.printed()[-3000:]
    return tmp_path / "out"


STATES = {  # what a method keeps besides weights that are trained: a teacher, a queue, a centre and crops of two sizes
    "byol": ["--projection_hidden", "16", "--predictor_hidden", "16"],
    "moco": ["--version", "2", "--queue_size", "40", "--projection_hidden", "16"],
    "dino": ["--local_crops", "2", "--prototypes", "32", "--projection_hidden", "16"],
}


WITH_WORKERS = [
    pytest.param(recipe, "2", marks=pytest.mark.slow)
    for recipe in trials.PRETRAINING  # test_workers_outlive_epochs
]


@pytest.mark.parametrize(("recipe", "workers"), [*((recipe, "0") for recipe in trials.PRETRAINING), *WITH_WORKERS])
def test_mid_epoch(recipe, workers, whole, data, tmp_path):
    """Forty rows of eight: step 6 opens the second epoch, so that step 7 is in the middle of it."""
    more = ["--dataloader_num_workers", workers]
    out = killed_and_run_again(recipe, at_step(7), data, tmp_path, *more)
    assert trials.digest(out) == trials.digest(whole(recipe))  # the same with any number of workers


def test_mid_accumulation(whole, data, tmp_path):
    more = ["--gradient_accumulation_steps", "3"]
    out = killed_and_run_again("masked_lm", at_step(3 * 5 + 2), data, tmp_path, *more)
    assert trials.digest(out) == trials.digest(whole("masked_lm", *more))


@pytest.mark.parametrize("recipe", [name for name in STATES if name in trials.SETTINGS])
@pytest.mark.slow
def test_teachers_and_queues_of_two_processes(recipe, whole, data, tmp_path):
    out = killed_and_run_again(recipe, at_step(4), data, tmp_path, *STATES[recipe], processes=2)
    assert trials.digest(out) == trials.digest(whole(recipe, *STATES[recipe], processes=2))


def test_cached_gradients(whole, data, tmp_path):
    more = ["--negatives", "16"]
    out = killed_and_run_again("simclr", at_step(4), data, tmp_path, *more)
    assert trials.digest(out) == trials.digest(whole("simclr", *more))


def test_a_stream_that_began_again(whole, data, tmp_path):
    """The 24 batches are more than the text has."""
    more = ["--streaming", "--max_steps", "24", "--save_steps", "5"]
    out = killed_and_run_again("causal_lm", at_step(23), data, tmp_path, *more)
    assert trials.digest(out) == trials.digest(whole("causal_lm", *more))
    assert trials.digest(out) != trials.digest(whole("causal_lm"))


@pytest.mark.slow
def test_again_and_again(whole, data, tmp_path):
    given = trials.arguments("causal_lm", data, tmp_path / "out")
    for step in (1, 3, 3, 1, 2):  # counted from each start
        killed = trials.start("causal_lm", given, tmp_path / "log", blow=at_step(step))
        assert killed.wait() == [-9], killed.printed()[-3000:]
    last = trials.start("causal_lm", given, tmp_path / "log")
    assert last.wait() == [0], last.printed()[-3000:]
    assert trials.digest(tmp_path / "out") == trials.digest(whole("causal_lm"))


def moments_of_a_save():
    """After each file of the third save, between the manifest and its name, and in the removal of old checkpoints."""
    from transformers import TrainerState

    from hf_replearn.training import checkpoints
    from hf_replearn.training.trainer import PretrainingTrainer

    return {
        "before it": lambda: before(PretrainingTrainer, "_save", die, calls=3),
        "weights": lambda: after(PretrainingTrainer, "_save", die, calls=3),
        "optimizer": lambda: after(PretrainingTrainer, "_save_optimizer_and_scheduler", die, calls=3),
        "random state": lambda: after(PretrainingTrainer, "_save_rng_state", die, calls=3),
        "trainer state": lambda: after(TrainerState, "save_to_json", die, calls=3),
        "unnamed manifest": lambda: before(checkpoints.os, "replace", die, calls=1 + 3),  # the first is recipe.yaml
        "manifest": lambda: after(checkpoints.os, "replace", die, calls=1 + 3),
        "in rotation": lambda: before(checkpoints.shutil, "rmtree", die),
        "after rotation": lambda: after(checkpoints.shutil, "rmtree", die),
    }


QUICK = ("weights", "manifest", "in rotation")


@pytest.mark.parametrize(
    "moment",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in moments_of_a_save()],
)
def test_during_a_save(moment, whole, data, tmp_path):
    """save_total_limit 1: the last good checkpoint is the only one, and must outlive the save of the next."""
    out = killed_and_run_again("masked_lm", moments_of_a_save()[moment], data, tmp_path, "--save_total_limit", "1")
    assert trials.digest(out) == trials.digest(whole("masked_lm"))
    printed = (tmp_path / "again").read_text()
    cut_short = moment not in ("before it", "manifest", "in rotation", "after rotation")
    assert ("checkpoint-6 is not used: its save was cut short" in printed) == cut_short


def test_while_the_log_and_the_result_are_written(whole, data, tmp_path):
    out, given = tmp_path / "out", trials.arguments("causal_lm", data, tmp_path / "out")

    def blow():
        from hf_replearn.sharing.report import Report

        before(Report, "save", die)  # when the model and its tokenizer are there

    killed = trials.start("causal_lm", given, tmp_path / "first", blow=blow)
    killed.wait()
    with (out / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    (out / "config.json").write_text("{")
    again = trials.start("causal_lm", given, tmp_path / "again")
    assert again.wait() == [0], again.printed()[-3000:]
    assert trials.digest(out) == trials.digest(whole("causal_lm"))


@pytest.mark.parametrize("recipe", ["simclr", pytest.param("masked_lm", marks=pytest.mark.slow)])
def test_one_of_two_processes_dies(recipe, whole, data, tmp_path):
    """The other ends by itself within the minute (when it has a core of its own), and the run goes on."""
    out = killed_and_run_again(recipe, at_step(4, rank=1), data, tmp_path, processes=2)
    assert trials.digest(out) == trials.digest(whole(recipe, processes=2))


def test_both_processes_die_during_a_save(whole, data, tmp_path):
    def blow():
        from hf_replearn.training.trainer import PretrainingTrainer

        after(PretrainingTrainer, "_save_rng_state", die, calls=2)

    out = killed_and_run_again("causal_lm", blow, data, tmp_path, processes=2)
    assert trials.digest(out) == trials.digest(whole("causal_lm", processes=2))


def test_two_processes_and_a_stream(whole, data, tmp_path):
    more = ["--streaming"]
    out = killed_and_run_again("causal_lm", at_step(6), data, tmp_path, *more, processes=2)
    assert trials.digest(out) == trials.digest(whole("causal_lm", *more, processes=2))


def test_a_run_is_the_same_twice_and_another_is_not(whole, data, tmp_path):
    """What the tests above compare with does tell runs apart."""
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    given = trials.arguments("masked_lm", data, tmp_path / "out", "--seed", "1")
    assert trials.start("masked_lm", given, tmp_path / "log").wait() == [0]
    assert trials.digest(tmp_path / "out") != trials.digest(whole("masked_lm"))
