"""The recipe as it is started: what it leaves, on one process and two, and what it says about a wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from toy_tasks import LABELS, make_model

from hf_replearn.evaluation.prompting import summary
from hf_replearn.recipes import prompt
from hf_replearn.settings import run
from hf_replearn.sharing import report as facts

few_shot = sys.modules["hf_replearn.evaluation.prompting.few_shot"]  # the module; the package has a function so called
ROOT = Path(__file__).parents[3]


@pytest.fixture
def command(folder, tokenizer):
    make_model("gpt2").save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "toy.yaml").write_text(LABELS + "replearn: {shots: [0, 2], seeds: 2, orders: 2, calibration: true}\n")
    return ["--model", str(folder / "model"), "--tasks", str(folder / "toy.yaml"), "--use_cpu", "--output_dir"]


def exit_code(*arguments: str) -> int:
    try:
        run(prompt.main, prompt.PromptSettings, list(arguments))
    except SystemExit as end:
        return end.code
    return 0


def test_what_a_run_leaves(command, folder, capsys):
    task = (folder / "toy.yaml").read_text().replace("dataset_path: json", "dataset_path: some/set")
    task = task.replace("dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}\n", "")
    (folder / "toy.yaml").write_text(task.replace("replearn: {", "replearn: {local: ., "))
    assert exit_code(*command, str(folder / "out"), "--data_root", str(folder)) == 0
    shown = capsys.readouterr().out
    assert "toy, acc" in shown and "toy, linear probe, acc" in shown and "K = 2" in shown
    results = json.loads((folder / "out" / "results.json").read_text())
    runs = results["tasks"]["toy"]["runs"]
    assert [(r["shots"], r["seed"], r["order"]) for r in runs] == [(0, 42, 0)] + [
        (2, s, o) for s in (42, 43) for o in (0, 1)
    ]
    for one in runs:
        assert all(len(r["shots"]) == one["shots"] and len(r["logprobs"]) == 2 for r in one["documents"])
    assert results["model"]["packed"] is True and results["tasks"]["toy"]["bad"] == []
    assert (folder / "out" / "shots.png").stat().st_size > 1000
    [entry, *_] = yaml.safe_load((folder / "out" / ".eval_results" / "toy.yaml").read_text())
    assert entry["dataset"] == {"id": "some/set", "task_id": "toy"}
    assert entry["value"] == round(results["tasks"]["toy"]["summary"]["toy"]["acc"]["0"]["mean"], 4)


def test_scores_and_curves_are_added_to_the_card(command, folder):
    model = folder / "model"
    facts.Report(
        method=facts.Method(
            name="Causal LM", summary="What follows.", paper="A paper", arxiv=None, bibtex="@a{b}", model_class="a.B"
        ),
        encoder=facts.Encoder(
            library="transformers", pipeline_tag="text-generation", architecture="GPT2LMHeadModel", parameters=1,
            features=32, input_size=[64],
        ),
        data=facts.Data(name="prose", unit="row", train=1, test=1, skipped=0, classes=None, held_out="none"),
        training=facts.Training(
            steps=1, examples=1, seconds=1.0, examples_per_second=1.0, final_loss=1.0, hardware="none", tokens=9
        ),
        command="hf-replearn causal-lm", settings={}, changed=[],
    ).save(model)  # fmt: skip
    assert exit_code(*command, str(folder / "out"), "--add_to_card") == 0
    summary = json.loads((folder / "out" / "results.json").read_text())["tasks"]["toy"]["summary"]
    report = facts.Report.load(model)
    assert report.rows["Causal LM"]["prompt_toy_acc@2"] == summary["toy"]["acc"]["2"]["mean"]
    assert report.rows["linear probe"]["prompt_toy_acc@2"] == summary["toy, linear probe"]["acc"]["2"]["mean"]
    card = (model / "README.md").read_text()
    assert "(shots.png)" in card and "accuracy, 2 examples in the prompt" in card
    assert (model / "shots.png").read_bytes() == (folder / "out" / "shots.png").read_bytes()


def test_a_bad_document_is_counted_and_named_and_the_others_are_asked(command, folder, capsys):
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    rows[3]["label"] = 5
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert exit_code(*command, str(folder / "out")) == 0
    said = capsys.readouterr().err
    assert (
        "1 of toy's documents could not be asked and do not count; the first: task toy, document 3: its label" in said
    )
    toy = json.loads((folder / "out" / "results.json").read_text())["tasks"]["toy"]
    assert [entry["document"] for entry in toy["bad"]] == [3]
    assert [record["document"] for record in toy["runs"][0]["documents"]] == [0, 1, 2, *range(4, 10)]
    assert exit_code(*command, str(folder / "strict"), "--strict") == 2
    assert not (folder / "strict" / "results.json").exists()
    for row in rows[4:]:
        row["label"] = -1  # most of the data: refused, before anything is asked
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert exit_code(*command, str(folder / "most")) == 2
    assert "7 documents of toy cannot be asked, 3 can; the first: task toy, document 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shots", "15"], "15 shots were asked for, 'train' has 14 examples"),
        (["--tasks", "copper"], "did you mean copa?"),
        (["--model", "no/such-model"], "--model no/such-model could not be loaded"),
        (["--add_to_card"], "is no folder with a report.json"),
        (["--push_to_hub"], "unknown setting --push_to_hub"),
    ],
)
def test_wrong_input_is_one_line(command, folder, capsys, arguments, message):
    assert exit_code(*command, str(folder / "out"), *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(command, folder, capsys, monkeypatch):
    assert exit_code(*command, str(folder / "whole")) == 0
    asked, ask = [], few_shot.few_shot

    def stops(*arguments, **more):
        asked.append(arguments[-1])
        if len(asked) == 4:
            raise KeyboardInterrupt
        return ask(*arguments, **more)

    monkeypatch.setattr(few_shot, "few_shot", stops)
    assert exit_code(*command, str(folder / "out")) == 130
    assert len(results(folder / "out")["tasks"]["toy"]["runs"]) == 3
    assert exit_code(*command, str(folder / "out")) == 0
    assert len(asked) == 6 and asked[3:] == [(2, 43, 0), (2, 43, 0), (2, 43, 1)]  # five in all, the fourth twice
    assert results(folder / "out")["tasks"] == results(folder / "whole")["tasks"]
    before = (folder / "out" / "results.json").read_bytes()
    assert exit_code(*command, str(folder / "out")) == 0  # a finished run asks nothing again
    assert len(asked) == 6 and len((folder / "out" / "results.json").read_bytes()) == len(before)


def test_a_folder_belongs_to_one_run(command, folder, tokenizer, capsys):
    assert exit_code(*command, str(folder / "out")) == 0
    before = (folder / "out" / "results.json").read_bytes()

    def refused(*more: str, out: str = "out") -> str:
        assert exit_code(*command, str(folder / out), *more) == 2
        assert (folder / "out" / "results.json").read_bytes() == before
        return capsys.readouterr().err

    assert "limit None instead of 3" in refused("--limit", "3")
    assert "is not empty and holds no run" in refused(out="model")
    assert "results.json" not in [path.name for path in (folder / "model").iterdir()]
    (folder / "file").write_text("mine")
    assert "--output_dir" in refused(out="file")
    task = (folder / "toy.yaml").read_text()
    (folder / "toy.yaml").write_text(task.replace("Review", "Opinion"))
    assert "the task of toy is not what it was then" in refused()
    (folder / "toy.yaml").write_text(task)
    torch.manual_seed(1)
    model = make_model("gpt2")
    model.lm_head.weight.data += 0.1
    model.save_pretrained(folder / "model")
    assert "is of another model than" in refused()


def test_what_is_for_show_fails_alone(command, folder, capsys, monkeypatch):
    monkeypatch.setattr(summary, "draw_curves", lambda *_: 1 / 0)
    assert exit_code(*command, str(folder / "out")) == 0
    said = capsys.readouterr()
    assert "warning: the curves could not be made: ZeroDivisionError" in said.err and "toy, acc" in said.out
    assert results(folder / "out")["tasks"]["toy"]["summary"]


def test_nan_in_one_document_is_no_score_and_names_it(command, folder, tokenizer, capsys):
    """The word "cold" is too large for a sum of float32; no trial of the model meets it, and one document has it."""
    model = make_model("gpt2")
    others = tokenizer("Review: a fine film\nSentiment: positive negative")["input_ids"]
    token = next(token for token in tokenizer(" cold")["input_ids"] if token not in others and token > 30)
    model.transformer.wte.weight.data[token] = 3e38 * torch.tensor([1.0, -1.0] * 16)
    model.lm_head.weight = torch.nn.Parameter(make_model("gpt2").lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder / "model")
    lines = [json.dumps({"text": f"a {'cold' if n == 6 else 'fine'} film", "label": n % 2}) for n in range(10)]
    (folder / "test.jsonl").write_text("\n".join(lines))
    assert exit_code(*command, str(folder / "out"), "--shots", "0") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "task toy, 0 examples, document 6: the log-likelihood of choice 0 is nan" in said and "float32" in said
    assert not (folder / "out" / "results.json").exists()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (",", "--tasks ',' names no task"),
        ("toy.yaml,again.yaml", "are both called 'toy'"),
        ("up.yaml", "task must be a plain name"),
    ],
)
def test_tasks_that_would_write_over_one_another_or_elsewhere_are_refused(command, folder, capsys, tasks, message):
    text = (folder / "toy.yaml").read_text()
    (folder / "again.yaml").write_text(text)
    (folder / "up.yaml").write_text(text.replace("task: toy", "task: ../../up"))
    before = sorted(folder.iterdir())
    paths = ",".join(str(folder / name) if name else "" for name in tasks.split(","))
    assert exit_code(*command, str(folder / "out"), "--tasks", paths) == 2
    assert message in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_documents_that_are_among_the_examples_are_counted(command, folder, capsys):
    train = (folder / "train.jsonl").read_text().splitlines()
    test = (folder / "test.jsonl").read_text().splitlines()
    (folder / "test.jsonl").write_text("\n".join([*test[:7], *train[:3]]))
    unlike = {json.loads(line)["text"] for line in test[:7]} - {json.loads(line)["text"] for line in train}
    assert exit_code(*command, str(folder / "out")) == 0
    count = results(folder / "out")["tasks"]["toy"]["copies_among_examples"]
    assert 3 <= count <= 10 - len(unlike)
    assert f"{count} of toy's 10 documents stand word for word in 'train' too" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_draw_and_answer_as_one(command, folder):
    assert exit_code(*command, str(folder / "one")) == 0
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    launch += ["--config_file", str(ROOT / "recipes" / "accelerate" / "cpu.yaml"), "--main_process_port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    recipe = [str(ROOT / "recipes" / "prompt.py"), *command, str(folder / "two")]
    done = subprocess.run([*launch, *recipe], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (
        json.loads((folder / name / "results.json").read_text())["tasks"]["toy"]["runs"] for name in ("one", "two")
    )
    for a, b in zip(one, two, strict=True):
        for x, y in zip(a["documents"], b["documents"], strict=True):
            assert x["logprobs"] == pytest.approx(y["logprobs"], abs=1e-4)
            same = ("document", "shots", "prediction", "target", "scores")
            assert {key: x[key] for key in same} == {key: y[key] for key in same}
