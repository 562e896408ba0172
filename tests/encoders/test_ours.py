"""What is said of folders that hold encoder and head in our own format, or an adapter."""

import pytest

from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.errors import InputError


def test_a_checkpoint_and_a_run_that_has_not_ended_are_refused_with_the_command_that_helps(tmp_path):
    checkpoint = tmp_path / "run" / "checkpoint-30"
    checkpoint.mkdir(parents=True)
    refuse_checkpoint(str(tmp_path / "run"))  # a save that was cut short is no checkpoint
    (checkpoint / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"--init .*checkpoint-30 is a checkpoint .*hf-replearn export --checkpoint"):
        refuse_checkpoint(str(checkpoint), "--init")
    with pytest.raises(InputError, match=r"has not ended: .*export --checkpoint .*checkpoint-30"):
        refuse_checkpoint(str(tmp_path / "run"))


def test_an_adapter_is_no_network_also_beside_one(tmp_path):
    """transformers leaves it out in silence where PEFT is not installed."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/base"}')
    with pytest.raises(InputError, match="adapter of PEFT for somebody/base, .* merge"):
        refuse_checkpoint(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(InputError, match="adapter of PEFT for a base model"):
        refuse_checkpoint(str(tmp_path), "--init")


def test_of_a_finished_run_the_encoder_is_meant_not_what_goes_on_training(tmp_path):
    (tmp_path / "pretraining").mkdir()
    refuse_checkpoint(str(tmp_path / "pretraining"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=f"the encoder alone is in {tmp_path}$"):
        refuse_checkpoint(str(tmp_path / "pretraining"))


def test_finished_runs_other_folders_and_hub_ids_pass(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "manifest.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    for name in (str(tmp_path), str(tmp_path / "nowhere"), "somebody/model"):
        refuse_checkpoint(name)
