"""`pretraining/`, and encoders that are fitted, load with their own code in a process that has no hf_replearn. Methods
are found by themselves."""

import importlib
import inspect
from pathlib import Path

import elsewhere
import pytest
import torch

import hf_replearn

METHODS = sorted(
    path.parent.name
    for path in Path(hf_replearn.__file__).parent.glob("methods/*/__init__.py")
    if "trunk import register" in path.read_text()
)
FITTED = sorted(
    path.parent.name
    for path in Path(hf_replearn.__file__).parent.glob("methods/*/__init__.py")
    if "fitted import register" in path.read_text()
)
BACKBONE = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1, 1, 1, 1], "channels": [8] * 4}}
WIDTHS = ("projection_dim", "projection_hidden", "head_hidden")  # of heads, where a method has them
VIEWS = {"rotation": (4,), "context_prediction": (9,), "cpc": (9,)}  # of other methods two
VIEWS |= dict.fromkeys(("protonet", "maml", "classifier"), (2, 3))  # episodes of two classes, three images of each
ONE_IMAGE = {"autoencoder": 3, "vae": 3, "gan": 3, "mae": 3, "inpainting": 3, "colorization": 1}  # and its channels
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
OWN = {  # encoders that methods cannot do without
    "autoencoder": {"image_size": 32},
    "vae": {"image_size": 32, "latents": 16},
    "cpc": {"stem": "imagenet", "backbone_args": BACKBONE["backbone_args"] | {"norm_layer": "groupnorm1"}},
    "maml": {"way": 2},
    "mae": {"stem": "imagenet", "backbone": "vit_tiny_patch16_224", "backbone_args": VIT},
    "colorization": {"backbone_args": BACKBONE["backbone_args"] | {"in_chans": 1}},
}

LOAD = """
import sys
import torch
from transformers import AutoModel, AutoModelForPreTraining
for folder in sys.argv[1:]:
    if "fitted-" in folder:
        images = torch.load(folder + "/batch.pt", weights_only=True)
        with torch.no_grad():
            found = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()(images).pooler_output
        torch.save(found, folder + "/loaded.pt")
        continue
    batch = torch.load(folder + "/batch.pt", weights_only=True)
    model = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
    encoder = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        loss = model(**batch).loss
    same = all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), model.model.state_dict().values()))
    torch.save({"loss": loss, "same": torch.tensor(same)}, folder + "/loaded.pt")
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Of each method the loss here, and what one process that loads all of them says."""
    here = {}
    root = tmp_path_factory.mktemp("saved")
    for method in METHODS:
        importlib.import_module(f"hf_replearn.methods.{method}")  # registers the classes
        module = importlib.import_module(f"hf_replearn.methods.{method}.modeling_{method}")
        cls = next(getattr(module, name) for name in module.__all__ if name.endswith("ForPreTraining"))
        torch.manual_seed(0)
        narrow = {field: 16 for field in vars(cls.config_class()) if field in WIDTHS}
        model = cls(cls.config_class(**(BACKBONE | OWN.get(method, {})), **narrow)).eval()
        shape = (ONE_IMAGE[method],) if method in ONE_IMAGE else (*VIEWS.get(method, (2,)), 3)
        batch = {"pixel_values": torch.randn(3, *shape, 32, 32), "labels": torch.tensor([0, 1, 0])}
        batch |= {
            "noise": torch.rand(3, 16),
            "hidden": torch.rand(3, 1, 32, 32) < 0.2,
            "levels": torch.rand(3, 3, 32, 32),
            "latents": torch.randn(3, 64),
            "ab": torch.rand(3, 2, 8, 8),
            "classes": torch.tensor([[0, 1]] * 3),
        }
        taken = inspect.signature(model.forward).parameters
        batch = {name: value for name, value in batch.items() if name in taken}
        with torch.no_grad():
            here[method] = model(**batch).loss
        model.save_pretrained(root / method)
        torch.save(batch, root / method / "batch.pt")
    for method in FITTED:
        package = importlib.import_module(f"hf_replearn.methods.{method}")
        cls = next(getattr(package, name) for name in package.__all__ if name.endswith("Model"))
        config = cls.config_class(image_size=8, inputs=48, components=6, patch_size=4, contrast=0.1, whitened=True)
        model, images = cls(config).eval(), torch.rand(2, 3, 8, 8)
        with torch.no_grad():
            here[method] = model(images).pooler_output
        model.save_pretrained(root / f"fitted-{method}")
        torch.save(images, root / f"fitted-{method}" / "batch.pt")
    folders = [str(root / name) for name in (*METHODS, *(f"fitted-{method}" for method in FITTED))]
    elsewhere.run(LOAD, *folders, folder=root)
    return here, {Path(folder).name: torch.load(f"{folder}/loaded.pt", weights_only=True) for folder in folders}


@pytest.mark.parametrize("method", METHODS)
def test_the_code_travels_with_the_weights(method, loaded):
    here, there = loaded
    assert torch.equal(there[method]["loss"], here[method])
    assert there[method]["same"]


@pytest.mark.parametrize("method", FITTED)
def test_a_fitted_encoder_travels_with_its_code(method, loaded):
    here, there = loaded
    assert torch.equal(there[f"fitted-{method}"], here[method])
