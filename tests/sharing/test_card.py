import dataclasses
import re

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from hf_replearn.errors import InputError
from hf_replearn.sharing.card import card, write_eval_results
from hf_replearn.sharing.metadata import chosen
from hf_replearn.sharing.names import hub_type, in_words

HOSTILE = "a|b <script>alert(1)</script>\n---\n{{ 7 * 191 }} [x](javascript:1) **c** `d`"


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def pipes(line):
    """The pipes of a line of a table that separate cells."""
    return len(re.findall(r"(?<!\\)\|", line))


def test_the_front_matter_holds_the_scores_of_the_encoder_and_not_of_its_baselines(report):
    report.repo_id, report.settings["license"] = "tester/digits-simclr", "apache-2.0"
    report.settings |= {"language": ["en", "no"], "tags": ["digits"]}
    data = ModelCard(card(report, "OUT")).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("timm", "image-feature-extraction", "apache-2.0")
    assert data.model_name == "digits-simclr" and {"simclr", "digits"} < set(data.tags)
    assert data.language == ["en", "no"]  # and not False, as YAML has it
    assert {result.metric_name: result.metric_value for result in data.eval_results} == {
        "accuracy, vote of 20 nearest neighbours": 0.9,
        "accuracy, linear probe": 0.9501,
        "accuracy, 1 label a class": 0.7812,
    }
    assert {result.metric_type for result in data.eval_results} == {"accuracy"}  # which a page of the Hub knows
    assert data.eval_results[0].dataset_type == "imagefolder"  # digits is no dataset of the Hub
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
    prose = re.sub(r"^<!-- hf_replearn: (begin|end|written [\w=:|\- ]*) -->$", "", prose, flags=re.MULTILINE)
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
        report.repo_id = repo_id
        snippets = blocks(card(report, folder), "python")
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
    assert "- **accuracy, k labels a class**: Mean of 10 draws." in text and "SVM" not in text


def test_a_miss_is_told(report):
    lost = "accuracy, vote of 20 nearest neighbours (raw pixels); accuracy, linear probe (raw pixels)"
    assert f"is above every baseline on 1 of 3 lines; not on {lost}." in card(report, "OUT")
    report.rows = {"SimCLR": {"knn@20": 0.9}, "raw pixels": {"knn@20": 0.8}}
    assert "is above every baseline on every line that both have." in card(report, "OUT")
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


@pytest.mark.parametrize(
    ("metric", "sentence", "words", "kind"),
    [
        ("k_shot@4", "", "accuracy, 4 labels a class", "accuracy"),
        ("k_shot_sst2", "", "accuracy, k labels a class", "accuracy"),
        ("voc07_full", "", "mean average precision, linear SVMs", "mean_average_precision"),
        ("finetune_cola@10%", "Matthews correlation on x", "Matthews correlation, fine-tuned, 10 % of the labels",
         "matthews_correlation"),
        ("finetune_mrpc_f1@1%", "F1 macro on x", "F1 macro, fine-tuned, 1 % of the labels", "f1_macro"),
        ("linear_probe_stsb@100%", "Spearman on x", "Spearman, linear probe, 100 % of the labels", "spearmanr"),
        ("prompt_copa@4", "acc on 100 of", "acc, 4 examples in the prompt", "accuracy"),
        ("recall@5", "", "same class among the 5 nearest", "recall_at_5"),
        ("of_their_own", "", "of_their_own", "of_their_own"),
    ],
)  # fmt: skip
def test_metrics_have_names_in_words_and_types_that_the_hub_knows(metric, sentence, words, kind):
    assert (in_words(metric, sentence), hub_type(metric, sentence)) == (words, kind)


def test_no_path_of_this_machine_leaves(report):
    """Neither the user's name nor what else a path tells."""
    home = "/home/jane.doe/secret project"
    report.settings |= {"output_dir": f"{home}/out", "dataset": [f"{home}/my images/", "~/more"], "init": "owner/name"}
    report.command = f"hf-replearn simclr --dataset '{home}/my images/' --output_dir '{home}/out'"
    report.encoder.initialized_from = "/data/jane.doe/checkpoint"
    report.protocols["knn"] = "Of /data/jane.doe/tests/x."
    report.settings["backbone_args"] = {"weights": ["C:\\Users\\jane.doe\\w.safetensors"]}
    for text in (card(report, f"{home}/out"), str(report.without_local_paths())):
        assert "jane.doe" not in text and "secret project" not in text
    text = card(report, f"{home}/out")
    assert "--dataset 'my images'" in text and "- my images" in text and "init: owner/name" in text
    assert 'local-dir:out"' in text and "Started from checkpoint" in text and "Of x." in text


def test_what_only_looks_like_a_path_stays(report):
    report.samples = "either/or, and see /usr/share/dict/words"
    report.protocols["knn"] = "See https://arxiv.org/abs/2002.05709, km/h and 3/4."
    text = card(report, "out/mine")
    assert report.samples in text and report.protocols["knn"] in text and "local-dir:out/mine" in text


def test_a_license_is_claimed_only_by_who_gives_it(report):
    text = card(report, "OUT")
    assert ModelCard(text).data.license is None and "None was chosen" in text and "--license" in text
    report.settings["license"] = "other:my-terms"
    text = card(report, "OUT")
    data = ModelCard(text).data
    assert (data.license, data.license_name) == ("other", "my-terms") and "## License\n\nmy-terms.\n" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"license": "Apache 2.0"}, "did you mean apache-2.0?"),
        ({"license": "cc-by-sa"}, "did you mean cc-by-sa-"),
        ({"license": "other:"}, "--license 'other:'"),
        ({"license": "mine, all mine"}, "other:its-name"),
        ({"language": ["german"]}, "--language 'german' is no code"),
        ({"language": ["en,de"]}, "with spaces between several"),
        ({"tags": ["<b>"]}, "--tags '<b>'"),
    ],
)
def test_what_the_hub_would_not_take_is_refused(settings, message):
    with pytest.raises(InputError) as error:
        chosen(settings)
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1


def test_codes_of_languages():
    languages = ["en", "pt-BR", "zh-Hant", "sr-Latn-RS", "es-419", "gsw", "multilingual"]
    assert chosen({"language": languages, "license": "openrail++"}) == {"license": "openrail++", "language": languages}


def test_pictures_stand_in_the_card_by_a_relative_link(report):
    report.figures = {"augmentations.png": "Views.", "shots.png": "Scores."}
    text = card(report, "OUT")
    assert text.index("![Views.](augmentations.png)") < text.index("## Use") < text.index("![Scores.](shots.png)")
