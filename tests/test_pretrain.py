"""`hr.pretrain` as a notebook calls it: datasets and augmentations as objects, the same runs as the commands'."""

import importlib

import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_digits

import hf_replearn as hr
from hf_replearn.errors import InputError
from hf_replearn.settings import run

SMALL = {
    "backbone": "resnet18", "backbone_args": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}, "image_size": 16,
    "stem": "cifar", "per_device_train_batch_size": 32, "knn_steps": 0, "optimizer": "adamw", "learning_rate": 1e-3,
    "use_cpu": True, "bf16": False, "draws": 2, "max_steps": 2,
}  # fmt: skip


class Digits:
    """What a user may have: a length, and items (array, label)."""

    def __init__(self, labels: bool = True):
        digits = load_digits()
        self.images = (digits.images[:200] * 15.9).astype(np.uint8)
        self.labels = digits.target[:200] if labels else None

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        return self.images[place] if self.labels is None else (self.images[place], int(self.labels[place]))


def test_a_run_of_objects_is_a_folder_like_any_other_and_goes_on(tmp_path):
    run_of = hr.pretrain("simclr", dataset=Digits(), output_dir=tmp_path / "out", save_steps=1, **SMALL)
    assert run_of.report.rows["SimCLR"]["knn@20"] > 0
    assert run_of.report.data.train == 160  # a fifth is held out
    assert "<table>" in run_of._repr_html_() and "SimCLR" in repr(run_of)
    assert "hf_replearn.pretrain('simclr'" in (tmp_path / "out" / "README.md").read_text()
    network = timm.create_model(f"local-dir:{run_of}", pretrained=True, num_classes=0)
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    again = hr.pretrain("simclr", dataset=Digits(), output_dir=tmp_path / "out", save_steps=1, **SMALL)
    assert str(again) == str(run_of) and (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    features = hr.encode(run_of, [image for image, _ in (Digits()[place] for place in range(4))], use_cpu=True)
    assert features.shape == (4, network.num_features)
    report = hr.evaluate({"mine": run_of}, dataset=Digits(), baselines=False, shots=(1,), use_cpu=True)
    assert "k_shot@1" in report.rows["mine"]


@pytest.mark.usefixtures("unshown")
def test_it_is_the_run_of_the_command(tmp_path):
    recipe = importlib.import_module("hf_replearn.recipes.simclr")
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    run(recipe.main, recipe.SimCLRSettings, [*words, "--dataset", "toy", "--output_dir", str(tmp_path / "a")])
    hr.pretrain("simclr", dataset="toy", output_dir=tmp_path / "b", **SMALL)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Twice as large, and moved to the right by what torch draws."""
    enlarged = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return torch.roll(enlarged, int(torch.randint(8, ())), dims=3)


@pytest.mark.usefixtures("unshown")
def test_an_augmentation_of_ones_own_draws_by_the_step(tmp_path):
    """Whatever was drawn before, and without a mark on the random numbers of others."""
    weights = []
    for name, seed in (("a", 1), ("b", 2)):
        torch.manual_seed(seed)
        hr.pretrain("simclr", dataset=Digits(False), augment=shifted, output_dir=tmp_path / name, **SMALL)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    hr.pretrain("simclr", dataset=Digits(False), output_dir=tmp_path / "c", **SMALL)
    assert weights[0] != (tmp_path / "c" / "model.safetensors").read_bytes()


@pytest.mark.usefixtures("unshown")
def test_texts_that_a_notebook_holds(tmp_path):
    texts = [f"The {word} is number {number} of the list." for number in range(60) for word in ("cat", "dog", "bird")]
    tiny = {"size": "tiny", "vocab_size": 300, "sequence_length": 16, "per_device_train_batch_size": 8, "max_steps": 1}
    for method in ("masked_lm", "causal-lm"):
        found = hr.pretrain(
            method, dataset=texts, output_dir=tmp_path / method, use_cpu=True, bf16=False, eval_rows=8, **tiny
        )
        assert found.report.data.train == 176
        assert set(found.report.training.held_out) == {"this model", "token frequencies"}


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("simclr", {"dataset": Digits(), "augment": lambda images: images[:-1]}, "makes (1, 3, 8, 8) of 2 images"),
        ("simclr", {"dataset": Digits(), "augment": lambda images: None}, "makes NoneType of 2 images"),
        ("simclr", {"dataset": Digits(), "augment": lambda images: images.float()}, "makes levels from 0 to 254: give"),
        (
            "simclr",
            {"dataset": Digits(), "augment": lambda images: images.no()},
            "the augmentation fails on uint8 images",
        ),
        ("simclr", {"dataset": [1, 2, 3]}, "item 0 of the dataset is int"),
        ("simclr", {"dataset": object()}, "is a object"),
        ("simclr", {"dataset": Digits(), "temprature": 1}, "did you mean --temperature?"),
        ("simclr", {"dataset": Digits(), "temperature": 0.0}, "--temperature must be between"),
        ("simclr", {"dataset": Digits(), "backbone": "resnet18.nosuch"}, "timm knows no weights 'nosuch'"),
        ("simclrr", {"dataset": Digits()}, "did you mean simclr?"),
        ("evaluate", {"dataset": Digits()}, "trains nothing"),
        ("masked-lm", {"dataset": Digits()}, "text"),
        ("masked-lm", {"dataset": ["a", "b"], "augment": shifted}, "does not learn from views of images"),
    ],
)
def test_bad_input_is_one_line(method, given, message, tmp_path):
    usual = {} if method == "masked-lm" else {name: value for name, value in SMALL.items() if name != "backbone_args"}
    with pytest.raises(InputError) as error:
        hr.pretrain(method, output_dir=tmp_path / "out", **usual | given)
    assert message in str(error.value) and "\n" not in str(error.value)
