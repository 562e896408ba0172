"""Several tasks at once: data, steps, a shared trunk, scores, and the recipe from its settings to the result."""

import hashlib
import importlib
import json
import os
import shutil
import signal
from types import SimpleNamespace

import forked
import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from hf_replearn.data.labelled import load_labelled
from hf_replearn.data.tasks import load_tasks, read_tasks
from hf_replearn.data.toy_tasks import pair_up
from hf_replearn.encoders.shared import share_trunk, trunk_of
from hf_replearn.errors import InputError
from hf_replearn.evaluation.tasks import (
    measured,
    relative_difference,
    resampled,
    usual_metrics,
    usual_positive,
    value_and_half,
)
from hf_replearn.metrics import score
from hf_replearn.settings import run

SMALL = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
SMALL += ["--image_size", "16", "--tasks", "toy", "--learning_rate", "1e-3", "--max_steps", "6", "--logging_steps", "2"]
SMALL += ["--save_steps", "2", "--per_device_train_batch_size", "16"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def multitask(*arguments) -> int:
    """Runs the recipe in this process; returns its exit code."""
    recipe = importlib.import_module("hf_replearn.recipes.multitask")
    try:
        run(recipe.main, recipe.MultiTaskSettings, ["--use_cpu", "--bf16", "false", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A small encoder with a tokenizer of the words of toy-texts."""
    folder = tmp_path_factory.mktemp("bert")
    marks = pre_tokenizers.BertPreTokenizer()
    texts = load_labelled("toy-texts", label_column="colour").train["text"][:]
    words = {word for text in texts for word, _ in marks.pre_tokenize_str(text.lower())}
    known = {word: number for number, word in enumerate(SPECIAL + sorted(words))}
    made = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), marks
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=0, **small)
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def digest(out) -> str:
    files = [out / "model.safetensors", *sorted(out.glob("heads/*/model.safetensors"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


# ---- data and steps


def test_two_images_in_a_picture_by_hand():
    """Of 2 x 2 pixels at (0, 0) and (2, 2) of 4 x 4, brought back to 2 x 2: the corners are the two images."""
    images = np.array([[[200, 200], [200, 200]], [[80, 80], [80, 80]]], np.uint8)
    rng = np.random.default_rng(0)
    pictures, labels = pair_up(images, np.array([0, 1]), shift=2, count=6, rng=rng)
    assert pictures.shape == (6, 2, 2) and labels.shape == (6, 2)
    value = np.array([200, 80])
    for picture, (first, second) in zip(pictures.astype(int), labels, strict=True):
        assert abs(picture[0, 0] - value[first]) <= value[first] * 0.3
        assert abs(picture[1, 1] - value[second]) <= value[second] * 0.3
        assert picture[0, 1] < picture[0, 0]
    overlapping, _ = pair_up(images, np.array([0, 1]), shift=0, count=6, rng=np.random.default_rng(0))
    assert {tuple(p.flatten()) for p in overlapping} <= {(200,) * 4, (80,) * 4}  # the lighter one counts


def test_toy_tasks_know_no_test_image_and_the_second_person_tells_nothing():
    pairs = load_labelled("toy-pairs", label_column="second")
    assert len(pairs.train) == 2000 and len(pairs.test) == 500 and len(pairs.label_names) == 10
    texts = load_labelled("toy-texts", label_column="place")
    for row in texts.train.select(range(20)):
        assert f"in {texts.label_names[row['label']]}." in row["text"].split(". ")[0] + "."


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["rte"], "give NAME=DATASET, such as rte=path/to/rte"),
        (["a=", "b=x"], "'a=': give NAME=DATASET"),
        (["a/b=x", "c=y"], "'a/b=x': give NAME=DATASET"),
        (["a=x", "a=y"], "two tasks called 'a'"),
        (["a=x"], "is one task: give two at least, or use `hf-replearn finetune`"),
    ],
)
def test_tasks_that_are_not_told_well(told, message):
    with pytest.raises(InputError, match=message):
        read_tasks(told)


def test_tasks_are_read():
    assert [tuple(asked) for asked in read_tasks(["a=x/y#z", "b=w"])] == [("a", "x/y", "z"), ("b", "w", None)]
    assert [asked.name for asked in read_tasks(["toy"])] == ["first", "second"]


def test_bad_tasks_are_named(tmp_path):
    Dataset.from_dict({"text": ["x", "y"] * 9, "label": ["same"] * 18}).to_csv(tmp_path / "one.csv")
    Dataset.from_dict({"text": ["x", "y"] * 9, "label": [1.0, 2.0] * 9}).to_parquet(tmp_path / "numbers.parquet")
    toy = "toy-texts#colour"
    about = {"tested": {}, "types": {}}
    with pytest.raises(InputError, match="the task b: all labels .* are 'same': two classes are needed"):
        load_tasks(read_tasks([f"a={toy}", f"b={tmp_path / 'one.csv'}"]), **about)
    with pytest.raises(InputError, match="one trunk reads images or texts, and --tasks has both: a of texts, b of"):
        load_tasks(read_tasks([f"a={toy}", "b=toy-pairs#first"]), **about)
    both = read_tasks([f"a={toy}", f"b={tmp_path / 'numbers.parquet'}"])
    with pytest.raises(InputError, match="the task b: .*--label_types \"{'b': 'classes'}\""):
        load_tasks(both, **about)
    assert load_tasks(both, tested={}, types={"b": "numbers"})["b"].label_names is None
    with pytest.raises(InputError, match="--label_types 'c': 'numbers'"):
        load_tasks(both, tested={}, types={"c": "numbers"})
    with pytest.raises(InputError, match="the task a: --tasks a=DATASET#COLUMN 'colur' does not exist"):
        load_tasks(read_tasks(["a=toy-texts#colur", "b=toy-texts#place"]), **about)


def plan(sizes, **settings) -> list[str]:
    from hf_replearn.pretraining.tasks import plan_steps

    usual = {"per_device_train_batch_size": 4, "seed": 0, "num_train_epochs": 2.0, "max_steps": -1, "shares": ()}
    usual |= {"weighting": "uniform", "size_power": 0.5}
    return plan_steps(SimpleNamespace(**usual | settings), sizes)


def test_a_task_has_batches_by_the_root_of_its_size():
    sizes = {"a": 400, "b": 100, "c": 100}
    found = plan(sizes)
    assert len(found) == 300 and {task: found.count(task) for task in sizes} == {"a": 150, "b": 75, "c": 75}
    assert found != sorted(found) and found == plan(sizes) != plan(sizes, seed=1)
    assert {task: plan(sizes, size_power=1.0).count(task) for task in sizes} == {"a": 200, "b": 50, "c": 50}
    assert plan(sizes, shares=(1.0, 1.0, 8.0)).count("c") == 240
    assert sorted(plan(sizes, max_steps=3)) == ["a", "b", "c"]  # each at least once
    assert plan({"a": 10**6, "b": 1, "c": 1}, max_steps=5, size_power=1.0).count("a") == 3
    assert plan(sizes, weighting="pcgrad", max_steps=2) == ["a", "b", "c"] * 2
    with pytest.raises(InputError, match="--max_steps 2 is fewer than the 3 tasks"):
        plan(sizes, max_steps=2)


def test_rows_of_a_task_are_passed_over_once_in_each_epoch():
    from hf_replearn.pretraining.tasks import CollateTasks, StepRows

    tasks = {name: Dataset.from_dict({"x": list(range(size))}) for name, size in (("a", 6), ("b", 4))}
    rows = StepRows(tasks, ["a", "b", "a", "a", "b"], batch=4, seed=0)
    items = [rows[number] for number in range(len(rows))]
    assert [task for task, _ in items] == list("aaaabbbbaaaaaaaabbbb")
    of_a = [row["x"] for task, row in items if task == "a"]
    assert sorted(of_a[:6]) == sorted(of_a[6:]) == list(range(6)) and of_a[:6] != of_a[6:]
    collate = CollateTasks({name: lambda some: {"x": torch.tensor([row["x"] for row in some])} for name in tasks})
    assert list(collate(items[:4])["tasks"]) == ["a"] and list(collate(items[2:6])["tasks"]) == ["a", "b"]


# ---- scores


def test_metrics_are_glues_where_the_name_and_the_labels_are():
    assert usual_metrics("mrpc", ["0", "1"]) == ("f1", "accuracy") and usual_positive("mrpc", ["0", "1"]) == 1
    assert usual_metrics("mrpc", ["a", "b", "c"]) == usual_metrics("mine", ["0", "1"]) == ("accuracy",)
    assert usual_metrics("stsb", None) == usual_metrics("mine", None) == ("pearson", "spearman")
    assert usual_metrics("stsb", ["0", "1"]) == ("accuracy",)
    assert usual_positive("qqp", ["duplicate", "not"]) == 0
    with pytest.raises(InputError, match="the task mrpc: F1 is of one class, and which of no, yes"):
        usual_positive("mrpc", ["no", "yes"])


def test_scores_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    labels, told = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    names = ["accuracy", "f1", "matthews_correlation"]
    assert measured(told, labels, metrics=names) == pytest.approx(score(told, labels, metrics=names))
    numbers, guessed = rng.normal(size=60), rng.normal(size=60).round(1)
    names = ["pearson", "spearman"]
    assert measured(guessed, numbers, metrics=names) == pytest.approx(score(guessed, numbers, metrics=names))
    assert np.isnan(measured(np.zeros(60), numbers, metrics=names)["pearson"])
    with pytest.raises(ArithmeticError, match="1 of 60 predictions are not finite"):
        resampled({"row": np.append(guessed[1:], np.nan)}, numbers, metrics=names)


def test_intervals_and_relative_differences():
    """Half a point of 5 in one task and a tenth less in the other: (0.1 - 0.1) / 2; paired, so that rows that tell the
    same differ by nothing in any draw."""
    labels = np.array([0, 1] * 50)
    good, better = labels.copy(), labels.copy()
    good[:20], better[:12] = 1 - good[:20], 1 - better[:12]
    found = resampled({"ours": better, "alone": good}, labels, metrics=["accuracy"], seed=1)
    value, half = value_and_half(found["ours"]["accuracy"], metric="accuracy")
    assert value == pytest.approx(0.88) and half == pytest.approx(1.96 * (0.88 * 0.12 / 100) ** 0.5, rel=0.25)
    value, half = relative_difference(
        {"a": found["ours"], "b": found["alone"]}, {"a": found["alone"], "b": found["alone"]}
    )
    assert value == pytest.approx((0.88 - 0.8) / 0.8 / 2) and half > 0
    value, half = relative_difference({"a": found["alone"]}, {"a": found["alone"]})
    assert (value, half) == (0, 0)
    zero = {"a": {"accuracy": np.zeros(5)}}
    with pytest.raises(InputError, match="accuracy of a alone is 0.000, of which no share can be taken"):
        relative_difference(zero, zero)


# ---- one trunk


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_networks_of_timm_share_all_but_their_classifiers(name):
    small = {"resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}}
    small["vit_tiny_patch16_224"] = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
    networks = {}
    for task, classes in (("a", 3), ("b", 5)):
        config = transformers.TimmWrapperConfig(architecture=name, model_args=small[name], num_labels=classes)
        networks[task] = transformers.TimmWrapperForImageClassification(config)
    heads = share_trunk(networks, named="it")
    shared = [{n: p.data_ptr() for n, p in network.named_parameters()} for network in networks.values()]
    own = {id(p) for modules in heads.values() for module in modules for p in module.parameters()}
    assert {n for n in shared[0] if shared[0][n] != shared[1][n]} == {
        n for n, p in networks["a"].named_parameters() if id(p) in own
    }
    assert len(shared[0]) > 4 and len(own) == 4  # a weight and a bias of each
    pixels = torch.randn(2, 3, 32, 32)
    logits = [network.eval()(pixels).logits for network in networks.values()]
    assert logits[0].shape == (2, 3) and logits[1].shape == (2, 5)
    trunk = trunk_of(networks["b"]).eval()
    torch.testing.assert_close(heads["b"][-1](trunk(pixels)), logits[1], rtol=1e-4, atol=1e-5)


# ---- the recipe


@pytest.fixture
def no_pixels(monkeypatch):
    """A probe of raw pixels takes longer than all else."""
    monkeypatch.setattr("hf_replearn.pretraining.worth_of_tasks.without_network", lambda task, seed: {"accuracy": 0.5})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_replearn.pretraining.worth_of_tasks.without_network", lambda task, seed: {"accuracy": 0.5})
        assert multitask(*SMALL, "--weighting", "gradnorm", "--output_dir", out) == 0
    return out


def test_pixels_and_words_beside_it():
    from hf_replearn.pretraining.worth_of_tasks import Labelled, without_network

    for name, column, metrics in (("toy-pairs", "first", ("accuracy",)), ("toy-texts", "number", ("pearson",))):
        data = load_labelled(name, label_column=column)
        train, test = data.train.select(range(150)), data.test.select(range(60))
        found = without_network(Labelled(data, train, test, metrics, 1), seed=0)
        assert list(found) == list(metrics) and 0.2 < found[metrics[0]] < 1


def test_a_run_leaves_trunk_heads_card_and_scores(made):
    import timm

    trunk = timm.create_model(f"local-dir:{made}", pretrained=True, num_classes=0).eval()
    pixels = torch.randn(2, 3, 64, 64)
    features = transformers.AutoModel.from_pretrained(made).eval()(pixels).pooler_output
    torch.testing.assert_close(trunk(pixels), features)
    for task in ("first", "second"):
        head = transformers.AutoModelForImageClassification.from_pretrained(made / "heads" / task).eval()
        assert head.config.id2label[3] == "3"
        torch.testing.assert_close(
            head(pixels).logits, head.timm_model.get_classifier()(features), rtol=1e-4, atol=1e-5
        )
    report = json.loads((made / "report.json").read_text())
    assert list(report["rows"]) == ["multi-task", "single tasks", "most frequent answer", "raw pixels"]
    assert {"multitask_first", "multitask_second", "multitask_difference"} <= set(report["rows"]["multi-task"])
    assert report["rows"]["single tasks"]["multitask_difference"] == 0
    assert report["encoder"]["heads"] == ["first", "second"] and report["encoder"]["library"] == "timm"
    assert {path.name for path in made.iterdir()} >= {"tasks.png", "curves.png", "README.md", "report.html", "start"}
    card = (made / "README.md").read_text()
    assert 'subfolder="heads/second"' in card and "mean relative difference to each task alone" in card
    log = [json.loads(line) for line in (made / "log.jsonl").read_text().splitlines()]
    assert all({"loss_first", "loss_second", "weight_first"} <= set(entry) for entry in log if "loss" in entry)


def test_the_scores_are_those_of_the_heads_that_are_left(made):
    from hf_replearn.encoders.encoder import read_inputs

    rows = load_labelled("toy-pairs", label_column="second").test
    folder = str(made / "heads" / "second")
    head = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    _, collate = read_inputs(folder, modality="image")
    with torch.no_grad():
        told = [
            head(collate([rows[n] for n in range(i, i + 50)])["pixel_values"]).logits.argmax(1)
            for i in range(0, 500, 50)
        ]
    right = np.mean(torch.cat(told).numpy() == np.array(rows["label"][:]))
    report = json.loads((made / "report.json").read_text())
    assert report["rows"]["multi-task"]["multitask_second"] == pytest.approx(right)


def test_alone_a_task_starts_the_same_and_has_as_many_batches(made):
    report = json.loads((made / "report.json").read_text())
    assert "after 6 batches of 16 of this task" in report["protocols"]["multitask_first"]
    for task in ("first", "second"):
        assert (made / "single" / task / "checkpoint-6").exists()
    config = json.loads((made / "checkpoint-6" / "config.json").read_text())
    assert list(config["labels"]) == ["first", "second"] and config["recipe"] == "multitask"


@pytest.mark.parametrize("place", ["together", "alone", "finished"])
@pytest.mark.usefixtures("unshown")
def test_killed_it_goes_on_bit_for_bit(place, made, no_pixels, tmp_path, monkeypatch, capsys):
    """In a step of all tasks or of one alone; and after all is done, nothing is trained."""
    from hf_replearn.pretraining.tasks import TaskTrainer

    out, given = tmp_path / "out", [*SMALL, "--weighting", "gradnorm", "--output_dir", tmp_path / "out"]
    calls, step, last = 0, TaskTrainer.training_step, {"together": 5, "alone": 6 + 6 + 4}.get(place)

    def killed(self, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments, **options)

    monkeypatch.setattr(TaskTrainer, "training_step", killed)
    if place == "finished":
        shutil.copytree(made, out)
    else:
        dealt = forked.start(lambda: multitask(*given), tmp_path / "log")
        assert dealt.wait() == [-signal.SIGKILL], dealt.printed()[-3000:]
    assert (out / "report.json").exists() == (place != "together")
    calls, last = 0, None
    assert multitask(*given) == 0
    least = {"together": 2 + 6 + 6, "alone": 4, "finished": 0}[place]
    assert least <= calls <= least + 2 * (place != "finished")  # the last checkpoint may not have been sealed
    assert digest(out) == digest(made)
    rows = [json.loads((folder / "report.json").read_text())["rows"] for folder in (out, made)]
    assert rows[0] == rows[1]
    assert multitask(*given, "--alpha", "0.5") == 2
    assert "alpha" in capsys.readouterr().err


def test_a_checkpoint_is_exported(made, tmp_path):
    recipe = importlib.import_module("hf_replearn.recipes.export")
    for step in (4, 6):
        arguments = ["--checkpoint", str(made / f"checkpoint-{step}"), "--output_dir", str(tmp_path / str(step))]
        run(recipe.main, recipe.ExportSettings, arguments)
    assert digest(tmp_path / "6") == digest(made) != digest(tmp_path / "4")


@pytest.mark.parametrize("weighting", ["uniform", "uncertainty", "pcgrad", "mgda"])
def test_texts_of_classes_and_numbers(weighting, bert, tmp_path, monkeypatch):
    if weighting != "uniform":
        scores = dict.fromkeys(("accuracy", "pearson", "spearman"), 0.5)
        monkeypatch.setattr("hf_replearn.pretraining.worth_of_tasks.without_network", lambda task, seed: scores)
    out = tmp_path / "out"
    given = ["--init", bert, "--tasks", "toy-texts", "--weighting", weighting, "--max_steps", "3", "--output_dir", out]
    assert multitask(*given, "--per_device_train_batch_size", "8", "--single_tasks", str(weighting == "uniform")) == 0
    trunk = transformers.AutoModel.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    tokens = tokenizer("Ada keeps three red lamps in the cellar.", return_tensors="pt")
    for task, labels in (("colour", 4), ("number", 1), ("place", 4)):
        head = transformers.AutoModelForSequenceClassification.from_pretrained(out / "heads" / task).eval()
        assert head(**tokens).logits.shape == (1, labels)
        assert torch.equal(head.bert(**tokens).last_hidden_state, trunk(**tokens).last_hidden_state)
    assert head.config.id2label[0] == "the cellar"
    rows = json.loads((out / "report.json").read_text())["rows"]
    assert {"multitask_colour", "multitask_number_pearson", "multitask_place"} <= set(rows["multi-task"])
    assert rows["TF-IDF"]["multitask_colour"] < 0.8  # it does not know which of the two comes first
    assert ("single tasks" in rows) == (weighting == "uniform")
    assert "AutoModelForSequenceClassification" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "toy-texts"], "--init is needed for texts"),
        (["--tasks", "toy-texts", "--init", "{0}/none/here"], "none/here"),
        (["--tasks", "toy", "--init", "{0}"], "is an encoder of texts, and these are images"),
        (["--backbone", "resnet99"], "--backbone resnet99"),
        (["--max_minutes", "1"], "--max_minutes: how many batches each task has is settled before"),
        (["--shares", "1,2,3"], "--shares has 3 numbers for 2 tasks"),
        (["--shares", "1,2", "--weighting", "mgda"], "--shares: --weighting mgda has all tasks in every step"),
        (["--weighting", "dwa"], "--weighting must be one of uniform, uncertainty, gradnorm, pcgrad, mgda"),
        (["--max_steps", "1"], "--max_steps 1 is fewer than the 2 tasks"),
        (["--tasks", "a=toy-pairs#first"], "is one task"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, bert, tmp_path, capsys, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr("transformers.Trainer.train", None)
    given = {"--tasks": "toy", "--output_dir": str(tmp_path / "out")}
    arguments = [argument.format(bert) for argument in arguments]
    rest = [word for flag, value in given.items() if flag not in arguments for word in (flag, value)]
    assert multitask(*rest, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize("rank", ["0", "1"])
def test_several_processes_are_refused(rank, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert multitask(*SMALL, "--output_dir", tmp_path / "out") == 2
    assert "2 processes were launched, and this works in one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
