"""`pretraining/` loads with its own code in a process that has no hf_replearn. Methods are found by themselves."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hf_replearn

METHODS = sorted(
    path.parent.name
    for path in Path(hf_replearn.__file__).parent.glob("methods/*/__init__.py")
    if "register(" in path.read_text()
)
TINY = {"simclr": ({"backbone": "resnet18", "stem": "cifar"}, {"pixel_values": (2, 2, 3, 32, 32)})}

LOAD = """
import sys
class Hidden:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "hf_replearn":
            raise ImportError("this process is without hf_replearn")
sys.meta_path.insert(0, Hidden())
import torch
from transformers import AutoModel, AutoModelForPreTraining
folder = sys.argv[1]
batch = torch.load(folder + "/batch.pt", weights_only=True)
model = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
encoder = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
with torch.no_grad():
    loss = model(**batch).loss
same = all(torch.equal(a, b) for a, b in zip(encoder.state_dict().values(), model.model.state_dict().values()))
torch.save({"loss": loss, "same": torch.tensor(same)}, folder + "/loaded.pt")
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_code_travels_with_the_weights(method, tmp_path):
    module = importlib.import_module(f"hf_replearn.methods.{method}.modeling_{method}")
    importlib.import_module(f"hf_replearn.methods.{method}")  # registers the classes
    cls = next(getattr(module, name) for name in module.__all__ if name.endswith("ForPreTraining"))
    arguments, shapes = TINY[method]
    model = cls(cls.config_class(**arguments)).eval()
    batch = {name: torch.randn(shape) for name, shape in shapes.items()}
    with torch.no_grad():
        loss = model(**batch).loss
    model.save_pretrained(tmp_path)
    torch.save(batch, tmp_path / "batch.pt")
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    loaded = torch.load(tmp_path / "loaded.pt", weights_only=True)
    assert torch.equal(loaded["loss"], loss)
    assert loaded["same"]
