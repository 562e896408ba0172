"""`hf-replearn disentanglement`: any encoder on images whose factors are known."""

import importlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from datasets import Dataset, Image, load_from_disk

from hf_replearn.data import sprites as drawn
from hf_replearn.encoders.codes import code_of
from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.evaluation import disentanglement as metrics
from hf_replearn.evaluation.disentanglement import Coded, mig
from hf_replearn.judging.desiderata import known_factors
from hf_replearn.judging.disentanglement import most_telling
from hf_replearn.methods.autoencoder import AutoencoderConfig, AutoencoderForPreTraining
from hf_replearn.settings import run
from hf_replearn.sharing.export import export_timm
from hf_replearn.sharing.report import load

CODE = 6


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """What a run with a code leaves, untrained."""
    folder = tmp_path_factory.mktemp("models") / "autoencoder"
    torch.manual_seed(0)
    model = AutoencoderForPreTraining(AutoencoderConfig(backbone="test_resnet", image_size=32, code=CODE)).eval()
    export_timm(model.model.encoder, folder, architecture="test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    model.save_pretrained(folder / "pretraining")
    return str(folder)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "resnet"
    network = timm.create_model("test_resnet", num_classes=0)
    export_timm(network, folder, architecture="test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    return str(folder)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(drawn, "TRAIN", 60)
    monkeypatch.setattr(drawn, "TEST", 240)
    monkeypatch.setattr(metrics, "OF_TREES", 100)
    for name in ("LEARNT", "JUDGED"):
        monkeypatch.setattr(metrics, name, 50)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A saved dataset: squares of 2 sizes at 4 places, in grey, all combinations of these factors."""
    rng, columns = np.random.default_rng(0), {"picture": [], "size": [], "place": [], "shade": []}
    for number in range(240):
        size, place, shade = (number % 2, number // 2 % 4, number // 8 % 3)
        pixels = np.zeros((32, 32, 3), np.uint8)
        top = 4 * place + int(rng.integers(2))
        pixels[top : top + 8 + 6 * size, 8 : 16 + 6 * size] = 85 * (shade + 1)
        columns["picture"].append({"bytes": drawn.png(pixels), "path": None})
        for name, value in (("size", ["small", "large"][size]), ("place", place), ("shade", shade)):
            columns[name].append(value)
    folder = str(tmp_path_factory.mktemp("data") / "squares")
    Dataset.from_dict(columns).cast_column("picture", Image()).save_to_disk(folder)
    return folder


def command(*arguments) -> int:
    recipe = importlib.import_module("hf_replearn.recipes.disentanglement")
    try:
        run(recipe.main, recipe.DisentanglementSettings, ["--use_cpu", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def judged(autoencoder, squares, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "squares"
    patch = pytest.MonkeyPatch()
    patch.setattr(metrics, "OF_TREES", 100)
    asked = ("--model", autoencoder, "--dataset", squares, "--factors", "size", "place", "shade")
    assert command(*asked, "--output_dir", out) == 0
    patch.undo()
    return out


def test_rows_are_the_code_and_what_bounds_it(judged):
    report = load(judged)
    assert list(report.rows) == [
        "autoencoder", "random weights", f"PCA of pixels ({CODE})", "true factors", "rotated factors",
    ]  # fmt: skip
    assert report.rows.keys() == report.missing.keys() and not any(report.missing.values())
    assert all(scores.keys() == metrics.PROTOCOLS.keys() for scores in report.rows.values())
    assert report.encoders["autoencoder"]["pooling"] == "the code"
    assert report.encoders["autoencoder"]["features"] == str(CODE)
    assert (report.task.train, report.task.test) == (160, 80)
    assert report.rows["true factors"]["mig"] > 0.9 > report.rows["rotated factors"]["mig"]
    assert "160 images" in report.protocols["mig"] and "100 images" in report.protocols["dci_disentanglement"]


def test_what_is_judged_is_the_code_of_the_same_images(autoencoder, squares, judged):
    from hf_replearn.data.factors import read_factors

    rows = load_from_disk(squares)
    chosen = rows.select(np.random.default_rng(42).permutation(240)[:160])
    encoder = code_of(find_encoder(autoencoder, modality="image"))
    model = AutoencoderForPreTraining.from_pretrained(f"{autoencoder}/pretraining").eval()
    pixels = torch.stack([torch.from_numpy(np.array(row["picture"])).permute(2, 0, 1) for row in chosen])
    with torch.no_grad():
        codes = model.codes((pixels.float() / 255 - 0.5) / 0.5)
        pictures = chosen.select_columns("picture").rename_columns({"picture": "image"})
        told = encoder.network(encoder.preprocess(list(pictures.cast_column("image", Image(decode=False)))))
    torch.testing.assert_close(told, codes, atol=1e-5, rtol=1e-4)
    expected = mig(Coded(codes.double().numpy(), read_factors(chosen, ["size", "place", "shade"])))
    assert load(judged).rows["autoencoder"]["mig"] == pytest.approx(expected, abs=0.01)


def test_the_page_shows_every_code(judged):
    page = (judged / "report.html").read_text()
    for row in ("autoencoder", "random weights", "true factors", "rotated factors"):
        assert f"{row}: " in page
    assert "number 0 tells" in page and "data:image/png" in page and "MIG" in page
    assert (judged / "numbers_of_the_code.png").stat().st_size > 1000
    assert json.loads((judged / "report.json").read_text())["factors"]["names"] == ["size", "place", "shade"]


def test_features_of_other_encoders_are_judged_and_what_takes_too_long_is_said(resnet, tmp_path):
    asked = ("--model", resnet, "--dataset", "sprites", "--baselines", "false", "--examples", 180)
    assert command(*asked, "--output_dir", tmp_path / "out") == 0
    report = load(tmp_path / "out")
    assert list(report.rows) == ["resnet"] and report.encoders["resnet"]["pooling"] != "the code"
    assert report.rows["resnet"]["mig"] is not None
    assert "would take too long" in report.missing["resnet"]["dci_disentanglement"]
    assert "image(s) have the value" in report.missing["resnet"]["factor_vae_score"]
    assert report.factors["names"] == list(drawn.GRID)
    assert len(report.factors["told"]["resnet"]["numbers"]) == 24
    assert "the 24 that tell most" in (tmp_path / "out" / "report.html").read_text()


def test_random_weights_of_a_code_are_others(autoencoder):
    encoder = find_encoder(autoencoder, modality="image")
    torch.manual_seed(1)
    first, second = code_of(encoder).network, code_of(encoder, pretrained=False).network
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert not all(same)


def test_the_code_is_of_images_without_repeated_pixels(tmp_path):
    """As a ResNet for small images takes them in its library's format."""
    about = {"backbone": "resnet18", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}, "stem": "cifar"}
    model = AutoencoderForPreTraining(AutoencoderConfig(image_size=16, code=CODE, **about)).eval()
    grey = {"image_size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    export_timm(model.model.encoder, tmp_path, architecture="resnet18", arguments=about["backbone_args"], **grey)
    model.save_pretrained(tmp_path / "pretraining")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    rows = [{"image": {"bytes": drawn.png(image), "path": None}} for image in pixels]
    encoder = code_of(find_encoder(str(tmp_path), modality="image"))
    with torch.no_grad():
        expected = model.codes((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
        torch.testing.assert_close(encoder.network(encoder.preprocess(rows)), expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_without_a_code_has_none(resnet):
    assert code_of(find_encoder(resnet, modality="image")) is None


def test_the_numbers_that_tell_most_are_shown_by_factor():
    shares = np.zeros((30, 2))
    shares[7], shares[3], shares[20] = (0.1, 0.9), (0.5, 0.2), (0.8, 0.0)
    found = most_telling(shares)
    assert found["of"] == 30 and len(found["numbers"]) == 24
    assert found["numbers"][:2] == [20, 3] and found["numbers"][-1] == 7
    assert found["shares"][-1] == [0.1, 0.9]


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("--dataset", "toy"), "nobody says what the images of 'toy' were made of: the columns are label"),
        (("--dataset", "{squares}"), "--factors A B"),
        (("--dataset", "{squares}", "--factors", "size", "hue"), "'hue' does not exist"),
        (("--dataset", "sprites", "--factors", "x"), "at least two factors"),
        (("--dataset", "sprites", "--layers", "deep"), "--layers must be"),
        (("--dataset", "sprites", "--layers", "99"), "has no layer '99'"),
        (("--dataset", "sprites", "--add_to_card"), "no folder with a report.json"),
        (("--dataset", "/nowhere"), "no folder or file"),
    ],
)
def test_what_a_user_has_to_mend_is_one_line(autoencoder, squares, tmp_path, capsys, arguments, says):
    told = [part.format(squares=squares) for part in arguments]
    assert command("--model", autoencoder, *told, "--output_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert says in error.splitlines()[-1] and not Path(tmp_path, "out", "report.json").exists()


def test_images_that_do_not_decode_are_left_out_up_to_a_share(autoencoder, squares, tmp_path, capsys):
    rows = load_from_disk(squares).cast_column("picture", Image(decode=False))
    cells = rows["picture"][:]
    cells[5] = {"bytes": b"no image", "path": None}
    broken = rows.remove_columns("picture").add_column("picture", cells, feature=Image(decode=False))
    broken.save_to_disk(str(tmp_path / "broken"))
    asked = (
        "--model",
        autoencoder,
        "--dataset",
        tmp_path / "broken",
        "--factors",
        "size",
        "place",
        "--baselines",
        "false",
    )
    assert command(*asked, "--max_undecodable", 0, "--output_dir", tmp_path / "none") == 2
    assert "1 of 240 images do not decode" in capsys.readouterr().err
    assert command(*asked, "--output_dir", tmp_path / "out") == 0
    assert load(tmp_path / "out").task.held_out.startswith("239 of the 240 images")


# ---- what is asked of a representation, in `evaluate`


def test_evaluate_tells_what_is_asked_of_a_representation(autoencoder, tmp_path):
    out = tmp_path / "out"
    recipe = importlib.import_module("hf_replearn.recipes.evaluation")
    asked = ["--use_cpu", "--model", autoencoder, "--dataset", "sprites", "--shots", "1,4", "--layers", "all"]
    asked += ["--train_examples", "60", "--test_examples", "60", "--output_dir", str(out)]
    run(recipe.main, recipe.EvaluateSettings, asked)
    lines = {line["asked"]: line for line in load(out).desiderata}
    scores = load(out).rows
    few = lines["few labels"]["values"]["autoencoder"]
    assert few == f"{scores['autoencoder']['k_shot@4']:.3f}"
    best = max(value["nmi"] for row, value in scores.items() if row != "autoencoder")
    assert lines["clusters"]["baseline"].startswith(f"{best:.3f}, ")
    assert lines["interpolation"]["values"]["autoencoder"] != "–"
    assert "layer" in lines["hierarchy"]["values"]["autoencoder"]
    assert lines["disentanglement"]["values"] == {"autoencoder": "–"}
    page = (out / "report.html").read_text()
    assert "What is asked of a representation" in page and "few labels" in page


def test_what_a_run_knows_of_factors_is_found_in_its_report(tmp_path, report):
    report.rows = {"it": {"mig_sprites": 0.3}, "PCA": {"mig_sprites": 0.1}, "true factors": {"mig_sprites": 0.9}}
    report.protocols = {"mig_sprites": "MIG."}
    report.save(tmp_path)
    assert known_factors(str(tmp_path), "mine") == {"mine": 0.3, "PCA": 0.1}
    (tmp_path / "report.json").write_text("{}")
    assert known_factors(str(tmp_path), "mine") == {}


def test_scores_are_added_to_the_card_of_the_run(autoencoder, squares, report, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(autoencoder, run_folder)
    report.save(run_folder)
    first = next(iter(report.rows))
    asked = ("--model", run_folder, "--dataset", squares, "--factors", "size", "place")
    assert command(*asked, "--add_to_card", "--output_dir", tmp_path / "out") == 0
    added = load(run_folder)
    assert added.rows[first]["mig_squares"] == load(tmp_path / "out").rows["run"]["mig"]
    assert "pooled as the code" in added.protocols["mig_squares"]
    assert "mutual information gap (MIG)" in (run_folder / "README.md").read_text()
    assert known_factors(str(run_folder), "mine").keys() >= {"mine", "random weights"}
