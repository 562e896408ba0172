"""Task files mean what they mean for lm-evaluation-harness; what is wrong with one is said in a line."""

from pathlib import Path

import pytest
from jinja2.exceptions import SecurityError
from toy_tasks import CHOICES, FREE, LABELS, TARGET

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting import find_task, load_splits, load_task, read_documents

SHIPPED = Path(__file__).parents[3] / "recipes" / "tasks"


def load(folder, text: str):
    (folder / "toy.yaml").write_text(text)
    return load_task(folder / "toy.yaml")


def test_a_prompt_has_the_parts_of_the_file(folder):
    task = load(
        folder, LABELS + 'description: "Reviews.\\n\\n"\n' + "fewshot_delimiter: '##'\ntarget_delimiter: ' = '\n"
    )
    rows, pool = load_splits(task)
    document, shot = task.document(rows[0], 0), task.document(pool[1], 1)
    assert document.text == f"Review: {rows[0]['text']}\nSentiment:"
    assert document.choices == ("negative", "positive") and document.target == rows[0]["label"]
    assert task.shot(shot) == f"Review: {pool[1]['text']}\nSentiment: = positive##"
    assert task.describe(rows[0], 0) == "Reviews.\n\n"


@pytest.mark.parametrize(
    ("choices", "target", "expected"),
    [
        ("'{{[other, text]}}'", "label", 1),  # a template that writes a list; a column
        ("{a: x, b: y}", "'{{label}}'", 1),  # a mapping; a template that writes a number
        ("[x, y]", "1", 1),  # a constant
        ("[x, y]", "\"{{['x', 'y'][label]}}\"", 1),  # the text of a choice
    ],
)
def test_choices_and_targets_in_all_their_forms(folder, choices, target, expected):
    text = LABELS.replace("[negative, positive]", choices).replace("doc_to_target: label", f"doc_to_target: {target}")
    task = load(folder, text)
    rows, _ = load_splits(task)
    document = task.document(rows[2] | {"label": 1}, 2)
    assert document.target == expected and len(document.choices) == 2


def test_targets_of_free_answers_and_log_likelihoods(folder):
    for text, expected in ((TARGET, " {other}"), (FREE, "{other}")):
        task = load(folder, text)
        rows, _ = load_splits(task)
        assert task.document(rows[0], 0).target == expected.format(**rows[0])
    assert task.generation == {"until": ["."], "do_sample": False, "temperature": 1.0, "max_gen_toks": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s + "fewshot_delimeter: x", "unknown key 'fewshot_delimeter': did you mean fewshot_delimiter?"),
        (lambda s: s + "replearn: {shot: [1]}", "replearn: unknown key 'shot': did you mean shots?"),
        (lambda s: s + "replearn: {draw: batch}", "draw must be one of seed, document, got 'batch'"),
        (lambda s: s + "process_docs: !function utils.process", "!function utils.process would run code"),
        (lambda s: s + "description: [1]", "description must be str, got [1]"),
        (lambda s: s + "num_fewshot: '3'", "num_fewshot must be"),
        (lambda s: s + "task: again", "'task' is given twice"),
        (lambda s: s.replace("multiple_choice", "multiple_choices"), "output_type must be one of"),
        (lambda s: s + "metric_list: [{metric: f1}]", "a metric of multiple_choice must be one of acc"),
        (lambda s: s + "fewshot_config: {sampler: balanced}", "sampler must be one of default, first_n"),
        (lambda s: s.replace("doc_to_target: label", ""), "doc_to_target is missing"),
        (lambda s: s.replace("{{text}}", "{{text"), "not a template"),
        (lambda s: s.replace("test_split: test\n", ""), "names no test_split"),
        (lambda s: s.replace("doc_to_choice: [negative, positive]\n", ""), "doc_to_choice belongs to"),
        (lambda s: "- just a list", "must hold `field: value` lines"),
    ],
)
def test_a_wrong_task_file_is_refused(folder, change, message):
    with pytest.raises(InputError) as error:
        load(folder, change(LABELS))
    assert message in str(error.value) and "\n" not in str(error.value) and "toy.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.replace("{{text}}", "{{sentence}}"),
            "doc_to_text names a column 'sentence' that is not there; the",
        ),
        (lambda s: s.replace("test_split: test", "test_split: dev"), "no split 'dev', only train, test"),
        (lambda s: s.replace("test.jsonl", "no.jsonl"), "task toy: the data cannot be read"),
    ],
)
def test_data_that_does_not_fit_is_refused(folder, change, message):
    task = load(folder, change(LABELS))
    with pytest.raises(InputError, match="task toy: ") as error:
        load_splits(task)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_bad_document_is_listed_and_the_others_are_asked(folder):
    task = load(folder, CHOICES)
    rows, _ = load_splits(task)
    broken = [dict(row) for row in rows]
    broken[1]["other"], broken[3]["label"], broken[4]["label"] = " ", 7, None
    documents, bad = read_documents(task, broken)
    assert [document.number for document in documents] == [0, 2, *range(5, 10)]
    assert [entry["document"] for entry in bad] == [1, 3, 4]
    assert bad[0]["reason"] == "task toy, document 1: choice 0 is empty"
    assert bad[1]["reason"].startswith("task toy, document 3: its label 7 is not one of the 3 choices (")
    assert bad[2]["reason"] == "task toy, document 4: it has no label"


def test_limited_documents_are_the_same_whatever_else_is_asked(folder):
    task = load(folder, LABELS)
    rows, _ = load_splits(task)
    few, more = (read_documents(task, rows, limit=limit)[0] for limit in (3, 6))
    assert len(few) == 3 and {d.number for d in few} <= {d.number for d in more}


def test_templates_are_sandboxed(folder):
    task = load(folder, LABELS.replace("{{text}}", "{{text.__class__.__mro__}}"))
    rows, _ = load_splits(task)
    with pytest.raises(InputError, match="document 0"):
        task.document(rows[0], 0)
    with pytest.raises(SecurityError):
        task.templates["doc_to_text"].render(text="x")


def test_local_copies_take_the_form_of_the_hub(folder):
    (folder / "copy").mkdir()
    lines = ['{"text": "a film", "kind": "x", "other": "o", "number": 1}', '{"text": "b", "kind": "y", "number": 0}']
    for split in ("train", "test"):
        (folder / "copy" / f"{split}.jsonl").write_text("\n".join(lines))
    local = "replearn: {local: {path: copy, where: {kind: x}, rename: {number: label}}}"
    task = load(folder, LABELS.replace("dataset_path: json", "dataset_path: some/set") + local)
    rows, _ = load_splits(task, str(folder))
    assert rows[:] == {"text": ["a film"], "kind": ["x"], "other": ["o"], "label": [1]}
    with pytest.raises(InputError, match="--data_root has no"):
        load_splits(task, str(folder / "elsewhere"))


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_tasks_are_valid_and_found_by_name(path):
    assert load_task(path).task == path.stem
    for name in (path.stem, f"tasks/{path.name}", str(path)):
        assert find_task(name, SHIPPED) == path


def test_an_unknown_task_names_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean agnews"):
        find_task("ag_news", SHIPPED)
    with pytest.raises(InputError, match="cannot|No such"):
        load_task(tmp_path / "none.yaml")


def test_the_task_on_code_has_an_answer_for_every_description():
    task = load_task(SHIPPED / "describe_to_code.yaml")
    rows, _ = load_splits(task)
    documents, bad = read_documents(task, rows)
    assert len(documents) == len({d.text for d in documents}) >= 50 and not bad
    for document in documents:
        compile(document.target, "answer", "eval")
