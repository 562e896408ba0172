"""Every recipe: its configs and documented commands are valid, it runs, goes on, trains on two processes, and says
clearly what is wrong with its input. Recipes are found by themselves."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from PIL import Image

from hf_replearn.cli import COMMANDS
from hf_replearn.settings import parse, run
from hf_replearn.training.checkpoints import read_manifest
from hf_replearn.training.sharding import asked_layout

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))
SMALL = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
SMALL += ["--image_size", "16", "--stem", "cifar", "--augmentation", "cifar", "--per_device_train_batch_size", "32"]
SMALL += ["--knn_steps", "0", "--optimizer", "adamw", "--learning_rate", "1e-3", "--use_cpu", "--draws", "2"]


def settings_of(recipe: str) -> type:
    module = importlib.import_module(f"hf_replearn.recipes.{recipe}")
    return next(getattr(module, settings) for name, settings, _ in COMMANDS.values() if name == recipe)


def simclr(*arguments: str) -> int:
    """Runs the recipe in this process; returns its exit code."""
    recipe = importlib.import_module("hf_replearn.recipes.simclr")
    try:
        run(recipe.main, recipe.SimCLRSettings, [*SMALL, *arguments])
    except SystemExit as end:
        return end.code
    return 0


def test_every_recipe_is_a_command():
    assert sorted(module for module, _, _ in COMMANDS.values() if module) == RECIPES


@pytest.mark.parametrize("config", sorted((ROOT / "recipes" / "configs").glob("*/*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_valid(config):
    settings = settings_of(config.parent.name)
    data = "dataset" if "dataset" in settings.__dataclass_fields__ else "tasks"
    arguments = [f"--{data}", "toy", "--config", str(config), "--output_dir", "out"]
    assert parse(settings, arguments).output_dir == "out"


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_documented_command_is_valid(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = importlib.import_module(f"hf_replearn.recipes.{recipe}").__doc__ + (ROOT / "README.md").read_text()
    text = text.replace("\\\n", " ")
    command = next(name for name, (module, _, _) in COMMANDS.items() if module == recipe)
    start = rf"^ *(?:accelerate launch.* recipes/{recipe}\.py|hf-replearn {command}) (.*)"
    commands = re.findall(start, text, flags=re.MULTILINE)
    assert commands
    for arguments in commands:
        parse(settings_of(recipe), shlex.split(arguments, comments=True))


@pytest.mark.parametrize("config", sorted((ROOT / "recipes" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_accelerate_config_is_understood(config, monkeypatch):
    """What the launcher makes of it asks for what its name says, and of nothing that we do not have."""
    told = load_config_from_file(str(config))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(told.distributed_type == "FSDP").lower())
    for name, value in {**told.fsdp_config, **told.parallelism_config}.items():
        monkeypatch.setenv(name.upper(), str(value).lower() if isinstance(value, bool) else str(value))
    if told.parallelism_config:
        monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    shared = {"fsdp2": "8 shards", "hsdp": "2 x 8 shards", "tensor_parallel": "1 shards x 8 tensor parallel"}
    shared["fsdp2_tensor_parallel"] = "2 shards x 8 tensor parallel"
    assert str(asked_layout(told.num_processes)) == shared.get(config.stem, "None")


def test_a_run_leaves_what_it_promises_and_the_same_command_goes_on(tmp_path, capsys):
    out = tmp_path / "digits"
    arguments = ["--dataset", "toy", "--max_steps", "3", "--save_steps", "2", "--output_dir", str(out)]
    assert simclr(*arguments) == 0
    printed = capsys.readouterr().out
    assert "random weights" in printed and "k_shot@1" in printed
    left = {path.name for path in out.iterdir()}
    assert left >= {
        "config.json", "model.safetensors", "pretraining", "README.md", "report.json", "report.html", "log.jsonl",
        "recipe.yaml", "augmentations.png", "checkpoint-3",
    }  # fmt: skip
    report = json.loads((out / "report.json").read_text())
    assert list(report["rows"]) == ["SimCLR", "raw pixels", "PCA of pixels (16)", "random weights"]
    assert set(report["rows"]["SimCLR"]) >= {"k_shot@1", "k_shot@1_ci95", "knn@20", "knn@200", "linear"}
    weights = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()
    assert simclr(*arguments) == 0  # nothing left to train: the last checkpoint is exported again
    assert (out / "model.safetensors").read_bytes() == weights
    assert simclr(*arguments, "--seed", "1") == 2
    assert "belongs to another run, with seed 42 instead of 1" in capsys.readouterr().err


@pytest.mark.usefixtures("unshown")
def test_the_export_is_the_encoder_that_was_measured(tmp_path):
    """Features of the exported folder by plain timm, with its own preprocessing, against those of the trained f."""
    import timm

    from hf_replearn import SimCLRForPreTraining
    from hf_replearn.data.images import decode_rgb, load_images
    from hf_replearn.representation import ImagePreprocessor, extract

    assert simclr("--dataset", "toy", "--max_steps", "2", "--output_dir", str(tmp_path)) == 0
    trained = SimCLRForPreTraining.from_pretrained(tmp_path, subfolder="pretraining").model.encoder
    plain = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(plain)
    transform = timm.data.create_transform(**config)
    rows = load_images("toy").test.select(range(8))
    # timm enlarges 8-pixel digits straight to its input size, we enlarge them to the size trained on: give both that.
    enlarged = [decode_rgb(row["image"]).resize((16, 16), Image.Resampling.BILINEAR) for row in rows]
    with torch.no_grad():
        theirs = plain(torch.stack([transform(image) for image in enlarged]))
    ours = extract(trained, rows, preprocess=ImagePreprocessor(16, config["mean"], config["std"])).x
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@pytest.fixture
def photos(tmp_path):
    """Forty unlabelled images of as many sizes."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for number in range(40):
        height, width = rng.integers(20, 60, 2)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def test_unlabelled_images_of_many_sizes(photos, tmp_path, capsys):
    assert simclr("--dataset", str(photos), "--max_steps", "2", "--output_dir", str(tmp_path / "out")) == 0
    assert "No score was measured" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.usefixtures("unshown")
def test_cached_gradients_and_a_checkpoint_to_start_from(photos, tmp_path):
    settings = [
        "--dataset",
        str(photos),
        "--image_size",
        "32",
        "--max_steps",
        "2",
        "--per_device_train_batch_size",
        "16",
    ]
    assert simclr(*settings, "--stem", "imagenet", "--output_dir", str(tmp_path / "a")) == 0
    settings += [
        "--backbone",
        str(tmp_path / "a"),
        "--backbone_args",
        "none",
        "--stem",
        "imagenet",
        "--negatives",
        "32",
    ]
    assert simclr(*settings, "--output_dir", str(tmp_path / "b")) == 0
    report = json.loads((tmp_path / "b" / "report.json").read_text())
    assert report["training"]["examples"] == 64
    assert report["encoder"]["initialized_from"] == "a"  # and not where it lies on this machine


def test_what_is_left_to_the_data_is_said_kept_and_trained_on_for_longer(tmp_path, capsys):
    """No word on size, stem, augmentation, batch: small images get CIFAR's. The same command goes on, with more steps
    too; another run starts from its encoder, stem and all; the encoder of its checkpoint is exported."""
    from hf_replearn.methods.simclr import SimCLRForPreTraining
    from hf_replearn.pretraining.images import export
    from hf_replearn.pretraining.start import find_start
    from hf_replearn.recipes.simclr import METHOD, SimCLRSettings

    recipe = importlib.import_module("hf_replearn.recipes.simclr")
    rng = np.random.default_rng(0)
    for number in range(24):
        image = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
        (image.crop((0, 0, 1, 1)) if number == 0 else image).save(tmp_path / f"{number:02}.png")  # one of one pixel
    given = ["--dataset", str(tmp_path), "--use_cpu", "--bf16", "false", *SMALL[2:4]]

    def exit_code(*arguments):
        try:
            run(recipe.main, recipe.SimCLRSettings, [*given, *arguments])
        except SystemExit as end:
            return end.code
        return 0

    out = tmp_path / "runs" / "a"
    assert exit_code("--max_steps", "1", "--output_dir", str(out)) == 0
    printed = capsys.readouterr().out
    assert "images are of several sizes, half of them up to 28 pixels: trained at 32" in printed
    chosen = "--augmentation cifar --strength 0.5 --temperature 0.5 --per_device_train_batch_size 16"
    assert f"trained at 32 with --backbone resnet18 --stem cifar {chosen}\n" in printed
    assert (out / "augmentations.png").exists()
    kept = (out / "recipe.yaml").read_text()
    assert "image_size: 32\n" in kept and "stem: cifar\n" in kept and "per_device_train_batch_size: 16\n" in kept
    assert json.loads((out / "report.json").read_text())["settings"]["temperature"] == 0.5

    assert exit_code("--max_steps", "2", "--output_dir", str(out)) == 2
    assert "max_steps 1 instead of 2" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="max_steps 1 instead of 2: it goes on, as --allow_change says"):
        assert exit_code("--max_steps", "2", "--allow_change", "--output_dir", str(out)) == 0
    printed = capsys.readouterr().out
    assert json.loads((out / "report.json").read_text())["training"]["steps"] == 2
    assert f"--backbone {out}" in printed

    trained = SimCLRForPreTraining.from_pretrained(out / "pretraining").model.encoder.state_dict()
    for name in (str(out), str(out / "pretraining")):
        start, stem = find_start(SimCLRSettings(dataset="toy", output_dir="b", backbone=name), image_size=99)
        assert (start.architecture, start.input_size, stem) == ("resnet18", 32, "cifar")
        assert all(weight.equal(start.weights[name]) for name, weight in trained.items())
    given[given.index("--backbone_args") :] = ["--backbone", str(out)]
    assert exit_code("--max_steps", "1", "--output_dir", str(tmp_path / "runs" / "b")) == 0
    assert json.loads((tmp_path / "runs" / "b" / "report.json").read_text())["encoder"]["initialized_from"]
    assert exit_code("--stem", "imagenet", "--output_dir", str(tmp_path / "runs" / "c")) == 2
    assert "--stem imagenet" in capsys.readouterr().err
    export(
        METHOD,
        tmp_path / "runs" / "b" / "checkpoint-1",
        read_manifest(tmp_path / "runs" / "b" / "checkpoint-1")["circumstances"],
        tmp_path / "exported",
    )
    exported = (tmp_path / "exported" / "model.safetensors").read_bytes()
    assert exported == (tmp_path / "runs" / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("sizes", "given", "want"),
    [
        ({(8, 8): 9}, {}, {"image_size": 16, "stem": "cifar", "backbone": "resnet18", "augmentation": "cifar"}),
        ({(28, 28): 9}, {}, {"image_size": 32, "stem": "cifar", "strength": 0.5, "temperature": 0.5}),
        ({(32, 32): 1, (30, 64): 1, (64, 20): 1}, {}, {"image_size": 64, "stem": "cifar"}),
        ({(32, 32): 60, (3000, 4000): 40}, {}, {"image_size": 32}),
        ({(96, 96): 9}, {}, {"image_size": 96, "stem": "imagenet", "backbone": "resnet50", "augmentation": "imagenet"}),
        ({(375, 500): 9}, {}, {"image_size": 224, "stem": "imagenet", "strength": 1.0, "temperature": 0.1}),
        ({(375, 500): 9}, {"image_size": 32}, {"image_size": 32, "stem": "cifar", "backbone": "resnet18"}),
        ({(32, 32): 9}, {"backbone": "test_vit"}, {"image_size": 64, "stem": "imagenet", "augmentation": "cifar"}),
        ({(32, 32): 9}, {"backbone": "resnet10t"}, {"image_size": 64, "stem": "imagenet"}),  # its stem is no 7x7
        ({(32, 32): 9}, {"stem": "imagenet"}, {"image_size": 64, "stem": "imagenet"}),
        ({(32, 32): 9}, {"strength": 0.0, "temperature": 1.0}, {"strength": 0.0, "temperature": 1.0}),
        ({(32, 32): 9}, {}, {"per_device_train_batch_size": 64}),  # of 100 images
        ({(32, 32): 9}, {"negatives": 96}, {"per_device_train_batch_size": 32}),
        ({(32, 32): 9}, {"per_device_train_batch_size": 7}, {"per_device_train_batch_size": 7}),
    ],
)
def test_settings_that_are_left_to_the_data(sizes, given, want):
    from hf_replearn.pretraining.start import fit_to_data, left_to_the_data
    from hf_replearn.recipes.simclr import SimCLRSettings

    data = SimpleNamespace(sizes=Counter(sizes), train=range(100), images=100)
    settings = SimCLRSettings(dataset="toy", output_dir="out", **given)
    fitted, backbone = fit_to_data(settings, data, processes=1)
    assert {name: getattr(fitted, name) for name in want} == want
    assert left_to_the_data(fitted) == []
    assert backbone.arguments == ({"img_size": 64} if given.get("backbone") == "test_vit" else {})


@pytest.fixture
def folders(tmp_path):
    """Folders that are wrong in their own ways."""
    (tmp_path / "empty").mkdir()
    for name, count in (("one", 1), ("few", 8)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "broken").mkdir()
    for number in range(20):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "broken" / f"{number}.png")
    (tmp_path / "broken" / "7.png").write_bytes(b"not a picture")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "{}/missing/folder"], "missing/folder"),
        (["--dataset", "{}/empty"], "no images"),
        (["--dataset", "{}/one"], "at least 2"),
        (["--dataset", "{}/few"], "a batch of 32 images is larger than the data, 8"),
        (["--dataset", "{}/broken"], "7.png"),
        (["--dataset", "toy", "--image_column", "picture"], "image"),
        (["--dataset", "toy", "--backbone", "resnet81"], "resnet18"),
        (["--dataset", "toy", "--backbone", "{}/empty"], "without a timm checkpoint"),
        (["--dataset", "toy", "--negatives", "33"], "must be a multiple of 32"),
        (["--dataset", "toy", "--push_to_hub"], "HF_HUB_OFFLINE"),
        (["--dataset", "toy", "--output_dir", "{}/one"], "is not empty and holds no run"),
        (["--dataset", "toy", "--output_dir", "{}/one/0.png/out"], "Not a directory"),
        (["--dataset", "toy", "--resume", "{}/empty"], "not a checkpoint folder"),
        (["--dataset", "toy", "--backbone", "vit_tiny_patch16_224", "--backbone_args", "{{}}"], "--stem cifar"),
        (["--dataset", "toy", "--backbone_args", "{{'layer': 3}}"], "layer"),
        (["--dataset", "toy", "--backbone_args", "{{'in_chans': 1}}"], "in_chans 1: say --channels 1"),
        (["--dataset", "toy", "--backbone_args", "{{'features_only': True}}", "--stem", "imagenet"], "not one vector"),
        (
            [
                "--dataset",
                "toy",
                "--backbone",
                "test_vit",
                "--backbone_args",
                "none",
                "--stem",
                "imagenet",
                "--image_size",
                "30",
            ],
            "does not take images of 30 x 30 pixels: Input height (30)",
        ),
        (["--dataset", "toy", "--image_size", "4096", "--per_device_train_batch_size", "1024"], "GB: lower --per_dev"),
        (["--dataset", "toy", "--per_device_train_batch_size", "1"], "must be between 2 and 1000000, got 1"),
        (["--dataset", "toy", "--max_minutes", "1", "--warmup_steps", "10"], "--warmup_steps 10: with --max_minutes"),
        (["--dataset", "toy", "--report_to", "nosuch"], "--report_to nosuch: choose none"),
        (["--dataset", "toy", "--max_steps", "0"], "--max_steps must be at least 1, got 0"),
        (["--dataset", ""], "--dataset is empty"),
        (["--dataset", "toy", "--shots", "1,5000"], "5000"),
        (["--dataset", "toy", "--temperature", "0"], "--temperature must be between 0.025 and 1000"),
        (["--data_set", "toy"], "did you mean --dataset?"),
        ([], "--dataset is required"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, folders, capsys, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr("hf_replearn.training.trainer.PretrainingTrainer.training_step", None)
    arguments = [argument.format(folders) for argument in arguments]
    assert simclr("--output_dir", str(folders / "out"), *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_two_processes_train_and_agree(tmp_path):
    """accelerate launch with the shipped CPU profile: one encoder, made by both processes."""
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)):
        path = tmp_path / "noise" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "recipes/accelerate/cpu.yaml"]
    command += ["--main_process_port", "0", "recipes/simclr.py", *SMALL, "--max_steps", "3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--dataset", str(tmp_path / "noise"), "--output_dir", str(tmp_path / "out")],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["training"]["examples"] == 3 * 2 * 32
    assert report["training"]["hardware"].startswith("2 processes")
