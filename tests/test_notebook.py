"""`hr.evaluate` as a notebook calls it: encoders, datasets and features as objects."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
import transformers
from sklearn.datasets import load_digits
from torch import nn

import hf_replearn as hr
from hf_replearn.errors import InputError
from hf_replearn.evaluation.knn import knn
from hf_replearn.settings import run
from hf_replearn.sharing.report import load

QUICK = {"shots": (1, 4), "baselines": False, "use_cpu": True}


class Digits:
    """What a user may have: a length, and items (array, label)."""

    def __init__(self, start: int, end: int):
        images, labels = load_digits(return_X_y=True)
        self.images, self.labels = np.uint8(images.reshape(-1, 8, 8)[start:end] * 15), labels[start:end]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], self.labels[row]


@pytest.fixture(scope="module")
def digits():
    return {"train": Digits(0, 200), "test": Digits(200, 280)}


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from hf_replearn.sharing.export import export_timm

    folder = tmp_path_factory.mktemp("models") / "tiny"
    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 32]}
    torch.manual_seed(0)
    export_timm(
        timm.create_model("resnet18", num_classes=0, **arguments), folder, architecture="resnet18",
        arguments=arguments, image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
    )  # fmt: skip
    return folder


def flat(images) -> list:
    return [np.asarray(image.convert("L"), dtype=float).ravel() for image in images]


def pixels(part: Digits) -> np.ndarray:
    return part.images.reshape(len(part), -1).astype(float)


@pytest.fixture(scope="module")
def report(digits, resnet):
    verbosity = transformers.logging.get_verbosity()
    given = {"function": flat, "arrays": (pixels(digits["train"]), pixels(digits["test"])), "run": resnet}
    found = hr.evaluate(given, dataset=digits, **QUICK)
    assert transformers.logging.get_verbosity() == verbosity  # the session is the user's
    return found


def test_objects_beside_folders(report, digits):
    """A function, arrays and a folder; the scores are those of the evaluators on the same numbers."""
    assert list(report.rows) == ["function", "arrays", "run"]
    assert report.rows["function"] == report.rows["arrays"]
    parts = [hr.Features(pixels(digits[name]), digits[name].labels) for name in ("train", "test")]
    assert report.rows["arrays"]["knn@20"] == pytest.approx(knn(*parts, k=20)["knn@20"])
    assert report.encoders["function"] == {
        "from": "a function", "parameters": "–", "features": "64", "pooling": "its own"
    }  # fmt: skip
    assert report.task.train == 200 and report.task.classes == [str(digit) for digit in range(10)]
    assert report.command.startswith(
        "hf_replearn.evaluate({'function': …, 'arrays': …, 'run': …}, dataset='(dict: train"
    )
    assert not Path(report.settings["output_dir"]).exists()


def test_the_report_shows_itself_and_is_saved(report, tmp_path):
    assert repr(report) == report.table()
    html = report._repr_html_()
    best = report.cell("function", "knn@20")
    assert html.count("<tr>") == 1 + len(report.metrics) and f"<b>{best}</b>" in html and "<th>arrays</th>" in html
    frame = report.to_pandas()
    assert frame.loc["run", "linear"] == report.rows["run"]["linear"] and list(frame.index) == list(report.rows)
    report.save(tmp_path / "page")
    assert load(tmp_path / "page").rows == json.loads(json.dumps(report.rows))
    assert "arrays" in (tmp_path / "page" / "report.html").read_text()


def test_names_are_escaped_and_what_is_missing_is_said(report):
    from copy import deepcopy

    shown = deepcopy(report)
    shown.rows["<b>"] = {"linear": float("nan")}
    shown.missing["<b>"] = {"linear": "1 < 2"}
    html = shown._repr_html_()
    assert "<th>&lt;b&gt;</th>" in html and "<td>–</td>" in html and "linear of &lt;b&gt;: 1 &lt; 2" in html


def test_a_module_scores_as_the_same_network_does_on_the_command_line(resnet, tmp_path):
    some = {"train_examples": 150, "test_examples": 60}
    module = timm.create_model(f"local-dir:{resnet}", pretrained=True, num_classes=0).train()
    found = hr.evaluate(
        {"module": module, "folder": str(resnet)}, dataset="toy", output_dir=tmp_path / "api", **some, **QUICK
    )
    assert module.training
    recipe = importlib.import_module("hf_replearn.recipes.evaluation")
    flags = ["--train_examples", "150", "--test_examples", "60", "--shots", "1,4", "--baselines", "false", "--use_cpu"]
    run(
        recipe.main,
        recipe.EvaluateSettings,
        ["--model", str(resnet), "--dataset", "toy", "--output_dir", str(tmp_path / "cli"), *flags],
    )
    told = load(tmp_path / "cli").rows["tiny"]
    assert found.rows["folder"] == told
    assert found.rows["module"] == pytest.approx(told, abs=1e-4)
    assert load(tmp_path / "api").rows == found.rows and (tmp_path / "api" / "report.html").exists()


def test_texts_with_labels_in_words_and_a_held_out_fifth():
    rng = np.random.default_rng(0)
    items = [(" ".join(rng.choice(list("abcd"), 3)) + f" {word}", word) for word in ("up", "down") * 50]
    found = hr.evaluate(
        lambda texts: np.array([[text.count("u"), text.count("d")] for text in texts]), dataset=items, **QUICK
    )
    assert list(found.rows) == ["function"] and found.task.classes == ["down", "up"] and found.task.unit == "text"
    assert found.rows["function"]["linear"] == 1.0 and found.task.test == 20


def test_datasets_of_the_hubs_library_are_taken_as_they_are(digits):
    features = datasets.Features(picture=datasets.Image(), digit=datasets.ClassLabel(num_classes=10))
    rows = {
        split: datasets.Dataset.from_dict({"picture": list(part.images), "digit": part.labels}, features=features)
        for split, part in digits.items()
    }
    found = hr.evaluate([flat], dataset=datasets.DatasetDict(rows), **QUICK)
    arrays = hr.evaluate({"function": flat}, dataset=digits, **QUICK)
    assert found.rows == arrays.rows


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ({}, {}, "there is no encoder"),
        ([flat, flat], {}, "two encoders are called 'function': give a dict"),
        ({"mine": nn.Flatten()}, {}, "^mine is a module without parameters"),
        ({"mine": nn.Linear(2, 2)}, {}, "^mine is a module without its preprocessing"),
        ({"mine": lambda images: np.full((len(images), 2), np.nan)}, {}, "^mine gives NaN"),
        ({"mine": (np.zeros((200, 3)), np.zeros((80, 4)))}, {}, "mine: train features have 3 dimensions .* 4"),
        ({"mine": (np.zeros((200, 3)), np.zeros((79, 3)))}, {}, "mine has 79 test features, the dataset 80"),
        ({"mine": (np.zeros((200, 3)), np.full((80, 3), np.nan))}, {}, "mine, test: .*NaN"),
        ({"mine": flat}, {"shots": (1, 500)}, "shots contains 500"),
        ({"mine": flat}, {"shot": 1}, "unknown setting --shot: did you mean --shots"),
        ({"mine": flat}, {"suite": "long"}, "--suite must be one of quick, full, got 'long'"),
        ({"mine": flat}, {"seed": -1}, "--seed must be between 0 and"),
        ({"mine": flat}, {"model": "out"}, "encoders are the first argument"),
        ({"mine": flat}, {"add_to_card": True}, "the first encoder, which must be a folder"),
        ({"mine": flat}, {"finetune": 2}, "--finetune must be above 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_computed(given, more, message, digits, monkeypatch):
    monkeypatch.setattr("hf_replearn.judging.evaluate.compute_features", None)
    with pytest.raises(InputError, match=message) as error:
        hr.evaluate(given, dataset=digits, **QUICK | more)
    assert "\n" not in str(error.value)


def test_the_script_of_a_notebook(resnet, tmp_path):
    """In a fresh process: importing is instant, and nothing is left behind."""
    code = f"""
import numpy as np, hf_replearn as hr
rng = np.random.default_rng(0)
mine = [(np.uint8(rng.integers(0, 100, (8, 8, 3)) + 100 * n), ("dark", "light")[n]) for n in (0, 1) * 30]
report = hr.evaluate(
    {{"mine": {str(resnet)!r}, "mean": lambda images: [[np.asarray(image).mean()] for image in images]}},
    dataset=mine, shots=1, baselines=False, use_cpu=True,
)
print(report.to_pandas().loc["mean", "linear"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "1.0"
    assert list(tmp_path.iterdir()) == []
