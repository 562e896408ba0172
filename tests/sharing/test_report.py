import dataclasses
import json

import pytest

from hf_replearn.errors import InputError
from hf_replearn.sharing.names import family_and_task
from hf_replearn.sharing.report import Report, load


def test_a_report_survives_its_file_and_keeps_the_order_of_its_rows(report, tmp_path):
    report.rows["random weights"]["linear"] = None  # a NaN would not equal itself
    report.said = [{"before": "a ", "mask": "_", "after": " c", "guesses": [{"token": "b", "chance": 0.5}]}]
    report.neighbours = {"queries": [{"image": "data:", "label": "a"}], "SimCLR": [[{"image": "data:", "label": "b"}]]}
    report.save(tmp_path)
    loaded = Report.load(tmp_path)
    assert loaded == report
    assert list(loaded.rows) == ["SimCLR", "raw pixels", "random weights"]
    assert loaded.table() == report.table()


def test_neighbours_of_another_shape_are_one_line(report, tmp_path):
    report.neighbours = {"queries": [], "SimCLR": [{"label": "not in a list"}]}
    report.save(tmp_path)
    with pytest.raises(InputError, match="report.json, neighbours, SimCLR, 0: a list was expected"):
        load(tmp_path)


def test_pictures_that_look_like_paths_stay_as_they_are(report):
    """Base64 has slashes."""
    example = {"image": "data:image/png;base64,AA+/tmp/abc/def==", "label": "/home/me/x"}
    report.neighbours = {"queries": [example]}
    assert report.without_local_paths().neighbours == report.neighbours


def test_the_file_is_strict_json_and_the_same_each_time(report, tmp_path):
    report.training.final_loss = float("inf")
    report.save(tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    facts = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert facts["rows"]["random weights"]["linear"] is None and facts["training"]["final_loss"] is None
    Report.load(tmp_path).save(tmp_path)
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == text


def test_the_table_is_aligned_and_marks_the_best_of_each_line(report):
    header, knn, linear, k_shot, _ = report.table().splitlines()
    starts = [header.index(row) for row in report.rows]

    def cells(line):
        return [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]

    assert cells(header) == list(report.rows)
    assert cells(knn) == ["0.900", "0.950*", "0.500"]
    assert cells(linear) == ["0.950*", "0.950*", "–"]  # 0.9501 and 0.9499 are equal as printed; NaN is no score
    assert cells(k_shot) == ["0.781 ± 0.012*", "0.680 ± 0.020", "–"]
    assert report.misses() == ["knn@20", "linear"]


def test_nothing_is_best_where_nothing_is_compared(report):
    alone = dataclasses.replace(report, rows={"SimCLR": {"linear": 0.9}})
    assert "0.900*" not in alone.table() and "0.900" in alone.table()
    assert dataclasses.replace(report, rows={}).table() == "No score was measured."


def test_a_score_must_name_its_protocol(report):
    with pytest.raises(ValueError, match="'nmi@10' has no protocol"):
        dataclasses.replace(report, rows={"SimCLR": {"nmi@10": 0.5}})


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("knn@20", ("Linear probes and neighbours", None)),
        ("knn_sst2@20", ("Linear probes and neighbours", "sst2")),
        ("voc07_full", ("Linear probes and neighbours", None)),
        ("voc07_full_photos", ("Linear probes and neighbours", "photos")),
        ("linear_probe_sst2@1%", ("Linear probes and neighbours", "sst2")),
        ("linear_sst2", ("Linear probes and neighbours", "sst2")),
        ("voc07@4", ("Few labels", None)),
        ("k_shot_fashion_mnist@4", ("Few labels", "fashion_mnist")),
        ("finetune_mrpc_f1@1%", ("Fine-tuned", "mrpc_f1")),
        ("prompt_copa@4", ("Prompted", "copa")),
        ("mapping", ("Tasks", "mapping")),
    ],
)
def test_a_metric_names_its_family_and_task(metric, expected):
    assert family_and_task(metric) == expected


def test_scores_that_were_measured_in_another_way_go(report):
    report.extend({"SimCLR": {"knn_sst2@20": 0.5}, "TF-IDF": {"knn_sst2@20": 0.6}}, protocols={"knn_sst2": "One way."})
    report.extend({"SimCLR": {"knn_sst2@5": 0.4}}, protocols={"knn_sst2": "One way."})
    assert report.rows["SimCLR"]["knn_sst2@20"] == 0.5 and report.rows["SimCLR"]["knn@20"] == 0.9
    report.extend({"SimCLR": {"knn_sst2@20": 0.7}}, protocols={"knn_sst2": "Another way."})
    assert [key for key in report.rows["SimCLR"] if "sst2" in key] == ["knn_sst2@20"]
    assert report.rows["SimCLR"]["knn_sst2@20"] == 0.7 and "knn_sst2@20" not in report.rows["TF-IDF"]


def test_what_could_not_be_measured_is_a_dash_with_its_reason(report, tmp_path):
    report.rows["raw pixels"]["linear"] = None
    report.missing = {"raw pixels": {"linear": "all train labels are 3"}}
    report.save(tmp_path)
    again = Report.load(tmp_path)
    assert again.cell("raw pixels", "linear") == "–"
    assert again.table().endswith("\n– linear of raw pixels: all train labels are 3")
    again.extend({"raw pixels": {"linear": 0.5}}, protocols={})
    assert again.reasons() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is empty"),
        (lambda text: "\n \n", "is empty"),
        (lambda text: text[: len(text) // 2], "is damaged: no JSON at line"),
        (lambda text: "[" * 100_000, "is damaged"),
        (lambda text: "[1, 2]", "holds no report"),
        (
            lambda text: text.replace("0.9501", '"0.9501"'),
            'rows, SimCLR, linear: a number was expected, and there is "0',
        ),
        (lambda text: text.replace('"steps": 100', '"steps": "many"'), "training, steps: a whole number was expected"),
        (lambda text: text.replace('"steps": 100', '"steps": 1.5'), "training, steps: a whole number was expected"),
        (lambda text: text.replace('"name": "digits"', '"name": ["digits"]'), "data, name: a text was expected"),
        (lambda text: text.replace('"steps": 100,', ""), "training: steps is missing"),
        (lambda text: text.replace('"knn": "Weighted', '"kno": "Weighted'), "score 'knn@20' has no protocol"),
        (lambda text: text.encode("utf-16"), "is no UTF-8"),
        (lambda text: '{"task": {}}', "report.json"),
    ],
)
def test_a_damaged_report_is_one_line_with_its_file(change, message, report, tmp_path):
    report.save(tmp_path)
    path = tmp_path / "report.json"
    text = change(path.read_text())
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        load(tmp_path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 300


def test_what_a_newer_version_added_is_left_out_with_a_word(report, tmp_path, capsys):
    report.save(tmp_path)
    path = tmp_path / "report.json"
    facts = json.loads(path.read_text())
    facts["training"]["energy"], facts["of_later"] = 3, {"a": 1}
    path.write_text(json.dumps(facts))
    loaded = load(tmp_path)
    assert loaded.table() == report.table() and loaded.training.steps == 100
    words = capsys.readouterr().err
    assert "left out: of_later (of a newer version?)" in words and "training: unknown, and left out: energy" in words


def test_only_what_both_have_is_compared(report):
    """A score that could not be measured of the encoder is no victory of it."""
    report.rows["SimCLR"]["linear"] = None
    assert report.compared() == ["knn@20", "k_shot@1"] and report.misses() == ["knn@20"]
    assert dataclasses.replace(report, rows={}).compared() == []
