"""Scores and pictures in trackers after training: TensorBoard's files are read back; others are told by their API."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from transformers import TrainingArguments

from hf_replearn.sharing.trackers import pictures_of, scores_of, tell_trackers

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard: pip install 'hf-replearn[dev]'"
)
PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.fixture
def told(report, tmp_path):
    """A report with a picture that is there and one that is not, a held-out loss, and a score that is missing."""
    Image.fromarray(PIXELS).save(tmp_path / "neighbours.png")
    report.figures = {"neighbours.png": "Images and what is near.", "curves.png": "Gone."}
    report.rows["SimCLR"]["linear"], report.training.held_out = None, {"this model": 3.5}
    return report


def trainer_of(tmp_path, tracker: str, callbacks=()):
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, run_name="mine", project="ours")
    args.report_to = [tracker]
    return SimpleNamespace(args=args, callback_handler=SimpleNamespace(callbacks=list(callbacks)))


def test_scores_are_those_that_were_measured(told, tmp_path):
    scores = scores_of(told)
    assert scores["scores/SimCLR/knn@20"] == told.rows["SimCLR"]["knn@20"] and scores["held_out_loss/this model"] == 3.5
    assert not any(name.endswith("_ci95") for name in scores) and "scores/SimCLR/linear" not in scores
    assert list(pictures_of(told, tmp_path)) == ["neighbours"]


@needs_tensorboard
@pytest.mark.parametrize("trained", [True, False])
def test_tensorboard_has_them_in_the_run_of_the_losses(told, tmp_path, trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers.integrations import TensorBoardCallback

    callback = TensorBoardCallback()
    callback.logging_dir = str(tmp_path / "runs" / "today") if trained else None
    tell_trackers(told, tmp_path, trainer_of(tmp_path, "tensorboard", [callback]))
    events = EventAccumulator(str(tmp_path / "runs" / ("today" if trained else "results"))).Reload()
    assert set(events.Tags()["scalars"]) == set(scores_of(told))
    [event] = events.Scalars("scores/SimCLR/knn@20")
    assert (event.step, event.value) == (100, pytest.approx(told.rows["SimCLR"]["knn@20"]))
    [picture] = events.Images("neighbours")
    (tmp_path / "read.png").write_bytes(picture.encoded_image_string)
    assert (np.asarray(Image.open(tmp_path / "read.png")) == PIXELS).all()


class Tracker(SimpleNamespace):
    """The functions of wandb and trackio that are called, as their documentation has them."""

    def __init__(self, run):
        super().__init__(run=run, calls=[], Image=lambda file, caption: (file, caption))

    def init(self, *, project, name, space_id=None, resume=None):
        self.calls.append(("init", project, name, resume))
        return self.run

    def log(self, values):
        self.calls.append(("log", values))

    def finish(self):
        self.calls.append(("finish",))


def test_wandb_gets_them_in_its_open_run_and_trackio_in_its_run_gone_on_with(told, tmp_path, monkeypatch):
    expected = scores_of(told) | {"neighbours": (str(tmp_path / "neighbours.png"), "Images and what is near.")}
    logged, summary = [], {}
    monkeypatch.setitem(sys.modules, "wandb", Tracker(SimpleNamespace(log=logged.append, summary=summary)))
    tell_trackers(told, tmp_path, trainer_of(tmp_path, "wandb"))
    assert logged == [expected] and summary == scores_of(told)
    trackio = Tracker(None)
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    tell_trackers(told, tmp_path, trainer_of(tmp_path, "trackio"))
    assert trackio.calls == [("init", "ours", "mine", "allow"), ("log", expected), ("finish",)]


def test_a_tracker_that_fails_costs_a_line_and_no_run(told, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(Image=None))
    tell_trackers(told, tmp_path, trainer_of(tmp_path, "trackio"))
    tell_trackers(told, tmp_path, trainer_of(tmp_path, "mlflow"))  # which gets the losses alone
    assert capsys.readouterr().err.startswith("warning: scores and pictures in trackio could not be made: AttributeErr")
