"""Every encoder that is fitted in passes, found by itself: it fits, goes on bit for bit, exports and is judged."""

import hashlib
import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import unshown
from transformers import AutoImageProcessor, AutoModel

from hf_replearn.cli import COMMANDS
from hf_replearn.encoding import encode
from hf_replearn.settings import run
from hf_replearn.training.passes import Passes

MODULES = {
    command: importlib.import_module(f"hf_replearn.recipes.{module}")
    for command, (module, *_) in COMMANDS.items()
    if module
}
METHODS = [
    command for command, module in MODULES.items() if type(getattr(module, "METHOD", None)).__name__ == "FittedMethod"
]
SHORT = ["--use_cpu", "--draws", "2", "--save_steps", "1", "--components", "6", "--batch_size", "16"]
PATCHES = ["--patches", "4", "--patch_count", "300"]
OTHER_SHAPES = {"patches": PATCHES, "whole": []}


def start(command: str, *arguments: str) -> int:
    """Runs it in this process; returns its exit code."""
    settings = vars(MODULES[command])[COMMANDS[command][1]]
    passes = ["--passes", "3"] if "passes" in settings.__dataclass_fields__ else []
    try:
        run(MODULES[command].main, settings, [*SHORT, *passes, *arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("hf_replearn.sharing.results.write_curves", lambda folder: False)
    monkeypatch.setattr("hf_replearn.pretraining.worth.draw_neighbours", lambda neighbours, row, path: None)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of thirty images, stripes and blots, of which a fifth is held out."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label in ("blots", "stripes"):
        (folder / label).mkdir()
        for number in range(30):
            pixels = rng.integers(0, 200, (8, 8, 3), dtype=np.uint8)
            if label == "stripes":
                pixels[:, rng.integers(0, 2) :: 2] = 250
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def digest(out) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("how", OTHER_SHAPES)
@pytest.mark.parametrize("command", METHODS)
def test_a_run_leaves_an_encoder_for_all_and_goes_on_bit_for_bit(command, how, images, tmp_path, capsys, monkeypatch):
    out, given = tmp_path / "run", ["--dataset", str(images), *OTHER_SHAPES[how]]
    assert start(command, *given, "--output_dir", str(out)) == 0, capsys.readouterr().err
    report = json.loads((out / "report.json").read_text())
    assert list(report["rows"])[0] == report["method"]["name"] and "random weights" in report["rows"]
    assert {"filters.png"} <= report["figures"].keys()  # none failed, which would be but a word
    assert (report["own_task"] is None) == (MODULES[command].METHOD.own_task is None)
    # f as everybody loads it, and as it was judged
    loaded, processor = AutoModel.from_pretrained(out), AutoImageProcessor.from_pretrained(out)
    pictures = [Image.open(path) for path in sorted((images / "stripes").glob("*.png"))[:5]]
    with torch.no_grad():
        theirs = loaded(**processor(pictures, return_tensors="pt")).pooler_output
    ours = encode(out, pictures, use_cpu=True)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    assert theirs.shape == (5, report["encoder"]["features"])
    if how == "patches":
        return  # what goes on does so alike
    exporting = importlib.import_module("hf_replearn.recipes.export")
    told = ["--checkpoint", str(out / f"checkpoint-{report['training']['steps']}")]
    run(exporting.main, exporting.ExportSettings, [*told, "--output_dir", str(tmp_path / "exported")])
    assert digest(tmp_path / "exported") == digest(out)
    # Killed in the last pass, it goes on with the same bits; killed in the first one, it begins again.
    whole, done = digest(out), report["training"]["steps"]
    unshown(monkeypatch)
    for kept in {done - 1, 0}:
        again = tmp_path / f"again-{kept}"
        with monkeypatch.context() as patch:
            patch.setattr(Passes, "_save", killed_after(kept, Passes._save))
            with pytest.raises(MemoryError):
                run_plainly(command, *given, "--output_dir", str(again))
        assert not (again / "model.safetensors").exists()
        assert start(command, *given, "--output_dir", str(again)) == 0, capsys.readouterr().err
        assert digest(again) == whole
        steps = [json.loads(line)["step"] for line in (again / "log.jsonl").read_text().splitlines()]
        assert steps == list(range(1, done + 1))


def killed_after(kept: int, save):
    """A save that does not come to the pass after `kept`."""

    def dying(self, state):
        if self.done > kept:
            raise MemoryError
        save(self, state)

    return dying


def run_plainly(command: str, *arguments: str) -> None:
    """As `start`, without the frame that makes exit codes of exceptions."""
    from hf_replearn.settings import parse

    settings = vars(MODULES[command])[COMMANDS[command][1]]
    passes = ["--passes", "3"] if "passes" in settings.__dataclass_fields__ else []
    MODULES[command].main(parse(settings, [*SHORT, *passes, *arguments]))


@pytest.fixture
def features(tmp_path):
    """Of two classes, as `hf-replearn encode` writes them."""
    rng, path = np.random.default_rng(0), tmp_path / "features.npz"
    arrays = {}
    for name, count in (("train", 60), ("test", 20)):
        labels = np.arange(count) % 2
        arrays |= {name: rng.normal(size=(count, 12)).astype(np.float32) + 2 * labels[:, None]}
        arrays |= {f"{name}_labels": labels}
    np.savez(path, **arrays, classes=np.array(["low", "high"]))
    return path


@pytest.mark.parametrize("command", METHODS)
def test_features_of_another_encoder_are_coded_and_judged(command, features, tmp_path, capsys):
    out = tmp_path / "run"
    assert start(command, "--features", str(features), "--output_dir", str(out)) == 0, capsys.readouterr().err
    report = json.loads((out / "report.json").read_text())
    assert list(report["rows"])[1:3] == ["the features given", "PCA of them (6)"]
    assert all(row["linear"] is not None for row in report["rows"].values())
    codes = np.load(out / "features.npz")
    with torch.no_grad():
        again = AutoModel.from_pretrained(out)(torch.from_numpy(np.load(features)["test"])).pooler_output
    np.testing.assert_allclose(codes["test"], again, rtol=1e-4, atol=1e-5)
    assert codes["test"].shape == (20, report["encoder"]["features"])
    assert codes["train_labels"].tolist() == [0, 1] * 30


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give --dataset, of images, or --features"),
        (["--dataset", "toy", "--features", "x.npz"], "give --dataset, of images, or --features"),
        (["--features", "there_is_none.npz"], "there is no such file"),
        (["--features", "x.npz", "--patches", "4"], "--patches is of images"),
        (["--dataset", "toy", "--patches", "9"], "images have 8 pixels a side"),
        (["--dataset", "toy", "--components", "0"], "must be between 1 and 65536, got 0"),
    ],
)
@pytest.mark.parametrize("command", METHODS[:1])
def test_what_cannot_be_learnt_from_is_told_in_one_line(command, arguments, told, tmp_path, capsys):
    assert start(command, *arguments, "--output_dir", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert told in error
    assert not list(tmp_path.glob("run/checkpoint-*"))


def test_a_dictionary_codes_images_in_another_run_as_it_was_learnt(images, tmp_path, capsys):
    learnt, out = tmp_path / "learnt", tmp_path / "codes"
    given = ["--dataset", str(images), "--output_dir"]
    assert start("dictionary", *PATCHES, *given, str(learnt)) == 0, capsys.readouterr().err
    assert start("sparse-coding", "--dictionary", str(learnt), *given, str(out)) == 0, capsys.readouterr().err
    first, second = (AutoModel.from_pretrained(folder) for folder in (learnt, out))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    assert (first.config.codes, second.config.codes) == ("omp", "lasso")
    about = ["--dictionary", str(learnt), "--output_dir", str(tmp_path / "other")]
    assert start("sparse-coding", *about, "--dataset", str(images), "--patches", "3") == 2
    assert f"--patches 3: {learnt} has 4" in capsys.readouterr().err
    assert start("pca", *given, str(tmp_path / "pca")) == 0
    about[1] = str(tmp_path / "pca")
    assert start("sparse-coding", *about, "--dataset", str(images)) == 2
    assert "is of components: give what `dictionary` or `sparse-coding` left" in capsys.readouterr().err


def test_images_that_do_not_fit_into_memory_are_read_again_and_give_the_same(images, tmp_path, monkeypatch, capsys):
    outs = []
    for number, held in enumerate((2**31, 0)):
        monkeypatch.setattr("hf_replearn.pretraining.inputs.HELD", held)
        outs.append(tmp_path / str(number))
        assert start("pca", "--dataset", str(images), "--output_dir", str(outs[-1])) == 0
    printed = capsys.readouterr().out
    assert "kept in memory" in printed and "read again in each pass" in printed
    assert digest(outs[0]) == digest(outs[1])


def test_several_processes_are_refused(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert start("pca", "--dataset", str(images), "--output_dir", str(tmp_path / "run")) == 2
    assert "2 processes were launched, and this works in one" in capsys.readouterr().err
