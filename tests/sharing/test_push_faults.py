"""A Hub that is overloaded, drops connections or refuses: nothing is lost, and one command pushes later."""

import json
import os
import subprocess
import sys

import numpy
import pytest
import yaml
from loopback_hub import LoopbackHub, Repository
from safetensors.numpy import save

from hf_replearn.cli import main as hf_replearn
from hf_replearn.sharing.card import card
from hf_replearn.sharing.hub import _stage, not_pushed
from hf_replearn.sharing.hub import pushed as pushed_files

WEIGHTS = save({"weight": numpy.zeros(2, "float32")})
PUSH = """
import sys, time
time.sleep = lambda seconds: None  # the client of the Hub tries some requests again itself
from hf_replearn.settings import run
from hf_replearn.sharing import hub
from hf_replearn.recipes.push import PushSettings, main
hub.PAUSES = (0.1, 0.1)
run(main, PushSettings, ["out", "--hub_model_id", "tester/x", *sys.argv[1:]])
"""


class FaultyHub(LoopbackHub):
    """Answers the next commits with `statuses`; None breaks the connection."""

    statuses: list = []

    def answer(self, method, path, token, body):
        if "/commit/" in path and self.statuses:
            status = self.statuses.pop(0)
            if status is None:
                raise ConnectionAbortedError
            return status, {}, {"error": "no"}
        return super().answer(method, path, token, body)


@pytest.fixture
def pushed(tmp_path, report):
    """Pushes a result against a Hub with these faults; returns the process and what arrived."""

    def push(*statuses, command=(), readme=None, there=None):
        (tmp_path / "out").mkdir()
        report.save(tmp_path / "out")
        text = card(report, tmp_path / "out") if readme is None else readme
        (tmp_path / "out" / "README.md").write_text(text, encoding="utf-8")
        (tmp_path / "out" / "model.safetensors").write_bytes(WEIGHTS)
        with FaultyHub(home=tmp_path / "home") as hub:
            hub.statuses = list(statuses)
            if there is not None:
                hub.repositories["tester/x"] = Repository(files={"README.md": there})
            environment = os.environ | hub.environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            done = subprocess.run(
                [sys.executable, "-c", PUSH, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            found = hub.repositories.get("tester/x")
            return done, found and found.files

    return push


@pytest.mark.parametrize("statuses", [(500,) * 8, (None, 429)])
def test_tried_again_until_it_is_taken(statuses, pushed):
    done, arrived = pushed(*statuses)
    assert done.returncode == 0, done.stderr
    assert arrived["model.safetensors"] == WEIGHTS and b"tester/x" in arrived["README.md"]
    assert len(statuses) < 8 or "tried again" in done.stderr


@pytest.mark.parametrize(("statuses", "reason"), [((500,) * 99, "status 500"), ((403,), "status 403")])
def test_the_exit_code_and_the_command_for_later(statuses, reason, pushed, tmp_path):
    done, arrived = pushed(*statuses)
    assert done.returncode == 69
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ") and reason in error
    assert error.endswith("push it later: hf-replearn push out --hub_model_id tester/x")
    assert "model.safetensors" not in arrived
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == WEIGHTS
    assert LoopbackHub.token not in done.stdout + done.stderr


def test_a_folder_without_a_result(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        hf_replearn(["push", str(tmp_path)])
    assert end.value.code == 2
    assert "has no report.json" in capsys.readouterr().err


def test_a_hub_in_trouble_is_not_a_refused_token(tmp_path, report):
    """Of the check before: an overloaded Hub says nothing about the token, and `push` has no flag --push_to_hub."""
    (tmp_path / "out").mkdir()
    report.save(tmp_path / "out")
    (tmp_path / "out" / "model.safetensors").write_bytes(WEIGHTS)

    class Ill(LoopbackHub):
        status = 500

        def answer(self, method, path, token, body):
            return self.status, {}, {"error": "no"}

    with Ill(home=tmp_path / "home") as hub:
        environment = os.environ | hub.environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        for status, words in (
            (500, "does not answer as it should (status 500): try again later"),
            (429, "fewer requests"),
        ):
            hub.status = status
            done = subprocess.run(
                [sys.executable, "-m", "hf_replearn", "push", "out"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 2 and words in done.stderr and "token" not in done.stderr
            assert done.stderr.startswith("error: push: ") and len(done.stderr.splitlines()) == 1


# ---- what goes, and what stays

WRITTEN = """
config.json generation_config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors
model.safetensors.index.json tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt
vocab.json merges.txt spiece.model chat_template.jinja additional_chat_templates/tool_use.jinja
preprocessor_config.json processor_config.json modules.json sentence_bert_config.json 1_Pooling/config.json
pretraining/config.json pretraining/model.safetensors pretraining/modeling_simclr.py README.md report.json report.html
recipe.yaml log.jsonl augmentations.png curves.png .eval_results/hf_replearn.yaml LICENSE LICENSE.txt NOTICE
""".split()  # noqa: SIM905
STRAY = """
secrets.json sub/creds.json .env notes.md wandb/config.yaml pretraining/token.json model.bin data.json 1_Pooling/x.json
.eval_results/x.json images/cat.png train.log optimizer.pt sub/README.md pretraining/sub/x.py
""".split()  # noqa: SIM905
OURS = [
    "checkpoint-5/config.json",
    "checkpoint-5/model.safetensors",
    "runs/events.json",
    ".lock",
    "skipped_images.txt",
    "x.partial",
]


@pytest.fixture
def full(tmp_path):
    for name in [*WRITTEN, *STRAY, *OURS]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_what_the_libraries_wrote_goes_and_nothing_else(full):
    assert sorted(pushed_files(full)) == sorted(WRITTEN)
    assert sorted(not_pushed(full)) == sorted(STRAY)  # named; what every run leaves is not


def test_what_the_card_shows_goes_with_it(full):
    (full / "README.md").write_text(
        "![a](images/cat.png) [b](./notes.md#part) <img src='sub/x [1].png'> [c](.env) [d](../up.txt) [e](/etc/passwd) "
        "[f](https://x.y/train.log)"
    )
    (full / "sub/x [1].png").write_text("picture")
    assert set(pushed_files(full)) - set(WRITTEN) == {"images/cat.png", "notes.md", "sub/x [1].png"}


def test_the_vocabulary_of_any_tokenizer_goes(full):
    """Whatever its class calls the file, as XLM's and FSMT's do."""
    (full / "tokenizer_config.json").write_text('{"tokenizer_class": "FSMTTokenizer"}')
    for name in ("vocab-src.json", "vocab-tgt.json"):
        (full / name).write_text("{}")
    assert {"vocab-src.json", "vocab-tgt.json"} <= set(pushed_files(full))


def test_the_copies_that_go_do_not_tell_where_they_lay(full, tmp_path_factory):
    recipe = {"dataset": ["/home/jane.doe/my data/x"], "output_dir": str(full), "init": "/home/jane.doe/bert"}
    (full / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (full / "config.json").write_text('{"_name_or_path": "/home/jane.doe/bert", "a": "/not/ours"}')
    (full / "tokenizer_config.json").write_text("{damaged /home/jane.doe/bert")
    (full / "vocab.txt").write_text("/home/jane.doe/bert")
    stage = tmp_path_factory.mktemp("stage")
    names = pushed_files(full)
    _stage(full, stage, names)
    assert yaml.safe_load((stage / "recipe.yaml").read_text()) == {
        "dataset": ["x"],
        "output_dir": full.name,
        "init": "bert",
    }
    assert json.loads((stage / "config.json").read_text()) == {"_name_or_path": "bert", "a": "/not/ours"}
    assert (stage / "tokenizer_config.json").read_text() == "{damaged bert"
    assert (stage / "vocab.txt").read_text() == "/home/jane.doe/bert"  # a token is a token
    assert yaml.safe_load((full / "recipe.yaml").read_text()) == recipe  # the folder keeps it, to go on
    assert sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()) == sorted(names)


def test_a_license_that_push_is_given_is_on_the_card_and_stays(pushed, tmp_path):
    done, arrived = pushed(command=["--license", "cc-by-4.0", "--language", "en"])
    assert done.returncode == 0, done.stderr
    assert b"license: cc-by-4.0\n" in arrived["README.md"] and b"language:\n- en\n" in arrived["README.md"]
    text = (tmp_path / "out/README.md").read_text()
    assert "license: cc-by-4.0\n" in text and "## License\n\ncc-by-4.0.\n" in text


def test_a_card_that_was_written_by_hand_is_pushed_with_its_words(pushed, tmp_path):
    done, arrived = pushed(readme="---\nlicense: mit\n---\nMine.\n", command=["--license", "gpl-3.0"])
    assert done.returncode == 2 and "README.md says license: mit, written by hand" in done.stderr and arrived is None
    assert (tmp_path / "out/README.md").read_text() == "---\nlicense: mit\n---\nMine.\n"


def test_a_card_that_was_edited_on_the_hub_is_not_overwritten(pushed):
    edited = b"---\nlicense: mit\n---\nNot for medical text.\n"
    done, arrived = pushed(there=edited)
    assert done.returncode == 69 and arrived == {"README.md": edited}
    assert "lacks 2 of its lines, such as 'license: mit': write them here too" in done.stderr


@pytest.mark.parametrize("damage", [None, WEIGHTS[:-1], b""])
def test_an_encoder_without_its_weights_is_not_pushed(damage, tmp_path, report, capsys):
    report.save(tmp_path)
    if damage is not None:
        (tmp_path / "model.safetensors").write_bytes(damage)
    with pytest.raises(SystemExit) as end:
        hf_replearn(["push", str(tmp_path)])
    assert end.value.code == 2 and "model.safetensors is missing or damaged" in capsys.readouterr().err
