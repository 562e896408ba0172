"""A folder belongs to one run."""

import errno
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from transformers import TrainingArguments

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings
from hf_replearn.training.checkpoints import seal
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.settings import PretrainingSettings, check_trackers


def test_the_same_run_goes_on_and_another_is_refused(tmp_path):
    settings = PretrainingSettings(output_dir=str(tmp_path / "run"), num_train_epochs=1.0)
    other = replace(settings, num_train_epochs=2.0)
    check_folder(settings)
    check_folder(other)  # a run that never started leaves the folder free
    claim_folder(settings)
    check_folder(replace(settings, logging_steps=3, push_to_hub=True))  # how it is carried out may change
    with pytest.raises(InputError, match=r"another run, with num_train_epochs 1.0 instead of 2.0.* --allow_change"):
        check_folder(other)
    with pytest.warns(UserWarning, match="it goes on, as --allow_change says"):
        check_folder(replace(other, allow_change=True))


def test_a_choice_that_a_recipe_does_not_have_is_not_offered(tmp_path):
    claim_folder(RunSettings(output_dir=str(tmp_path)))
    with pytest.raises(InputError, match="seed 42 instead of 43: choose another folder, or .* to go on with it$"):
        check_folder(RunSettings(output_dir=str(tmp_path), seed=43))
    check_folder(RunSettings(output_dir=str(tmp_path), seed=43), free=["seed"])
    with pytest.raises(InputError, match="with use_cpu False instead of True: choose"):
        check_folder(RunSettings(output_dir=str(tmp_path), seed=43, use_cpu=True), free=["seed"])


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        check_folder(PretrainingSettings(output_dir=str(tmp_path)))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory|File exists"):
        check_folder(PretrainingSettings(output_dir=str(tmp_path / "file" / "run")))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(InputError, match=r"run is a file: choose another name"):
        check_folder(PretrainingSettings(output_dir=str(tmp_path / "run")))
    assert (tmp_path / "run").read_text() == "precious"


def test_what_a_system_leaves_is_no_content(tmp_path):
    for name in (".DS_Store", "._recipe.yaml", "lost+found", ".lock", "report.json.partial"):
        (tmp_path / name).write_text("")
    check_folder(PretrainingSettings(output_dir=str(tmp_path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold `setting: value` lines"),
        (b"- a\n- b\n", "must hold `setting: value` lines"),
        (b"output_dir: [", "is not valid YAML"),
        (b"output_dir: caf\xe9\n", "is not UTF-8 text"),
        (b"seed: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_a_damaged_recipe_yaml(tmp_path, content, message):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(InputError) as error:
        check_folder(PretrainingSettings(output_dir=str(tmp_path)))
    assert message in str(error.value)
    assert str(error.value).endswith("put the file back, which the command of that run writes with --print_config")
    assert "\n" not in str(error.value)
    assert (tmp_path / "recipe.yaml").read_bytes() == content


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    """A setting that it did not know counts as its default; one that is no more is named, and no reason to refuse."""
    settings = PretrainingSettings(output_dir=str(tmp_path))
    claim_folder(settings)
    lines = (tmp_path / "recipe.yaml").read_text().splitlines()
    earlier = [line for line in lines if not line.startswith("bf16")] + ["a_setting_of_old: 3"]
    (tmp_path / "recipe.yaml").write_text("\n".join(earlier))
    with pytest.warns(UserWarning, match="was begun with what this version does not have: a_setting_of_old$"):
        check_folder(settings)
    with pytest.raises(InputError, match="bf16 None instead of True"), pytest.warns(UserWarning):
        check_folder(replace(settings, bf16=True))


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path):
    settings = PretrainingSettings(output_dir=str(tmp_path))
    now = circumstances(settings, data="a", processes=1)
    made(tmp_path, 5, **{name: value for name, value in now.items() if name != "full_determinism"})
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    assert find_checkpoint(settings, now, args=args) == str(tmp_path / "checkpoint-5")
    changed = now | {"full_determinism": True}
    with pytest.raises(InputError, match="full_determinism False instead of True"):
        find_checkpoint(replace(settings, full_determinism=True), changed, args=args)
    with pytest.raises(InputError, match="data 'a' instead of 'b'"):
        find_checkpoint(settings, now | {"data": "b"}, args=args)


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("hf_replearn.training.folder.fcntl.lockf", no_locks)
    with pytest.warns(UserWarning, match="on a file system without locks: start no second run in it"):
        check_folder(PretrainingSettings(output_dir=str(tmp_path)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"(?i)permission denied|not writable"):
        check_folder(PretrainingSettings(output_dir=str(tmp_path)))


def test_a_run_does_not_go_on_in_another_precision_on_another_machine(tmp_path, monkeypatch):
    settings = PretrainingSettings(output_dir=str(tmp_path), use_cpu=True)
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")

    def on_a_machine(fast: bool) -> dict:
        monkeypatch.setattr("hf_replearn.training.settings.has_bf16", lambda device: fast)
        return circumstances(settings, data="a", processes=1)

    made(tmp_path, 1, **on_a_machine(True))
    assert find_checkpoint(settings, on_a_machine(True), args=args) == str(tmp_path / "checkpoint-1")
    with pytest.raises(InputError, match="bf16 True instead of False"):
        find_checkpoint(settings, on_a_machine(False), args=args)
    made(tmp_path, 2, **on_a_machine(True) | {"bf16": None})  # of a version that did not write it
    assert find_checkpoint(settings, on_a_machine(False), args=args) == str(tmp_path / "checkpoint-2")


def made(folder, step: int, **circumstances):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text("{}")
    seal(checkpoint, circumstances)


def test_which_checkpoint(tmp_path):
    """The newest, or the one named, if it was made under the same circumstances."""
    now = {"seed": 1, "data": "a", "processes": 1}
    args = TrainingArguments(str(tmp_path), use_cpu=True)

    def found(resume, **changes):
        settings = PretrainingSettings(
            output_dir=str(tmp_path), resume=resume, allow_change=changes.pop("allow", False)
        )
        checkpoint = find_checkpoint(settings, now | changes, args=args)
        return checkpoint and os.path.basename(checkpoint)

    assert found("auto") is None
    for step in (5, 40, 100):
        made(tmp_path, step, **now)
    assert found("auto") == "checkpoint-100"
    assert found("never") is None
    assert found(str(tmp_path / "checkpoint-5")) == "checkpoint-5"
    with pytest.raises(InputError, match="not a checkpoint folder"):
        found("latest")
    with pytest.raises(InputError, match="data 'a' instead of 'b', processes 1 instead of 2: .* --allow_change"):
        found("auto", data="b", processes=2)
    with pytest.warns(UserWarning, match="data 'a' instead of 'b'"):
        assert found("auto", data="b", allow=True) == "checkpoint-100"
    (tmp_path / "checkpoint-5" / "trainer_state.json").write_text("{ }")
    with pytest.raises(InputError, match="trainer_state.json has 3 bytes instead of 2"):
        found(str(tmp_path / "checkpoint-5"))


def test_two_runs_at_once_in_one_folder(tmp_path):
    settings = PretrainingSettings(output_dir=str(tmp_path))
    check_folder(settings)
    check_folder(settings)  # the same process
    code = "from hf_replearn.training.folder import *; from hf_replearn.training.settings import *; "
    code += "check_folder(PretrainingSettings(output_dir=__import__('sys').argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert "another process is at work in it" in other.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [("nosuch", "--report_to nosuch: choose none, all, or from azure_ml, clearml,"), ("none,wandb", "--report_to none"),
     ("clearml", "--report_to clearml is not installed: pip install clearml")],
)  # fmt: skip
def test_a_tracker_that_is_not_there(tmp_path, given, message, monkeypatch):
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["wandb"])
    with pytest.raises(InputError) as error:
        PretrainingSettings(output_dir=str(tmp_path), report_to=given).training_arguments()
    assert message in str(error.value)


def test_several_trackers(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["wandb", "trackio"])
    check_trackers("wandb,trackio")
    args = PretrainingSettings(output_dir=str(tmp_path), report_to="none", use_cpu=True).training_arguments()
    assert args.report_to == []


def test_a_card_and_a_license_may_be_there_before_the_run(tmp_path):
    for name in ("README.md", "LICENSE", ".gitattributes"):
        (tmp_path / name).write_text("mine")
    settings = PretrainingSettings(output_dir=str(tmp_path))
    check_folder(settings)
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no run"):
        check_folder(settings)
