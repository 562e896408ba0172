"""The real clients of the Hub (huggingface_hub, transformers, timm) against a Hub on this machine, over HTTP.

They read HF_ENDPOINT and HF_HOME when they are imported, so each user here is a process of its own.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image

from hf_replearn.sharing import hub
from hf_replearn.sharing.card import card
from hf_replearn.sharing.names import in_words

AUTHOR = """
import timm, torch
from PIL import Image
from timm.data import create_transform
from hf_replearn.sharing.export import export_timm
from hf_replearn.sharing.hub import check_token, push

torch.manual_seed(0)
encoder = timm.create_model("test_resnet", num_classes=0).eval()
size, mean, std = 64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
export_timm(encoder, "out", architecture="test_resnet", image_size=size, mean=mean, std=std)
transform = create_transform((3, size, size), mean=mean, std=std, interpolation="bilinear", crop_pct=1.0)
torch.save(encoder(transform(Image.open("image.png").convert("RGB")).unsqueeze(0)).detach(), "features.pt")
push("out", "tester/secret", private=True)
for attempt in range(2):  # the second finds the repository there
    print(push("out", check_token("out", "x"), private=False))
"""

READER = """
import re, sys, torch
from huggingface_hub import ModelCard

sys.modules["hf_replearn"] = None  # importing it is an error
source = torch.load("features.pt")
snippets = re.findall(r"```python\\n(.*?)```", ModelCard.load("tester/x").text, flags=re.DOTALL)
assert len(snippets) == 3
for snippet in snippets[:2]:  # plain transformers, plain timm
    names = {}
    exec(snippet, names)
    assert source.std() > 0 and torch.equal(names["features"], source), (names["features"] - source).abs().max()
try:
    exec(snippets[2])
    sys.exit("hf_replearn was there")
except ImportError:
    print("bit-equal")
"""

CHECK = """
import sys
from hf_replearn.errors import InputError
from hf_replearn.sharing.hub import check_token
try:
    print(check_token(*sys.argv[1:]))
except InputError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def python(loopback_hub, tmp_path):
    """Runs a program in `tmp_path` as a user of the loopback Hub."""

    def run(program, *arguments, **environment):
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=os.environ | loopback_hub.environment() | paths | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_a_pushed_encoder_loads_anywhere_and_nothing_else_was_pushed(python, loopback_hub, report, tmp_path):
    decoys = (
        "checkpoint-5/model.safetensors checkpoint-5/trainer_state.json optimizer.pt training_args.bin .env train.log"
    )
    for file in (decoys + " pretraining/modeling_simclr.py pretraining/scaler.pkl log.jsonl").split():
        path = tmp_path / "out" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    Image.radial_gradient("L").resize((48, 40)).save(tmp_path / "image.png")
    report.save(tmp_path / "out")
    report.repo_id = "tester/x"
    (tmp_path / "out/README.md").write_text(card(report, "out"), encoding="utf-8")

    author = python(AUTHOR)
    assert author.returncode == 0, author.stderr
    assert [line for line in author.stdout.splitlines() if "//" in line] == [f"{loopback_hub.url}/tester/x"] * 2
    assert ": .env, optimizer.pt, pretraining/scaler.pkl, train.log, training_args.bin\n" in author.stdout
    assert [loopback_hub.repositories[name].private for name in ("tester/x", "tester/secret")] == [False, True]
    pushed = loopback_hub.repositories["tester/x"].files
    expected = "README.md config.json log.jsonl model.safetensors pretraining/modeling_simclr.py report.json"
    assert sorted(pushed) == sorted(expected.split())
    assert loopback_hub.token not in author.stdout + author.stderr
    assert not any(loopback_hub.token.encode() in data for data in pushed.values())

    results = ModelCard(pushed["README.md"].decode()).data.eval_results
    trained = json.loads(pushed["report.json"])["rows"]["SimCLR"]
    assert {result.metric_name: result.metric_value for result in results} == {
        in_words(metric): round(value, 4) for metric, value in trained.items() if not metric.endswith("_ci95")
    }

    reader = python(READER, HF_TOKEN="")
    assert reader.stdout.strip() == "bit-equal", reader.stderr


@pytest.mark.parametrize(
    ("arguments", "repo_id"),
    [(["runs/digits"], "tester/digits"), (["out", "x"], "tester/x"), (["out", "team/x"], "team/x")],
)
def test_the_repository_is_named_before_training(python, arguments, repo_id):
    assert python(CHECK, *arguments).stdout.strip() == repo_id


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_TOKEN": ""}, r"--push_to_hub needs a token: run `hf auth login` or set HF_TOKEN"),
        ({"HF_TOKEN": "hf_wrong"}, r"--push_to_hub: \S+ refuses the token \(status 401\): run `hf auth login` or .*"),
        ({"HF_TOKEN": "hf_loopback_read"}, r"--push_to_hub needs a token that may write, this one may only read: .*"),
        ({"HF_HUB_OFFLINE": "1"}, r"--push_to_hub: HF_HUB_OFFLINE=1 forbids the network: unset it"),
        ({"HF_ENDPOINT": "http://127.0.0.1:1"}, r"--push_to_hub: http://127.0.0.1:1 cannot be reached: .*refused.*"),
    ],
)
def test_a_push_that_cannot_work_is_one_line_before_training(python, environment, message):
    result = python(CHECK, "out", **environment)
    assert re.fullmatch(message, result.stderr.strip()), result.stderr
    assert "hf_wrong" not in result.stderr


def test_every_picture_of_a_method_is_pushed():
    """The card that shows it goes to the Hub too."""
    methods = Path(hub.__file__).parents[1] / "methods"
    named = {name for file in methods.rglob("*.py") for name in re.findall(r'"(\w+\.(?:png|gif))"', file.read_text())}
    assert len(named) > 10 and named <= set(hub.PICTURES.split())


def test_a_folder_that_cannot_name_a_repository_is_told(python):
    error = python(CHECK, "runs/my run").stderr
    assert "'my run'" in error and "--hub_model_id" in error and len(error.splitlines()) == 1
