"""`evaluate --task episodes`: any encoder of images, on classes held out or on episodes as they are published."""

import io
import json

import datasets
import numpy as np
import pytest
import timm
import torch
from PIL import Image

import hf_replearn
from hf_replearn.recipes import evaluation
from hf_replearn.settings import run
from hf_replearn.sharing.export import export_timm

SHORT = ["--task", "episodes", "--way", "3", "--queries", "2", "--episodes", "30", "--use_cpu"]


def start(*arguments: str) -> int:
    try:
        run(evaluation.main, evaluation.EvaluateSettings, list(arguments))
    except SystemExit as end:
        return end.code
    return 0


def coloured(name: str, number: int) -> Image.Image:
    """Of its class's grey, with some noise: what raw pixels tell."""
    rng = np.random.default_rng([ord(name), number])
    return Image.fromarray((20 * (ord(name) - 97) + rng.integers(0, 8, (16, 16, 3))).astype(np.uint8))


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters")
    for name in "abcdefghij":
        (folder / name).mkdir()
        for number in range(4):
            coloured(name, number).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    out, arguments = tmp_path_factory.mktemp("model") / "net", {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=0, **arguments)
    about = {"image_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    export_timm(network, out, architecture="resnet18", arguments=arguments, **about)
    return out


@pytest.fixture(scope="module")
def report(letters, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("judged") / "out"
    given = ["--model", str(encoder), "--dataset", str(letters), "--held_out", "0.5", "--output_dir", str(out)]
    assert start(*SHORT, *given) == 0
    assert (out / "episodes.png").exists() and (out / "report.html").exists()
    return json.loads((out / "report.json").read_text())


def test_any_encoder_stands_beside_random_weights_and_pixels(report):
    assert list(report["rows"]) == ["net", "random weights", "raw pixels"]
    assert report["rows"]["raw pixels"]["nearest_mean@3w1s"] > 0.95  # of classes that differ in their grey alone
    assert set(report["rows"]["net"]) >= {"nearest_mean@3w1s", "nearest_mean@3w1s_ci95", "nearest_mean_cosine@3w1s"}
    assert "nearest_mean@3w5s" not in report["rows"]["net"]  # of four images a class, five cannot be shown
    assert "5 of 10 classes, drawn at random" in report["task"]["held_out"]
    assert {test["other"] for test in report["comparisons"]} == {"random weights", "raw pixels"}
    assert "30 episodes of 5 classes" in report["protocols"]["nearest_mean"]


def test_the_classes_are_those_that_a_run_holds_out(letters):
    """The same rule and the same draw in both commands, so that nobody is judged by what it was trained on."""
    from hf_replearn.judging.episodes import drawn_tests
    from hf_replearn.pretraining.episodes import read
    from hf_replearn.recipes.episodes import EpisodesSettings

    about = {"dataset": str(letters), "output_dir": "out"}
    run, judged = EpisodesSettings(**about, test_way=3), evaluation.EvaluateSettings(**about, way=3, queries=2)
    data = read(run, None)
    held = {row["image"]["path"] for row in data.images.select(np.concatenate(data.rows_of(data.held_out)))}
    asked = {row["image"]["path"] for row in drawn_tests(judged, None, None).rows}
    assert asked and asked <= held and len(data.held_out) == 3


def test_from_python(letters, encoder, report):
    again = hf_replearn.evaluate(
        {"net": str(encoder)}, dataset=str(letters), task="episodes", way=3, queries=2, episodes=30,
        held_out=("0.5",), use_cpu=True, baselines=False,
    )  # fmt: skip
    assert again.rows["net"] == pytest.approx(report["rows"]["net"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two episodes of two classes, one image of each, as a table."""
    rows = []
    for number, names in enumerate(("ab", "hd"), start=1):
        for part in ("train", "test"):
            for label, name in enumerate(names):
                file = io.BytesIO()
                coloured(name, 10 * (part == "test") + number).save(file, "PNG")
                image = {"bytes": file.getvalue(), "path": None}
                rows.append({"image": image, "run": number, "part": part, "label": label})
    features = {"image": datasets.Image(decode=False), "run": datasets.Value("int64")}
    features |= {"part": datasets.Value("string"), "label": datasets.Value("int64")}
    path = tmp_path_factory.mktemp("runs") / "runs.parquet"
    datasets.Dataset.from_list(rows, features=datasets.Features(features)).to_parquet(path)
    return path


def test_episodes_as_they_are_published(runs, encoder, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--model", str(encoder), "--dataset", str(runs), "--task", "episodes", "--use_cpu", "--output_dir"]
    assert start(*given, str(out)) == 0, capsys.readouterr().err
    found = json.loads((out / "report.json").read_text())
    assert found["rows"]["raw pixels"]["nearest_mean@2w1s"] == 1.0
    assert "the 2 episodes of runs.parquet" in found["protocols"]["nearest_mean"]
    assert start(*given, str(tmp_path / "no"), "--way", "2") == 2
    assert "is of episodes already, and none are drawn" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--way", "11"], "--way 11: "),
        (["--shots", "4"], "have fewer images than the 6 that --shots 4 and --queries 2 take"),
        (["--held_out", "0"], "--held_out 0 leaves no classes"),
        (["--suite", "full"], "--suite is not for --task episodes"),
        (["--within_group", "true"], "name the column of the groups with --group_by"),
    ],
)
def test_bad_input_is_one_line(arguments, message, letters, encoder, tmp_path, capsys):
    given = ["--model", str(encoder), "--dataset", str(letters), "--output_dir", str(tmp_path / "out")]
    assert start(*SHORT, *given, *arguments) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_settings_of_episodes_without_that_task_are_refused(letters, encoder, tmp_path, capsys):
    given = ["--model", str(encoder), "--dataset", str(letters), "--output_dir", str(tmp_path / "out")]
    assert start(*given, "--way", "3") == 2
    assert "--way is of --task episodes: say that too, or leave it out" in capsys.readouterr().err
