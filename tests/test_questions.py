"""Questions whose answers stand in a context: data, windows, spans, thresholds, scores, and the recipe."""

import importlib
import itertools
import json
import re

import numpy as np
import pytest
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from hf_replearn.data.questions import COLUMNS, held_groups, load_questions
from hf_replearn.data.toy_questions import questions
from hf_replearn.errors import InputError
from hf_replearn.evaluation.questions import (
    Answers,
    WordOverlap,
    answer,
    best_spans,
    choose_threshold,
    cut_windows,
)
from hf_replearn.metrics.squad import question_scores
from hf_replearn.settings import run

CONTEXT = "Ada keeps three red lamps in the cellar. Boris keeps two blue boats in the harbour."
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def tokenizer():
    """One token a word or mark, lower case."""
    rows = [row for part in questions(share_without=0.3).values() for row in part]
    marks = pre_tokenizers.BertPreTokenizer()
    words = {word for row in rows for text in (row["context"], row["question"]) for word, _ in
             marks.pre_tokenize_str(text.lower())}  # fmt: skip
    known = {word: number for number, word in enumerate(SPECIAL + sorted(words))}
    made = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), marks
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0, **small)
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asked(question, context, *answers) -> dict:
    """A row whose answers are where the context has them first."""
    starts = [context.index(text) for text in answers]
    return {"id": question, "question": question, "context": context, "article": "a", "answers": list(answers),
            "starts": starts}  # fmt: skip


def rows(*of) -> Dataset:
    return Dataset.from_list(list(of), features=COLUMNS)


def squad(path, *articles, version="1.1"):
    """A file of SQuAD: articles of (context, [(id, question, answers, starts, is_impossible)])."""
    data = []
    for title, paragraphs in articles:
        made = []
        for context, asked in paragraphs:
            qas = []
            for name, question, texts, starts, impossible in asked:
                answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
                qas.append({"id": name, "question": question, "answers": answers})
                if impossible is not None:
                    qas[-1]["is_impossible"] = impossible
            made.append({"context": context, "qas": qas})
        data.append({"title": title, "paragraphs": made})
    path.write_text(json.dumps({"version": version, "data": data}))
    return path


# ---- windows


@pytest.mark.parametrize(("length", "overlap"), [(24, None), (24, 7), (20, 3), (64, 20)])
def test_windows_cover_every_token(tokenizer, length, overlap):
    """In the order of the text, neighbours share what they are said to share, and no window is too long."""
    part = rows(asked("Who keeps boats?", CONTEXT, "Boris"), asked("Where?", " ".join([CONTEXT] * 3), "the cellar"))
    windows = cut_windows(part, tokenizer, max_length=length, overlap=overlap)
    shared = length // 3 if overlap is None else overlap
    for number, row in enumerate(part):
        offsets = tokenizer(row["context"], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        found = [spans[spans[:, 0] >= 0].tolist() for spans, of in zip(windows.spans, windows.question, strict=True)
                 if of == number]  # fmt: skip
        assert set(map(tuple, itertools.chain.from_iterable(found))) == set(offsets)
        for before, after in itertools.pairwise(found):
            assert before[-shared:] == after[:shared]
    assert max(map(len, windows.rows["input_ids"][:])) <= length
    assert windows.rows["length"][:] == list(map(len, windows.rows["input_ids"][:]))


def test_labels_are_the_tokens_of_the_answer_or_none(tokenizer):
    """Where a window has a part of the answer, the answer is not in it."""
    part = rows(asked("What?", CONTEXT, "two blue boats"), asked("Who?", CONTEXT))
    windows = cut_windows(part, tokenizer, max_length=13, overlap=2)
    whole, parts = 0, 0
    for row, spans, null, of in zip(windows.rows, windows.spans, windows.null, windows.question, strict=True):
        start, end = row["start_positions"], row["end_positions"]
        assert null == 0 and row["input_ids"][0] == tokenizer.cls_token_id
        text = CONTEXT[spans[spans[:, 0] >= 0][0, 0] : spans[-2, 1]]  # the last token is [SEP]
        if of == 0 and "two blue boats" in text:
            assert CONTEXT[spans[start, 0] : spans[end, 1]] == "two blue boats"
            whole += 1
        else:
            assert start == end == 0
            parts += of == 0 and ("two" in text or "boats" in text)
    assert whole and parts


def test_the_answer_is_where_it_is_said_to_be_not_where_it_comes_first(tokenizer):
    row = asked("What?", CONTEXT, "keeps") | {"starts": [CONTEXT.rindex("keeps")]}
    [label] = cut_windows(rows(row), tokenizer, max_length=64).rows["start_positions"][:]
    [spans] = cut_windows(rows(row), tokenizer, max_length=64).spans
    assert spans[label, 0] == CONTEXT.rindex("keeps") > CONTEXT.index("keeps")


def test_long_questions_are_cut_and_counted(tokenizer):
    part = rows(asked(" Who keeps" * 30, CONTEXT, "Boris"), asked("Who?", CONTEXT, "Boris"))
    windows = cut_windows(part, tokenizer, max_length=40)
    assert windows.cut == 1
    first = windows.rows["input_ids"][0]
    assert first.index(tokenizer.sep_token_id) == 20 + 1
    with pytest.raises(InputError, match="--overlap 17 leaves no room .* windows of 40 tokens have 17"):
        cut_windows(part, tokenizer, max_length=40, overlap=17)


# ---- spans and thresholds


def test_the_best_span_against_all_spans():
    rng = np.random.default_rng(0)
    first, last, longest = rng.normal(size=(6, 9)), rng.normal(size=(6, 9)), 3
    is_context = np.zeros((6, 9), bool)
    for row, (start, end) in enumerate([(2, 9), (0, 9), (4, 5), (3, 7), (8, 9), (5, 5)]):
        is_context[row, start:end] = True
    scores, starts, ends = best_spans(first, last, is_context, longest=longest)
    for row in range(5):
        places = np.flatnonzero(is_context[row])
        spans = [(first[row, i] + last[row, j], i, j) for i in places for j in places if i <= j < i + longest]
        assert (scores[row], starts[row], ends[row]) == max(spans)
    assert scores[5] == -np.inf


def test_an_answer_is_the_best_of_all_windows_and_none_the_least_of_them(tokenizer):
    part = rows(asked("Who?", CONTEXT, "Ada"))
    windows = cut_windows(part, tokenizer, max_length=13, overlap=2)
    assert len(windows.rows) == 3
    first = np.zeros((3, max(windows.rows["length"][:])))
    last = first.copy()
    first[:, 0] = [5.0, 1.0, 3.0]  # [CLS]
    place = int(np.flatnonzero(windows.spans[1][:, 0] == CONTEXT.index("Boris"))[0])
    first[1, place], last[1, place] = 4.0, 4.0
    first[0, 1], last[0, 1] = 90.0, 90.0  # of the question: no answer
    told = answer(windows, first, last, part, longest=5)
    assert told.texts == ["Boris"] and told.odds.tolist() == [1.0 - 8.0]
    assert told.beyond(None) == told.beyond(-7.0) == ["Boris"] and told.beyond(-7.5) == [""]
    first[2, 3] = np.nan
    with pytest.raises(ArithmeticError, match="not finite"):
        answer(windows, first, last, part, longest=5)


def test_the_threshold_against_every_threshold():
    """F1 is as large as at the best place between two odds; equal odds are on one side."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        odds = rng.normal(size=12).round(1)
        right = [["red lamps"] if rng.random() < 0.6 else [] for _ in range(12)]
        right[:2] = [["red lamps"], []]
        told = Answers([rng.choice(["red lamps", "lamps", "boats"]) for _ in range(12)], odds)
        places = np.append(np.unique(odds) - 0.05, odds.max() + 0.05)
        f1 = [question_scores(told.beyond(place), right, v2=True)["f1"] for place in places]
        found = choose_threshold(told, right)
        assert question_scores(told.beyond(found), right, v2=True)["f1"] == pytest.approx(max(f1)), seed
    with pytest.raises(InputError, match="all have an answer, or none has"):
        choose_threshold(told, [["red lamps"]] * 12)


def test_word_overlap_by_hand():
    """`Boris` is the rare word nearest to `boats`, which is rare; `keeps` is in every context and counts nothing."""
    known = WordOverlap([CONTEXT, "Clara keeps four lamps in the cellar.", "David keeps five lamps."])
    told = known.answer(rows(asked("Which colour do the boats have?", CONTEXT, "blue")))
    assert "blue" in told.texts[0]
    assert WordOverlap(["a"]).answer(rows(asked("a?", "a", "a"))).texts == [""]


def test_groups_held_out_are_whole():
    groups = np.repeat(np.arange(30), 4)
    held = held_groups(groups, 0.1, seed=1)
    assert held.sum() == 12 and set(groups[held]).isdisjoint(groups[~held])
    assert held_groups(np.array([0, 0, 1]), 0.9, seed=0).sum() < 3


# ---- data


def test_squad_of_both_versions(tmp_path):
    """Also a file by itself, of which a fifth of the contexts is held out."""
    asked = [("q1", "Who?", ["Ada", "Boris"], [0, CONTEXT.index("Boris")], None)]
    squad(tmp_path / "train-v1.1.json", ("A", [(CONTEXT, asked)]))
    squad(tmp_path / "dev-v1.1.json", ("B", [("Clara came.", [("q2", "Who?", ["Clara"], [0], None)])]))
    data = load_questions(str(tmp_path))
    assert not data.v2 and data.test_source == "the split 'validation'"
    assert data.train[0]["answers"] == ["Ada", "Boris"] and data.test[0]["id"] == "q2"
    impossible = [("q1", "Who?", ["Ada"], [0], False), ("q2", "Where?", [], [], True)]
    many = [(f"{CONTEXT} {n}", [(f"{n}{name}", *rest) for name, *rest in impossible]) for n in range(10)]
    data = load_questions(str(squad(tmp_path / "alone.json", ("A", many), version="v2.0")))
    assert data.v2 and (len(data.train), len(data.test)) == (16, 4)
    assert data.test_source == "a held-out 20% of the contexts of train"
    assert set(data.train["context"][:]).isdisjoint(data.test["context"][:])


def test_tables(tmp_path):
    """As datasets has SQuAD, and with a column for the answer, whose only place is found."""
    start = CONTEXT.index("Boris")
    hub = {"id": ["a", "b"], "title": ["t"] * 2, "question": ["Who?", "Where?"], "context": [CONTEXT] * 2}
    hub["answers"] = [{"text": ["Boris"], "answer_start": [start]}, {"text": [], "answer_start": []}]
    plain = {"question": ["Who?", "What?"], "context": [CONTEXT] * 2, "answer": ["Boris", ""]}
    for split in ("train", "test"):
        (tmp_path / "hub").mkdir(exist_ok=True)
        Dataset.from_dict(hub).to_parquet(tmp_path / "hub" / f"{split}.parquet")
        (tmp_path / "plain").mkdir(exist_ok=True)
        Dataset.from_dict(plain).to_csv(tmp_path / "plain" / f"{split}.csv")
    for name in ("hub", "plain"):
        data = load_questions(str(tmp_path / name))
        assert data.train[0]["starts"] == [start] and data.train[0]["answers"] == ["Boris"]
        assert data.train[1]["answers"] == [] and data.v2
        assert "2 of 2 questions of 'test' are about a context that is trained on too" in data.notes


def test_answers_that_are_not_there_are_counted_and_listed(tmp_path):
    good = ("q0", "Who?", ["Ada"], [0], None)
    bad = [("q1", "Who?", ["Ada"], [3], None), ("q2", "Who?", ["Zoe"], [0], None)]
    squad(tmp_path / "train.json", ("A", [(CONTEXT, [good, *bad])]))
    squad(tmp_path / "dev.json", ("A", [(CONTEXT + "!", [("q9", "Who?", ["Zoe"], [0], None)])]))
    data = load_questions(str(tmp_path))
    assert data.train["id"][:] == ["q0"]
    assert "2 of 3 questions of 'train' are left out: the answer is not there (2)" in data.notes
    assert "1 of 1 questions of 'validation' have an answer that is not in their context" in data.notes
    assert [item.file for item in data.skipped] == ["question q1", "question q2"]
    assert data.skipped[0].reason.endswith("the context has it elsewhere")
    lines = [json.dumps({"question": "Who?", "context": CONTEXT, "answer": text}) for text in ("keeps", "Boris")]
    (tmp_path / "t").mkdir()
    for split in ("train", "test"):
        (tmp_path / "t" / f"{split}.jsonl").write_text("\n".join(lines))
    data = load_questions(str(tmp_path / "t"))
    assert data.skipped[0].reason == "its context has its answer 2 times, and no answer_start"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [{"paragraphs": [', "is no JSON"),
        ('{"data": [{"paragraphs": [{"context": "c"}]}]}', r"data\[0\].paragraphs\[0\] has no 'qas'"),
        ('{"data": [{"paragraphs": [{"context": " ", "qas": []}]}]}', r"paragraphs\[0\].context is no text: ' '"),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": [], '
            '"is_impossible": false}]}]}]}',
            "has no answer, and is_impossible says false",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": [{"text": "d", '
            '"answer_start": 0}]}]}]}]}',
            r"no question of 'train' in .* can be trained on: question 1 \(its answer is not at character 0",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": [{"text": "c", '
            '"answer_start": "x"}]}]}]}]}',
            "answers need a text and a whole number answer_start each",
        ),
        ('{"question": "q", "context": "c"}', "questions need `question`, `context`, and `answers` or `answer`"),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": 1, "question": "q", "answers": [{"text": "c", '
            '"answer_start": 0}]}]}]}]}',
            "too few contexts to hold some out",
        ),
    ],
)
def test_bad_files_are_told_with_their_place(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_questions(str(tmp_path / "a.json"))


def test_ids_that_occur_again(tmp_path):
    asked = [("q", "Who?", ["Ada"], [0], None)] * 2
    with pytest.raises(InputError, match="1 ids of questions of 'train' occur again, such as 'q'"):
        load_questions(str(squad(tmp_path / "a.json", ("A", [(CONTEXT, asked)]))))


# ---- the recipe


def finetune(*arguments) -> int:
    """Runs the recipe in this process; returns its exit code."""
    recipe = importlib.import_module("hf_replearn.recipes.finetune")
    given = ["--use_cpu", "--bf16", "false", "--task", "questions", "--min_steps", "3", "--num_train_epochs", "0.01"]
    try:
        run(recipe.main, recipe.FinetuneSettings, [*given, *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def made(checkpoint, tmp_path_factory):
    """Of questions some of which have no answer."""
    out = tmp_path_factory.mktemp("made") / "out"
    arguments = ["--model", checkpoint, "--dataset", "toy-unanswerable", "--label_fraction", "0.3", "--seeds", "1"]
    assert finetune(*arguments, "--output_dir", out) == 0
    return out, arguments


def test_scores_are_those_of_the_predictions_that_are_left(made):
    out, _ = made
    test = load_questions("toy-unanswerable").test
    told = json.loads((out / "predictions.json").read_text())
    runs = json.loads((out / "scores.json").read_text())["runs"]
    scores = {found["row"]: found["scores"] for found in runs}
    found = question_scores([told[name] for name in test["id"][:]], test["answers"][:], v2=True)
    assert next(iter(scores.values())) == pytest.approx(found)
    assert list(scores)[1:] == ["random weights", "word overlap", "no answer"]
    without = [not answers for answers in test["answers"][:]]
    assert scores["no answer"]["f1"] == scores["no answer"]["exact_match"] == pytest.approx(np.mean(without))
    assert scores["no answer"]["unanswerable"] == 1 and scores["no answer"]["f1_answerable"] == 0
    card = (out / "model" / "README.md").read_text()
    assert "pipeline_tag: question-answering" in card and "## What it answers" in card
    assert "exact match" in card and (out / "report.html").exists()


def test_the_network_is_one_of_transformers(made):
    network = transformers.AutoModelForQuestionAnswering.from_pretrained(made[0] / "model")
    assert network.qa_outputs.weight.shape == (2, 32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made[0] / "model")
    assert network(**tokenizer("Who?", CONTEXT, return_tensors="pt")).start_logits.shape[0] == 1


def test_the_card_says_how_to_use_it(made, monkeypatch):
    """The answer of its lines is that of the package, with the threshold."""
    out, _ = made
    monkeypatch.chdir(out)
    card = (out / "model" / "README.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names: dict = {}
    exec(code, names)
    part = rows(asked(names["question"], names["context"]))
    windows = cut_windows(part, names["tokenizer"], max_length=64)
    logits = [names["found"][end].numpy() for end in ("start_logits", "end_logits")]
    threshold = json.loads((out / "answers.json").read_text())["no_answer_threshold"]
    told = answer(windows, *logits, part, longest=100)
    assert names["answer"] == told.beyond(threshold)[0] and f"> {threshold:.4f} else" in code


def test_what_was_stopped_comes_out_the_same(made, monkeypatch):
    """A run that is not on disk is made again, with the same bits; those that are there are not."""
    out, arguments = made
    before = (out / "scores.json").read_text(), (out / "model" / "model.safetensors").read_bytes()
    content = json.loads(before[0])
    first = content["runs"].pop(0)
    (out / "scores.json").write_text(json.dumps(content))
    (out / "model" / "model.safetensors").unlink()
    monkeypatch.setattr("hf_replearn.judging.answering.WordOverlap", None)
    assert finetune(*arguments, "--output_dir", out) == 0
    runs = json.loads((out / "scores.json").read_text())["runs"]
    assert [found["scores"] for found in runs if found["row"] == first["row"]] == [first["scores"]]
    assert (out / "model" / "model.safetensors").read_bytes() == before[1]


def test_the_threshold_is_of_questions_that_are_neither_trained_on_nor_tested(checkpoint, tmp_path, monkeypatch):
    from hf_replearn.judging import answering

    seen, fit, choose, cut = {}, answering.fit, answering.choose_threshold, answering.held_groups
    folds = []

    def watched_fit(network, windows, **about):
        seen["trained"] = {tuple(ids) for ids in windows["input_ids"]}
        return fit(network, windows, **about)

    def watched_groups(groups, *share, **seed):
        folds.append(cut(groups, *share, **seed))
        return folds[-1]

    def watched_choice(told, right):
        seen["chosen"] = len(right)
        return choose(told, right)

    monkeypatch.setattr(answering, "fit", watched_fit)
    monkeypatch.setattr(answering, "held_groups", watched_groups)
    monkeypatch.setattr(answering, "choose_threshold", watched_choice)
    arguments = ["--model", checkpoint, "--dataset", "toy-unanswerable", "--seeds", "1", "--baseline", "false"]
    assert finetune(*arguments, "--output_dir", tmp_path / "out") == 0
    assert seen["chosen"] == folds[0].sum() == 90
    assert len(seen["trained"]) <= 900 - 90


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "all"], "--layers is of labelled tasks, and --task questions has none of it"),
        (["--mode", "linear"], "--mode is of labelled tasks"),
        (["--label_column", "x"], "--label_column is of labelled tasks"),
        (["--overlap", "40"], "--overlap 40 leaves no room to go on"),
        (["--max_length", "65"], "--max_length 65 is more than the 64 tokens"),
        (["--label_fraction", "0.001"], "--label_fraction 0.001 leaves 1 questions"),
        (["--dataset", "{0}/none.json"], "there is no folder or file"),
        (["--dataset", "{0}"], "are no questions with contexts and answers in"),
        (["--task", "question"], "--task must be one of labels, questions, got 'question'"),
        (["--model", "{0}/none/here"], "none/here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, checkpoint, tmp_path, capsys, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr("transformers.Trainer.train", None)
    (tmp_path / "data").mkdir()
    given = {"--model": str(checkpoint), "--dataset": "toy-unanswerable", "--output_dir": str(tmp_path / "out")}
    arguments = [argument.format(tmp_path / "data") for argument in arguments]
    rest = [word for flag, value in given.items() if flag not in arguments for word in (flag, value)]
    assert finetune(*rest, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_network_that_reads_one_way_cannot_say_that_there_is_no_answer(tokenizer, tmp_path, capsys):
    small = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": len(tokenizer), "n_positions": 64}
    transformers.GPT2Model(transformers.GPT2Config(**small)).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    arguments = ["--model", tmp_path / "gpt2", "--seeds", "1", "--baseline", "false", "--dataset"]
    assert finetune(*arguments, "toy-unanswerable", "--output_dir", tmp_path / "a") == 2
    assert "reads from left to right" in capsys.readouterr().err
    assert finetune(*arguments, "toy", "--output_dir", tmp_path / "b") == 0
