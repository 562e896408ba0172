"""A task file may be anybody's: what is wrong or endless in it ends in a line, quickly."""

import resource
import signal
import time

import pytest
from toy_tasks import FREE, LABELS

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting import load_splits, load_task, read_documents, templates

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def load(folder, text: str):
    (folder / "toy.yaml").write_text(text)
    return load_task(folder / "toy.yaml")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.2)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{1 / 0}}", "division by zero"),
        ("{{text[0] * 10 ** 10}}", "too much memory"),
        ("{{'%10000000000d' % 1}}", "too much memory"),
        ("{{text|center(10 ** 10)}}", "too much memory"),
        ("{{range(10 ** 9)|list}}", "Range too big"),
        ("{{text * 200000}}", "1,000,000 are allowed"),
        ("{{text|regex_replace('(', '')}}", "missing )"),
        ("{{('a' * 40)|regex_replace('(a+)+b', '')}}", "takes more than 0.2 seconds"),
        ("{{7 ** (10 ** 9) % 5}}", "takes more than 0.2 seconds"),
        ("{% macro m() %}{{m()}}{% endmacro %}{{m()}}", "calls itself without an end"),
        (ENDLESS, "takes more than 0.2 seconds"),
        ("{{text.encode('nope')}}", "unknown encoding"),
        ("{{[1, 2]|random}}", "No filter named 'random'"),
    ],
)
def test_a_template_that_fails_is_one_line_with_task_field_and_document(folder, quick, template, reason):
    start = time.process_time()
    with pytest.raises(InputError) as error:
        task = load(folder, LABELS.replace("Review: {{text}}", template))
        task.document({"text": "fine film", "label": 1}, 7)
    said = str(error.value)
    assert reason in said and "\n" not in said and len(said) < 500
    assert "task toy, document 7: doc_to_text" in said or "toy.yaml: not a template" in said
    assert time.process_time() - start < 3


def test_what_would_take_for_ever_once_is_not_tried_for_every_document(folder, quick):
    task = load(folder, LABELS.replace("Review: {{text}}", ENDLESS))
    start = time.process_time()
    with pytest.raises(InputError, match="document 0"):
        read_documents(task, [{"text": "a", "label": 0}] * 100)
    assert time.process_time() - start < 3


def test_the_bounds_are_taken_away_again(folder):
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(MemoryError), templates.bounded():
        bytearray(10**11)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_value_is_no_word_of_a_prompt(folder, missing):
    for text in (LABELS, LABELS.replace('"Review: {{text}}\\nSentiment:"', "text")):
        task = load(folder, text)
        documents, bad = read_documents(task, [{"text": "a", "label": 1}, {"text": missing, "label": 1}])
        assert [document.number for document in documents] == [0] and [entry["document"] for entry in bad] == [1]
    task = load(folder, LABELS.replace("{{text}}", "{% if text %}{{text}}{% else %}nothing{% endif %}"))
    if missing is None:  # a template may ask for it
        assert task.document({"text": missing, "label": 1}, 0).text == "Review: nothing\nSentiment:"


@pytest.mark.parametrize(
    "name", ["../../up", "/tmp/x", "a/b", ".hidden", "..", "", "a b", "a\\b", "a\nb", "x" * 101, "copa, linear probe"]
)
def test_a_task_has_a_plain_name(folder, name):
    with pytest.raises(InputError, match="toy.yaml: task must be a plain name"):
        load(folder, LABELS.replace("task: toy", f"task: {name!r}"))
    with pytest.raises(InputError, match="toy.yaml: tag must be a plain name"):
        load(folder, LABELS + f"tag: [fine, {name!r}]\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace("{train: train.jsonl, test: test.jsonl}", "5"), "data_files must be paths"),
        (lambda s: s.replace("data_files:", "trust_remote_code: true, data_files:"), "trust_remote_code is not"),
        (lambda s: s + "metric_list: [acc]", "metric_list has a value"),
        (lambda s: s + "num_fewshot: -1", "num_fewshot has a value"),
        (lambda s: s + "replearn: {shots: [a]}", "replearn: shots has a value"),
        (lambda s: s + "replearn: {seeds: 0}", "replearn: seeds has a value"),
        (lambda s: s + "[a, b]: c", "a list or mapping is no key"),
        (lambda s: s.replace("[negative, positive]", "[negative]"), "at least two choices"),
        (lambda s: s.replace("[negative, positive]", "'{{text}}'"), "doc_to_choice"),
        (lambda s: s.replace("toy", "toy\0"), "toy.yaml"),
    ],
)
def test_a_task_file_with_a_value_that_cannot_be_is_refused(folder, change, message):
    with pytest.raises(InputError) as error:
        task = load(folder, change(LABELS))
        rows, _ = load_splits(task)
        task.document(rows[0], 0)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{max_gen_toks: 0}", "max_gen_toks"),
        ("{temperature: .nan}", "temperature"),
        ("{until: [5]}", "until"),
        ("{do_sample: 1}", "do_sample"),
    ],
)
def test_generation_that_cannot_be_is_refused(folder, change, message):
    lines = [f"generation_kwargs: {change}" if "generation_kwargs" in line else line for line in FREE.splitlines()]
    with pytest.raises(InputError, match=message):
        load(folder, "\n".join(lines))


def test_yaml_that_grows_or_goes_deep_is_refused_quickly(folder):
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9) if n else 'lol'}]" for n in range(9)]
    start = time.process_time()
    for text in ("\n".join(levels), "description: " + "[" * 5000, "task: &a [*a]", LABELS + "#" * 2**21):
        with pytest.raises(InputError) as error:
            load(folder, text)
        assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert time.process_time() - start < 5


def test_a_file_that_is_not_utf8_names_the_byte(folder):
    (folder / "toy.yaml").write_bytes(LABELS.encode() + "# é".encode("latin-1"))
    with pytest.raises(InputError, match=rf"is not UTF-8 \(byte {len(LABELS) + 2}\)"):
        load_task(folder / "toy.yaml")
