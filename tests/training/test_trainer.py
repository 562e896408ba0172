"""PretrainingTrainer: step-keyed randomness, exact resume through the stock mechanism, the log, the warnings."""

import json
import multiprocessing
from functools import partial

import pytest
import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.utils import ModelOutput

from hf_replearn.errors import TrainingError
from hf_replearn.methods.simclr import nt_xent
from hf_replearn.training.callbacks import HealthWarning, JSONLines, SampleScores
from hf_replearn.training.optimizers import adamw
from hf_replearn.training.trainer import PretrainingTrainer


class Config(PreTrainedConfig):
    model_type = "trainer-test"


class Model(PreTrainedModel):
    """A network without batch statistics, so that micro-batches can be compared with the whole."""

    config_class = Config
    accepts_loss_kwargs = False

    def __init__(self, config):
        super().__init__(config)
        self.net = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 8))
        self.post_init()

    def forward(self, x, return_loss=True):
        z = self.net(x)
        return ModelOutput(loss=self.objective(z) if return_loss else None, projections=z, pooler_output=z)

    def objective(self, projections):
        return nt_xent(projections, 0.5)


def collate(rows):
    return {"x": torch.stack(rows)}


def noisy_views(batch, place):
    x = batch["x"][:, None].expand(-1, 2, -1)
    return {"x": x + 0.1 * torch.randn(x.shape, generator=place.generator())}


DATA = list(torch.randn(64, 4, generator=torch.Generator().manual_seed(3)))


def trainer(folder, *, steps=12, batch=8, callbacks=(), micro_batch=None, **arguments) -> PretrainingTrainer:
    torch.manual_seed(0)
    defaults = {"save_steps": 5, "logging_steps": 1, "disable_tqdm": True, "report_to": "none", "use_cpu": True}
    args = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=batch, remove_unused_columns=False,
        **(defaults | arguments),
    )  # fmt: skip
    return PretrainingTrainer(
        model=Model(Config()), args=args, train_dataset=DATA, data_collator=collate, views=noisy_views,
        make_optimizer=partial(adamw, lr=1e-2, weight_decay=0.0), micro_batch=micro_batch, callbacks=list(callbacks),
    )  # fmt: skip


def weights(trained: PretrainingTrainer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in trained.model.parameters()])


def test_a_run_resumed_in_mid_epoch_ends_with_the_same_bits(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 7

    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path / "part", callbacks=[Stop()]).train()
    resumed = trainer(tmp_path / "part")
    resumed.train(resume_from_checkpoint=str(tmp_path / "part" / "checkpoint-5"))
    assert torch.equal(weights(resumed), weights(whole))


def test_a_finished_run_is_not_trained_any_further(tmp_path):
    whole = trainer(tmp_path, steps=5)
    whole.train()
    again = trainer(tmp_path, steps=5)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert torch.equal(weights(again), weights(whole))
    assert again.summary()["steps"] == 5


def test_accumulated_micro_steps_draw_different_noise(tmp_path):
    keys = []

    class Recording(PretrainingTrainer):
        def _place(self, micro_step):
            keys.append((self.state.global_step, micro_step))
            return super()._place(micro_step)

    run = trainer(tmp_path, steps=2, gradient_accumulation_steps=2)
    run.__class__ = Recording
    run.train()
    assert keys == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_cached_gradients_train_as_the_big_batch_does(tmp_path):
    """The same images and, as their noise is drawn batch by batch, the same noise only without any: switch it off."""
    runs = [trainer(tmp_path / "a", batch=16), trainer(tmp_path / "b", batch=16, micro_batch=4)]
    for run in runs:
        run.views = lambda batch, place: {"x": torch.stack([batch["x"], batch["x"] * 1.1 + 0.1], dim=1)}
        run.train()
    torch.testing.assert_close(weights(runs[1]), weights(runs[0]), rtol=1e-4, atol=1e-6)


def test_the_log_has_a_line_a_step_and_goes_on_where_the_checkpoint_was(tmp_path):
    trainer(tmp_path, callbacks=[JSONLines(tmp_path)]).train()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, 13))
    assert all(line["examples_per_second"] > 0 for line in lines[1:12])
    assert all(line["learning_rate"] >= 0 and 0 < line["spread"] < 2 for line in lines[:12])
    trainer(tmp_path, callbacks=[JSONLines(tmp_path)]).train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == steps


def test_collapse_is_warned_of_once(tmp_path):
    run = trainer(tmp_path, steps=3, callbacks=[HealthWarning(8)])
    for parameter in run.model.net[2].parameters():
        nn.init.constant_(parameter, 1.0)
        parameter.requires_grad_(False)
    with pytest.warns(UserWarning, match="collapsed") as warned:
        run.train()
    assert sum("collapsed" in str(warning.message) for warning in warned) == 1
    assert run.summary()["collapsed"] and run.summary()["spread"] < 0.02


def test_scores_are_logged_beside_the_loss_and_again_of_a_run_that_goes_on(tmp_path):
    run = trainer(tmp_path, steps=6)
    run.add_callback(SampleScores(lambda: {"rankme": 3.0}, steps=3, log=run.log))
    run.train()
    logs = run.state.log_history
    assert [log["step"] for log in logs if "rankme" in log] == [0, 3, 6]
    assert [log["step"] for log in logs if "loss" in log] == [1, 2, 3, 4, 5, 6]  # no line of the loss is lost for it
    more = trainer(tmp_path, steps=8)
    more.add_callback(SampleScores(dict, steps=1, log=more.log))  # nothing could be computed
    more.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert [log["step"] for log in more.state.log_history if "rankme" in log] == [0, 3]


def test_out_of_memory_says_what_to_lower(tmp_path):
    class Greedy(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 7:
                torch.empty(1 << 50)

    with pytest.raises(TrainingError, match=r"checkpoint-5 is the last good.*--per_device_train_batch_size"):
        trainer(tmp_path, callbacks=[Greedy()]).train()


class Dropping(Model):
    """It takes random numbers from torch's own generator, as dropout does."""

    def forward(self, x, return_loss=True):
        return super().forward(nn.functional.dropout(x), return_loss)


@pytest.mark.parametrize("stop", [None, 16, pytest.param(11, marks=pytest.mark.slow)])
def test_workers_outlive_epochs_and_change_no_bit(stop, tmp_path, monkeypatch):
    """Three epochs of eight steps: killed in the middle of the second, and just at its end."""
    monkeypatch.setitem(globals(), "Model", Dropping)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == stop

    class Workers(TrainerCallback):
        def __init__(self):
            self.found = []

        def on_step_end(self, args, state, control, **kwargs):
            self.found.append({process.pid for process in multiprocessing.active_children()})

    more = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    plain = trainer(tmp_path / "plain", steps=24)
    plain.train()
    trainer(tmp_path / "run", steps=24, save_steps=1, callbacks=[Stop()], **more).train()
    last = plain
    if stop is not None:
        last = trainer(tmp_path / "run", steps=24, callbacks=[workers := Workers()], **more)
        last.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{stop}"))
        assert len({frozenset(found) for found in workers.found}) == (2 if stop % 8 else 1)
    else:
        last = trainer(tmp_path / "again", steps=24, callbacks=[workers := Workers()], **more)
        last.train()
        assert len({frozenset(found) for found in workers.found}) == 1 and len(workers.found[0]) == 2
    assert torch.equal(weights(last), weights(plain))
    assert not multiprocessing.active_children()  # none is left when the training has ended
