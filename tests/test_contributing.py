"""What CONTRIBUTING says of adding a method, done word for word in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import timm

ROOT = Path(__file__).parents[1]
SMALL = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
SMALL += ["--image_size", "16", "--per_device_train_batch_size", "32", "--knn_steps", "0", "--optimizer", "adamw"]
SMALL += ["--learning_rate", "1e-3", "--use_cpu", "--draws", "2", "--shots", "1", "--max_steps", "2"]


def test_the_method_of_the_page_is_added_and_trains(tmp_path):
    copy = tmp_path / "copy"
    for name in ("hf_replearn", "recipes"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    for path, code in blocks:
        file = copy / path
        if file.exists():  # of cli.py, there is one more line
            text = file.read_text()
            assert text.count("COMMANDS = {\n") == 1
            file.write_text(text.replace("COMMANDS = {\n", "COMMANDS = {\n" + code))
        else:
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "hf_replearn", "align-uniform", "--dataset", "toy", *SMALL]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "out")], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"]["alignment and uniformity"]["knn@20"] > 0.2
    assert report["command"].startswith("hf-replearn align-uniform --output_dir out")
    assert timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).num_features
