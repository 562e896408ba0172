"""A folder belongs to one run."""

import os
from dataclasses import replace

import pytest

from hf_replearn.errors import InputError
from hf_replearn.training.folder import check_folder, claim_folder, find_checkpoint
from hf_replearn.training.settings import PretrainingSettings


def test_the_same_run_goes_on_and_another_is_refused(tmp_path):
    settings = PretrainingSettings(output_dir=str(tmp_path / "run"), learning_rate=0.1)
    other = replace(settings, learning_rate=0.2)
    check_folder(settings)
    check_folder(other)  # a run that never started leaves the folder free
    claim_folder(settings)
    check_folder(replace(settings, logging_steps=3, push_to_hub=True))  # how it is carried out may change
    with pytest.raises(InputError, match=r"another run, with learning_rate 0.1 instead of 0.2"):
        check_folder(other)


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


def test_which_checkpoint(tmp_path):
    assert find_checkpoint("auto", str(tmp_path)) is None
    for step in (5, 40, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert find_checkpoint("auto", str(tmp_path)).endswith("checkpoint-100")
    assert find_checkpoint("never", str(tmp_path)) is None
    assert find_checkpoint(str(tmp_path / "checkpoint-5"), str(tmp_path)).endswith("checkpoint-5")
    with pytest.raises(InputError, match="not a checkpoint folder"):
        find_checkpoint("latest", str(tmp_path))
