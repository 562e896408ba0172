"""What is watched while an encoder of images trains: it changes nothing, costs little, and sees a collapse."""

import dataclasses
import importlib.util
import json
import random
import shutil
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments
from transformers.utils import ModelOutput

import hf_replearn.augmentation
import hf_replearn.sharing.results
from hf_replearn.methods.simclr import nt_xent
from hf_replearn.pretraining.fixed import FixedBatches
from hf_replearn.pretraining.watch import scores_now
from hf_replearn.randomness import undisturbed
from hf_replearn.settings import run
from hf_replearn.training.callbacks import HealthWarning, SampleScores
from hf_replearn.training.optimizers import adamw
from hf_replearn.training.trainer import PretrainingTrainer

TINY = ["--backbone", "resnet18", "--image_size", "16", "--stem", "cifar", "--augmentation", "cifar", "--use_cpu"]
TINY += ["--per_device_train_batch_size", "32", "--optimizer", "adamw", "--learning_rate", "3e-3", "--draws", "2"]
TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
NET = "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16], 'drop_path_rate': 0.2}"  # draws random numbers in each step


@pytest.fixture(autouse=True)
def _little(monkeypatch):
    """Small samples and no pictures."""
    monkeypatch.setattr("hf_replearn.pretraining.fixed.SAMPLE", 50)
    monkeypatch.setattr(hf_replearn.augmentation, "draw_views", lambda images, views, path, aspect=None: None)
    monkeypatch.setattr(hf_replearn.sharing.results, "write_curves", lambda folder: False)


def start(command: str, out, *arguments: str) -> list[dict]:
    """Runs it in this process; returns its log."""
    recipe = importlib.import_module(f"hf_replearn.recipes.{command}")
    settings = next(kind for name, kind in vars(recipe).items() if name.lower() == f"{command}settings")
    run(recipe.main, settings, [*TINY, "--backbone_args", NET, "--output_dir", str(out), *arguments])
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A hundred digits in ten class folders."""
    from PIL import Image
    from sklearn.datasets import load_digits

    folder, found = tmp_path_factory.mktemp("digits"), load_digits()
    for number in range(100):
        path = folder / str(found.target[number]) / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((found.images[number] * 15.9).astype(np.uint8)).save(path)
    return folder


def test_watching_changes_no_bit_and_begins_before_training(digits, tmp_path):
    data = ["--dataset", str(digits), "--max_steps", "4", "--logging_steps", "1", "--save_steps", "2"]
    tracked = ["--report_to", "tensorboard"] if TENSORBOARD else []
    seen = start("simclr", tmp_path / "seen", *data, *tracked, "--knn_steps", "2")
    unseen = start("simclr", tmp_path / "unseen", *data, "--knn_steps", "0")
    weights = [(tmp_path / name / "pretraining" / "model.safetensors").read_bytes() for name in ("seen", "unseen")]
    assert weights[0] == weights[1]
    assert [line["loss"] for line in seen if "loss" in line] == [line["loss"] for line in unseen if "loss" in line]
    scores = [line for line in seen if "rankme" in line]
    assert [line["step"] for line in scores] == [0, 2, 4]
    names = {"step", "rankme", "alignment", "relative_alignment", "uniformity", "sample_spread", "projection_spread"}
    assert all(set(line) - {"epoch"} == names | {"knn@20"} for line in scores)

    if TENSORBOARD:  # losses, what was watched, and the scores at the end, in one run
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        [folder] = (tmp_path / "seen" / "runs").iterdir()
        events = EventAccumulator(str(folder)).Reload()
        assert {"train/loss", "train/rankme", "scores/SimCLR/knn@20"} <= set(events.Tags()["scalars"])
        assert [event.step for event in events.Scalars("train/rankme")] == [0, 2, 4]
        assert len(events.Images("neighbours")) == 1

    # The same command goes on from step 2 without a second line of step 0, and sees what it saw.
    shutil.rmtree(tmp_path / "seen" / "checkpoint-4")
    again = start("simclr", tmp_path / "seen", *data, "--knn_steps", "2")
    assert [line for line in again if "rankme" in line] == scores


def test_data_without_labels_are_watched_too_and_a_picture_that_fails_costs_no_run(
    digits, tmp_path, monkeypatch, capsys
):
    flat, out = tmp_path / "flat", tmp_path / "out"
    flat.mkdir()
    for path in digits.rglob("*.png"):
        (flat / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr("hf_replearn.pretraining.worth.draw_neighbours", lambda *given: 1 / 0)
    scores = start("simclr", out, "--dataset", str(flat), "--max_steps", "2", "--knn_steps", "1")
    assert [line["step"] for line in scores if "rankme" in line] == [0, 1, 2]
    assert not any("knn@20" in line for line in scores)
    assert "warning: neighbours.png could not be made: ZeroDivisionError" in capsys.readouterr().err
    neighbours = json.loads((out / "report.json").read_text())["neighbours"]  # those of the page are there
    assert [len(found) for found in neighbours["SimCLR"]] == [6] * 6 and not neighbours["queries"][0]["label"]
    assert "Nearest neighbours" in (out / "report.html").read_text()


class Config(PreTrainedConfig):
    model_type = "watch-test"


class Model(PreTrainedModel):
    """A small network under a loss of the projections of two views (B, 2, P)."""

    config_class = Config
    accepts_loss_kwargs = False

    def __init__(self, config, objective=None):
        super().__init__(config)
        self.f = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))
        self.g, self.objective = nn.Linear(16, 8), objective
        self.post_init()

    def forward(self, x, return_loss=True):
        h = self.f(x)
        z = self.g(h)
        return ModelOutput(loss=self.objective(z) if return_loss else None, projections=z, pooler_output=h)


@dataclasses.dataclass
class Collator:
    """Four numbers that both views share, and eight that are drawn for each view."""

    def __call__(self, rows):
        return {"x": torch.stack(rows)}

    def views(self, batch, place):
        shared = batch["x"][:, None].expand(-1, 2, -1)
        own = torch.randn(*shared.shape[:2], 8, generator=place.generator())
        return {"x": torch.cat([shared, own], dim=-1)}


def attract(z):
    return -torch.cosine_similarity(z[:, 0], z[:, 1], dim=-1).mean()


@pytest.mark.parametrize(
    ("objective", "rate", "told"),
    [
        (lambda z: nt_xent(z, 0.5), 0.01, []),
        (attract, 0.01, ["projections have collapsed", "representation has collapsed"]),
        (lambda z: nt_xent(z, 0.5), 1e-6, ["no sign of learning"]),
    ],
)
def test_runs_that_learn_collapse_or_are_too_slow_are_told_apart(objective, rate, told, tmp_path):
    data = list(torch.randn(256, 4, generator=torch.Generator().manual_seed(1)))
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=60, per_device_train_batch_size=64, use_cpu=True, report_to="none",
        save_strategy="no", disable_tqdm=True, logging_steps=5, lr_scheduler_type="constant",
    )  # fmt: skip
    run = PretrainingTrainer(
        model=Model(Config(), objective), args=args, train_dataset=data, data_collator=Collator(),
        views=Collator().views, make_optimizer=partial(adamw, lr=rate, weight_decay=0.0),
    )  # fmt: skip
    measure = partial(scores_now, run.model, data, Collator(), batch=64, workers=0)
    for callback in (SampleScores(measure, steps=12, log=run.log), HealthWarning(16)):
        run.add_callback(callback)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run.train()
    messages = [str(warning.message) for warning in caught if str(warning.message).startswith("step ")]
    assert len(messages) == min(len(told), 1) and all(any(text in message for text in told) for message in messages)


def test_what_is_drawn_undisturbed_was_never_drawn():
    for draw in (random.random, np.random.rand, lambda: torch.rand(()).item()):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        expected = [draw(), draw()]
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        first = draw()
        with undisturbed():
            draw()
        assert [first, draw()] == expected


def test_few_images_to_look_at_are_of_the_whole_sample(tmp_path):
    rows = Dataset.from_dict({"number": list(range(300))})

    class Numbers:
        def __call__(self, examples):
            return {"number": torch.tensor([row["number"] for row in examples])}

        def views(self, batch, place):
            return batch

    batches = FixedBatches(rows, Numbers(), torch.device("cpu"), batch=16)
    assert batches.few(4)["number"].tolist() == [0, 75, 150, 225]
    assert len(batches.few(1000)["number"]) == 16  # of one pass
