import dataclasses
import re

import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from hf_replearn.sharing.card import card, write_eval_results

HOSTILE = "a|b <script>alert(1)</script>\n---\n{{ 7 * 191 }} [x](javascript:1) **c** `d`"


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def pipes(line):
    """The pipes of a line of a table that separate cells."""
    return len(re.findall(r"(?<!\\)\|", line))


def test_the_front_matter_holds_the_scores_of_the_encoder_and_not_of_its_baselines(report):
    data = ModelCard(card(report, "OUT", repo_id="tester/digits-simclr", license="apache-2.0")).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("timm", "image-feature-extraction", "apache-2.0")
    assert data.model_name == "digits-simclr" and "simclr" in data.tags
    assert {result.metric_type: result.metric_value for result in data.eval_results} == {
        "knn@20": 0.9,
        "linear": 0.9501,
        "k_shot@1": 0.7812,
    }
    assert data.eval_results[2].metric_args == {"ci95": 0.0123}
    assert data.datasets is None and data.base_model is None  # "digits" and random weights are not on the Hub


def test_what_came_from_the_hub_is_linked(report):
    report.data.hub_id, report.data.revision = "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2"
    report.encoder.base_model, report.encoder.base_revision = (
        "timm/resnet18.a1_in1k",
        "491b427b45c94c7fb0e78b5474cc919aff584bbf",
    )
    text = card(report, "OUT")
    data = ModelCard(text).data
    assert (data.datasets, data.base_model) == ("uoft-cs/cifar10", "timm/resnet18.a1_in1k")
    assert data.eval_results[0].dataset_type == "uoft-cs/cifar10"
    assert report.data.revision in text and report.encoder.base_revision in text


def test_data_text_is_shown_and_never_run(report):
    report.data.name, report.command = HOSTILE, "train --note '\n```\n# injected'"
    report.settings["note"], report.changed = HOSTILE, ["note"]
    report.rows = {HOSTILE: report.rows["SimCLR"], "raw pixels": report.rows["raw pixels"]}
    text = card(report, "OUT")
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", ModelCard(text).text, flags=re.MULTILINE | re.DOTALL)
    assert "{{ 7 \\* 191 }}" in prose and "1337" not in text  # the name is no template
    assert not re.search(r"(?<!\\)<(?!/?(details|summary)>)", prose)  # nor HTML
    assert "injected" not in prose  # nor does the command leave its fence
    table = [
        line for line in prose.splitlines() if line.startswith("| ") and "second" not in line and "25,600" not in line
    ]
    assert {pipes(line) for line in table if "---" not in line or "script" in line} == {4}
    assert ModelCard(text).data.eval_results[0].dataset_name == " ".join(HOSTILE.split())


def test_the_snippets_are_python_whatever_the_folder_is_called(report):
    for folder, repo_id in (("""out/it's "mine" \\""", None), ("OUT", "tester/x")):
        snippets = blocks(card(report, folder, repo_id=repo_id), "python")
        strings = [compile(snippet, "card", "exec").co_consts for snippet in snippets]
        name = repo_id or folder
        assert name in strings[0] and name in strings[2]
        assert (f"hf-hub:{name}" if repo_id else f"local-dir:{name}") in strings[1]


def test_without_labels_the_card_says_so_and_claims_no_score(report):
    unlabelled = dataclasses.replace(report, rows={}, data=dataclasses.replace(report.data, classes=None))
    text = card(unlabelled, "OUT")
    assert "has no labels, so no score was measured" in text
    assert ModelCard(text).data.eval_results is None and "baseline" not in text and "accuracy" not in text


def test_the_card_defines_what_was_measured_and_nothing_else(report):
    report.protocols["voc07"] = "One linear SVM a class."
    text = card(report, "OUT")
    assert "- **k\\_shot**: Mean of 10 draws." in text and "voc07" not in text


def test_a_miss_is_told(report):
    assert "not above every baseline on knn@20, linear." in card(report, "OUT")
    report.rows = {"SimCLR": {"knn@20": 0.9}, "raw pixels": {"knn@20": 0.8}}
    assert "is above every baseline on every line." in card(report, "OUT")
    del report.rows["raw pixels"]
    assert "No baseline was measured." in card(report, "OUT")


def test_eval_results_are_what_the_hub_reads_and_only_of_data_on_it(report, tmp_path):
    write_eval_results(report, tmp_path)
    assert not (tmp_path / ".eval_results").exists()  # "digits" is not on the Hub
    report.data.hub_id, report.data.revision = "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2"
    report.rows["SimCLR"]["finetune_sst2@1%"], report.protocols["finetune_sst2"] = 0.6, "Elsewhere."
    write_eval_results(report, tmp_path)
    content = (tmp_path / ".eval_results" / "hf_replearn.yaml").read_text()
    entries = parse_eval_result_entries(yaml.safe_load(content))
    assert {entry.task_id: entry.value for entry in entries} == {"knn@20": 0.9, "linear": 0.9501, "k_shot@1": 0.7812}
    assert {entry.dataset_id for entry in entries} == {"uoft-cs/cifar10"}
    assert entries[2].notes == "Mean of 10 draws. 95 % interval: ± 0.0123."
