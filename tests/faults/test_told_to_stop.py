"""SIGTERM and SIGINT: the step is finished, saved, and the exit code says that the same command goes on."""

import importlib
import json
import os
import signal

import pytest
import trials
from trials import after, arguments, start

from hf_replearn.training.checkpoints import problem

ENDED = "stopped by {}: what was written is kept; run the same command again to go on\n"


def told(number: signal.Signals, *, times: int = 1, whole_group: bool = False, rank: int | None = None):
    """A signal in the third step, to this process or to its loader's workers too."""

    def send():
        for _ in range(times):
            os.killpg(0, number) if whole_group else os.kill(os.getpid(), number)

    def blow():
        from hf_replearn.training.trainer import PretrainingTrainer

        if whole_group:
            os.setpgid(0, 0)
        after(PretrainingTrainer, "training_step", send, calls=3, rank=rank)

    return blow


@pytest.mark.parametrize(
    ("recipe", "number", "more"),
    [
        pytest.param("causal_lm", signal.SIGTERM, [], marks=pytest.mark.slow),
        pytest.param("masked_lm", signal.SIGTERM, ["--dataloader_num_workers", "2"], marks=pytest.mark.slow),
        ("simclr", signal.SIGINT, ["--dataloader_num_workers", "2"]),
    ],
)
def test_saved_and_75(recipe, number, more, whole, data, tmp_path):
    given = arguments(recipe, data, tmp_path / "out", *more)
    stopped = start(recipe, given, tmp_path / "log", blow=told(number, whole_group=True))
    assert stopped.wait() == [75], stopped.printed()[-3000:]
    assert "stopped: stopped and saved after step 3 of 7: the same command goes on" in stopped.printed()
    assert problem(tmp_path / "out" / "checkpoint-3") is None
    assert not (tmp_path / "out" / "report.json").exists()  # a half-trained model is not passed off as a result
    again = start(recipe, given, tmp_path / "again")
    assert again.wait() == [0], again.printed()[-3000:]
    assert trials.digest(tmp_path / "out") == trials.digest(whole(recipe))


def test_a_time_budget_says_how_much_of_it_is_spent(data, tmp_path):
    given = [*arguments("masked_lm", data, tmp_path / "out"), "--max_steps", "-1", "--max_minutes", "300"]
    stopped = start("masked_lm", given, tmp_path / "log", blow=told(signal.SIGTERM))
    assert stopped.wait() == [75], stopped.printed()[-3000:]
    assert "saved after step 3, 0 % of 300 minutes: the same command" in stopped.printed()


def test_a_second_sigint_stops_at_once(data, tmp_path):
    given = arguments("masked_lm", data, tmp_path / "out")
    stopped = start("masked_lm", given, tmp_path / "log", blow=told(signal.SIGINT, times=2))
    assert stopped.wait() == [130]
    assert "stopping after this step, which is saved (Ctrl-C again stops now, without saving)" in stopped.printed()
    assert stopped.printed().endswith(ENDED.format("Ctrl-C"))
    assert "Traceback" not in stopped.printed()
    assert not (tmp_path / "out" / "checkpoint-3").exists()


def test_one_of_two_processes_is_told_and_both_stop(whole, data, tmp_path):
    given = arguments("masked_lm", data, tmp_path / "out")
    stopped = start("masked_lm", given, tmp_path / "log", processes=2, blow=told(signal.SIGTERM, rank=1))
    assert stopped.wait() == [75, 75], stopped.printed()[-3000:]
    again = start("masked_lm", given, tmp_path / "again", processes=2)
    assert again.wait() == [0, 0], again.printed()[-3000:]
    assert trials.digest(tmp_path / "out") == trials.digest(whole("masked_lm", processes=2))


@pytest.mark.parametrize(
    ("number", "code", "name", "place"),
    [
        (signal.SIGTERM, 75, "SIGTERM", "hf_replearn.pretraining.images.load_images"),
        (signal.SIGINT, 130, "Ctrl-C", "hf_replearn.pretraining.worth.suite"),
    ],
)
def test_outside_training_it_is_one_line(number, code, name, place, data, tmp_path):
    """While data are read, and while the encoder is judged."""

    def blow():
        module, _, function = place.rpartition(".")
        trials.before(importlib.import_module(module), function, lambda: os.kill(os.getpid(), number))

    given = arguments("simclr", data, tmp_path / "out", "--max_steps", "1", "--dataset", "toy", "--draws", "2")
    stopped = start("simclr", given, tmp_path / "log", blow=blow)
    assert stopped.wait() == [code], stopped.printed()[-3000:]
    assert stopped.printed().endswith(ENDED.format(name))
    assert "Traceback" not in stopped.printed()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Texts with labels, and a task of prompting on them."""
    folder = tmp_path_factory.mktemp("labelled")
    for split, count in (("train", 24), ("test", 12)):
        rows = [f"the {('sea', 'wind')[n % 2]} {n} over far night,{('calm', 'storm')[n % 2]}" for n in range(count)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (folder / "task.yaml").write_text(
        f"task: weather\ndataset_path: csv\ndataset_kwargs: {{data_files: {{train: {folder}/train.csv, "
        f"test: {folder}/test.csv}}}}\ntraining_split: train\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{text}}"\ndoc_to_choice: [calm, storm]\ndoc_to_target: label\n'
    )
    return folder


@pytest.mark.parametrize(
    ("recipe", "model", "number", "place", "file"),
    [
        ("finetune", "masked_lm", signal.SIGTERM, "hf_replearn.judging.ways.finetune", "scores.json"),
        ("evaluation", "masked_lm", signal.SIGINT, "hf_replearn.evaluation.contestants.pca", None),
        ("prompt", "causal_lm", signal.SIGTERM, "hf_replearn.evaluation.prompting.few_shot.few_shot", "results.json"),
    ],
)
def test_other_commands_keep_what_they_computed(recipe, model, number, place, file, whole, labelled, tmp_path):
    given = ["--use_cpu", "--model", str(whole(model)), "--output_dir", str(tmp_path / "out")]
    given += {
        "finetune": ["--dataset", str(labelled), "--seeds", "2", "--min_steps", "2", "--baseline", "false",
                     "--num_train_epochs", "0.1", "--bf16", "false"],
        "evaluation": ["--dataset", str(labelled), "--shots", "1"],
        "prompt": ["--tasks", str(labelled / "task.yaml"), "--shots", "0,1", "--seeds", "1", "--probe", "false"],
    }[recipe]  # fmt: skip

    def prepare():
        module, _, function = place.rpartition(".")
        trials.before(
            importlib.import_module(module), function, lambda: os.kill(os.getpid(), number), calls=1 + bool(file)
        )

    stopped = start(recipe, given, tmp_path / "log", blow=prepare)
    code, name = (75, "SIGTERM") if number == signal.SIGTERM else (130, "Ctrl-C")
    assert stopped.wait() == [code], stopped.printed()[-3000:]
    assert stopped.printed().endswith(ENDED.format(name))
    assert "Traceback" not in stopped.printed()
    if file:
        kept = json.loads((tmp_path / "out" / file).read_text())
        again = start(recipe, given, tmp_path / "again")
        assert again.wait() == [0], again.printed()[-3000:]
        whole_of_it = json.loads((tmp_path / "out" / file).read_text())
        if recipe == "finetune":
            assert len(kept["runs"]) == 1
            assert whole_of_it["runs"][0] == kept["runs"][0]
            assert len(whole_of_it["runs"]) == 2
        else:
            assert len(kept["tasks"]["weather"]["runs"]) == 1
            assert whole_of_it["tasks"]["weather"]["runs"][0] == kept["tasks"]["weather"]["runs"][0]
