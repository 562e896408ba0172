"""A folder belongs to one run."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from transformers import TrainingArguments

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings
from hf_replearn.training.checkpoints import seal
from hf_replearn.training.folder import check_folder, claim_folder, find_checkpoint
from hf_replearn.training.settings import PretrainingSettings


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"(?i)permission denied|not writable"):
        check_folder(PretrainingSettings(output_dir=str(tmp_path)))


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
