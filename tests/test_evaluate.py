"""`hf-replearn evaluate` and `report`: from folders to a page; and what is said when the input is wrong."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import forked
import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset

from hf_replearn.cli import main
from hf_replearn.judging.arguments import Usual
from hf_replearn.settings import run
from hf_replearn.sharing.report import load

ROOT = Path(__file__).parents[1]
WORDS = ("good", "fine", "great", "bad", "poor", "awful")


def evaluate(*arguments) -> int:
    recipe = importlib.import_module("hf_replearn.recipes.evaluation")
    try:
        run(recipe.main, recipe.EvaluateSettings, ["--use_cpu", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    import timm

    from hf_replearn.sharing.export import export_timm

    folder = tmp_path_factory.mktemp("models") / "tiny"
    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 32]}
    torch.manual_seed(0)
    export_timm(
        timm.create_model("resnet18", num_classes=0, **arguments), folder, architecture="resnet18",
        arguments=arguments, image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*names, *WORDS, *"abcdefgh"])}
    words = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=True))
    folder = tmp_path_factory.mktemp("models") / "bert"
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("reviews"), np.random.default_rng(0)
    for split, count in (("train", 120), ("test", 60)):
        labels = rng.integers(0, 2, count)
        texts = [" ".join([*rng.choice(list("abcdefgh"), 4), WORDS[3 * label + rng.integers(3)]]) for label in labels]
        rows = {"text": texts, "label": [("praise", "blame")[label] for label in labels]}
        Dataset.from_dict(rows).to_parquet(folder / f"{split}.parquet")
    return folder


def test_images_from_a_folder_to_a_page(resnet, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--model", resnet, "--dataset", "toy", "--train_examples", 300, "--test_examples", 100]
    arguments += ["--shots", "1,4", "--layers", "all", "--output_dir", out]
    assert evaluate(*arguments) == 0
    assert "page: " in capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert list(report["rows"]) == ["tiny", "random weights", "raw pixels", "PCA of pixels"]
    assert set(report["rows"]["tiny"]) >= {
        "k_shot@1", "k_shot@1_ci95", "k_shot@4", "knn@20", "knn@20_ci95", "linear", "recall@1", "recall@5", "map",
        "nmi", "nmi_ci95", "ari", "matched", "silhouette",
    }  # fmt: skip
    assert set(report["properties"]["tiny"]) >= {"rankme", "alpha_req", "uniformity", "alignment", "sparsity"}
    assert report["task"]["train"] == 300 and report["task"]["test"] == 100
    assert len(report["maps"]["labels"]) == len(report["maps"]["t-SNE"]["tiny"]) == 100
    assert np.sum(report["confusion"]["tiny"]) == 100
    assert [len(feature["examples"]) for feature in report["top_features"]["raw pixels"]] == [8] * 4
    assert set(report["layers"]["tiny"]) == {"k_shot@4", "knn@20", "linear"}
    named = "0 act1, 1 layer1, 2 layer2, 3 layer3, 4 layer4"
    assert report["encoders"]["tiny"]["layers"] == report["encoders"]["random weights"]["layers"] == named
    assert report["layers"]["tiny"]["linear"][-1] == pytest.approx(report["rows"]["tiny"]["linear"])
    assert {test["other"] for test in report["comparisons"]} == set(report["rows"]) - {"tiny"}
    assert all(str(100) in report["protocols"][name] for name in ("knn", "linear", "map"))
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    main(["report", str(out)])
    assert (out / "report.html").read_text() == page  # from report.json alone

    # Scores are those of the evaluators on features that plain timm gives.
    import timm

    from hf_replearn.data.images import decode_rgb, load_images
    from hf_replearn.evaluation.draws import proportional_subset
    from hf_replearn.evaluation.knn import knn
    from hf_replearn.representation import Features

    encoder = timm.create_model(f"local-dir:{resnet}", pretrained=True, num_classes=0).eval()
    transform, data = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder)), load_images("toy")
    parts = []
    for part, most in ((data.train, 300), (data.test, 100)):
        part = part.select(proportional_subset(np.array(part["label"][:]), most, seed=42))
        with torch.no_grad():
            x = encoder(torch.stack([transform(decode_rgb(row["image"])) for row in part]))
        parts.append(Features(x, torch.tensor(part["label"][:])))
    assert knn(*parts, k=20)["knn@20"] == pytest.approx(report["rows"]["tiny"]["knn@20"], abs=0.011)


def test_texts_and_two_models_with_several_kinds_of_pooling(bert, reviews, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(bert, twin)
    scores = {}
    for pooling in ("mean", "cls"):
        out = tmp_path / pooling
        arguments = ["--model", bert, twin, "--dataset", reviews, "--pooling", pooling, "--shots", "1,8"]
        assert evaluate(*arguments, "--output_dir", out) == 0
        report = json.loads((out / "report.json").read_text())
        assert list(report["rows"]) == ["bert", "twin", "random weights", "TF-IDF", "PCA of TF-IDF"]
        assert report["rows"]["bert"] == report["rows"]["twin"]  # the same weights
        same = [test for test in report["comparisons"] if test["other"] == "twin"]
        assert same and all(test["difference"] == 0 and test["p"] == 1 for test in same)
        assert report["rows"]["TF-IDF"]["linear"] > 0.95  # the last word tells
        scores[pooling] = report["rows"]["bert"]
    assert scores["mean"] != scores["cls"]

    arguments = ["--model", bert, "--dataset", reviews, "--baselines", "false", "--shots", "1,8"]
    assert evaluate(*arguments, "--layers", "all", "--output_dir", tmp_path / "all") == 0
    assert evaluate(*arguments, "--layers", "1", "--output_dir", tmp_path / "one") == 0
    every, one = load(tmp_path / "all"), load(tmp_path / "one")
    for metric, values in every.layers["bert"].items():
        assert one.rows["bert"][metric] == pytest.approx(values[1]) and len(values) == 3
    assert one.encoders["bert"]["pooling"] == "mean of layer 1"


def make_mail(folder, sizes: dict[str, tuple[int, int]]):
    """Texts of two kinds that nothing tells apart: {split: (examples, every which one is spam)}."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, (count, every) in sizes.items():
        texts = [" ".join(rng.choice(list("abcdefgh"), 3)) for _ in range(count)]
        labels = ["spam" if row % every == 0 else "ham" for row in range(count)]
        Dataset.from_dict({"text": texts, "label": labels}).to_csv(folder / f"{split}.csv")
    return folder


def test_some_of_the_test_set_are_a_sample_of_it(bert, tmp_path):
    """Always "ham" is right 19 times in 20, in the test set and in what is taken of it."""
    mail, out = make_mail(tmp_path / "mail", {"train": (400, 20), "test": (800, 20)}), tmp_path / "out"
    arguments = ["--model", bert, "--dataset", mail, "--train_examples", 100, "--test_examples", 200]
    assert evaluate(*arguments, "--baselines", "false", "--output_dir", out) == 0
    report = load(out)
    assert np.sum(report.confusion["bert"], axis=1).tolist() == [190, 10]
    assert report.rows["bert"]["linear"] == report.rows["bert"]["knn@20"] == 0.95
    assert list(filter(lambda name: name.startswith("k_shot"), report.metrics)) == ["k_shot@1", "k_shot@2", "k_shot@4"]
    how = "(drawn at random in the proportions of their classes"
    assert f"on 200 of 800 test examples {how}, seed 42)" in report.protocols["linear"]
    assert f"with 100 of 400 labels {how}, at least one of each class, seed 42)" in report.protocols["linear"]


def test_protocols_that_cannot_be_computed_are_dashes_with_their_reasons(bert, tmp_path, capsys):
    """One test example a class: none has another of its class to find, and clusters have nothing in common."""
    mail, out = make_mail(tmp_path / "mail", {"train": (40, 2), "test": (2, 2)}), tmp_path / "out"
    assert evaluate("--model", bert, "--dataset", mail, "--shots", 1, "--output_dir", out) == 0
    report = load(out)
    for row in report.rows:
        assert report.rows[row]["linear"] is not None and report.rows[row]["map"] is None
        assert "single example" in report.missing[row]["map"]
        assert "clusters need at least two of several" in report.missing[row]["nmi"]
    assert list(report.confusion) == list(report.rows)
    for text in (capsys.readouterr().out, (out / "report.html").read_text()):
        assert "every class has a single example: none can find another of its class" in text


@pytest.mark.parametrize("count", [1, 5])
def test_a_test_set_of_one_class_or_one_example(bert, tmp_path, count):
    """What finds its own class there finds nothing, and what can be measured is, on a page."""
    mail, out = make_mail(tmp_path / "mail", {"train": (40, 2), "test": (count, 1)}), tmp_path / "out"
    assert evaluate("--model", bert, "--dataset", mail, "--shots", 1, "--baselines", "false", "--output_dir", out) == 0
    report = load(out)
    (row,) = report.rows
    assert report.rows[row]["linear"] is not None and report.rows[row]["map"] is None
    assert len(report.maps["labels"]) == count and (out / "report.html").exists()


def test_a_network_of_which_nothing_can_be_measured(bert, reviews, tmp_path, capsys, monkeypatch):
    """The baselines are measured all the same."""
    from hf_replearn.evaluation import contestants

    represent = contestants.represent

    def broken(settings, encoder, *parts, origin):
        layers, facts = represent(settings, encoder, *parts, origin=origin)
        if origin == str(bert):
            layers[-1][1].x[0, 0] = torch.nan
        return layers, facts

    monkeypatch.setattr(contestants, "represent", broken)
    out = tmp_path / "out"
    assert evaluate("--model", bert, "--dataset", reviews, "--shots", 1, "--output_dir", out) == 1
    why = "1 of 60 test features are NaN or infinite, first in row 0"
    assert why in capsys.readouterr().err.strip().splitlines()[-1]
    report = load(out)
    assert set(report.rows["bert"].values()) == {None} and why in report.missing["bert"]["linear"]
    assert report.rows["TF-IDF"]["linear"] > 0.9 and "TF-IDF" in report.neighbours
    assert not report.comparisons


def test_a_second_start_goes_on_with_what_the_first_has_measured(bert, reviews, tmp_path, monkeypatch):
    from hf_replearn.evaluation import side_by_side

    seen, honest = [], side_by_side.outcomes

    def interrupted(train, test, *, name, **how):
        seen.append(name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return honest(train, test, name=name, **how)

    monkeypatch.setattr(side_by_side, "outcomes", interrupted)
    out, arguments = tmp_path / "out", ["--model", bert, "--dataset", reviews, "--shots", "1,2"]
    assert evaluate(*arguments, "--output_dir", out) == 130
    assert evaluate(*arguments, "--output_dir", out) == 0
    assert seen == ["bert", "random weights", "TF-IDF", "TF-IDF", "PCA of TF-IDF"]
    assert evaluate(*arguments, "--output_dir", tmp_path / "whole") == 0
    again, whole = load(out), load(tmp_path / "whole")
    assert again.rows == whole.rows and again.comparisons == whole.comparisons and again.confusion == whole.confusion
    assert not (out / ".measured").exists()


def test_pictures_that_fail_come_after_the_scores_are_on_disk(bert, reviews, tmp_path, capsys, monkeypatch):
    from hf_replearn.evaluation import projection

    out, on_disk = tmp_path / "out", []

    def fails(*arguments, **how):
        on_disk.append(load(out).rows["bert"]["linear"])
        raise RuntimeError("the map is folded")

    monkeypatch.setattr(projection, "tsne_map", fails)
    assert evaluate("--model", bert, "--dataset", reviews, "--shots", 1, "--output_dir", out) == 0
    report = load(out)
    assert on_disk and report.rows["bert"]["linear"] == on_disk[0]
    assert report.missing["bert"] == {"maps": "RuntimeError: the map is folded"}
    assert "maps of bert: RuntimeError: the map is folded" in (out / "report.html").read_text()
    assert "bert" in report.neighbours and "bert" in report.confusion


@pytest.mark.parametrize("layers", ["last", pytest.param("all", marks=pytest.mark.slow)])
def test_fine_tuning_stands_beside_the_frozen_features(bert, reviews, tmp_path, monkeypatch, layers):
    monkeypatch.setitem(
        Usual.__init__.__kwdefaults__, "min_steps", 120
    )  # of the usual 200: two networks, five times each
    arguments = [
        "--model",
        bert,
        "--dataset",
        reviews,
        "--shots",
        "1",
        "--finetune",
        "0.1,1",
        "--learning_rate",
        "3e-3",
    ]
    assert evaluate(*arguments, "--layers", layers, "--output_dir", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for row in ("bert", "random weights"):
        assert report["rows"][row]["finetune@1"] > 0.95 >= report["rows"][row]["k_shot@1"]
        assert report["rows"][row]["finetune@0.1"] > 0.6 and "finetune@0.1_ci95" in report["rows"][row]
        if layers == "last":
            continue
        over_layers = report["layers"][row]["finetune@1"]  # the embeddings know the words
        assert len(over_layers) == 3 and min(over_layers) > 0.9 and len(report["layers"][row]["finetune@0.1"]) == 3
    assert "finetune@1" not in report["rows"]["TF-IDF"]
    assert "the share balanced over classes" in report["protocols"]["finetune"]
    tested = {(test["metric"], test["other"]) for test in report["comparisons"]}
    assert ("finetune@1", "random weights") in tested and ("finetune@1", "TF-IDF") not in tested
    assert "learning rate 0.003" in report["protocols"]["finetune"]


def test_scores_go_into_the_card_of_the_first_model(resnet, report, tmp_path):
    model, out = tmp_path / "tiny", tmp_path / "out"
    shutil.copytree(resnet, model)
    report.save(model)
    arguments = ["--model", model, "--dataset", "toy", "--train_examples", 100, "--test_examples", 50, "--shots", "1,2"]
    assert evaluate(*arguments, "--add_to_card", "--output_dir", out) == 0
    found, extended = load(out), load(model)
    assert list(extended.rows) == ["SimCLR", "raw pixels", "random weights", "PCA of pixels (100 images)"]
    assert extended.rows["SimCLR"]["knn@20"] == 0.9  # what was known stays
    assert extended.rows["SimCLR"]["knn_toy@20"] == found.rows["tiny"]["knn@20"]
    assert extended.rows["raw pixels"]["k_shot_toy@1_ci95"] == found.rows["raw pixels"]["k_shot@1_ci95"]
    card, page = (model / "README.md").read_text(), (model / "report.html").read_text()
    assert "on other data than toy, and" in card
    assert (
        "Linear probes and neighbours: toy" in page
        and "Few labels: toy" in page
        and ">Linear probes and neighbours</h3>" in page
    )
    metadata = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    assert {result["dataset"]["name"] for result in metadata} == {"digits", "toy"}


def test_two_processes_share_the_work_and_come_to_the_same_features(resnet, tmp_path):
    arguments = ["--model", resnet, "--dataset", "toy", "--train_examples", 100, "--test_examples", 51]
    arguments = [*map(str, arguments), "--shots", "1,2", "--baselines", "false", "--use_cpu", "--output_dir"]

    def two() -> None:
        datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"  # or they would find the features of the other run
        sys.exit(evaluate(*arguments, tmp_path / "two"))

    started = forked.start(two, tmp_path / "log", processes=2)
    assert started.wait() == [0, 0], started.printed()[-3000:]
    assert evaluate(*arguments, tmp_path / "one") == 0
    assert load(tmp_path / "two").rows.keys() == load(tmp_path / "one").rows.keys() == {"tiny"}
    files = list((tmp_path / "cache" / "hf_replearn").glob("features-*.npy"))
    assert sorted(len(np.load(path)) for path in files) == [51, 100]
    for path in files:  # the same name: of the same weights, rows and preprocessing
        alone = np.load(Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn", path.name))
        np.testing.assert_allclose(np.load(path), alone, rtol=1e-4, atol=1e-5)


def test_pairs_of_sentences_with_scores(bert, tmp_path):
    rng = np.random.default_rng(0)
    letters = [[str(word) for word in rng.choice(list("abcdefgh"), 8, replace=False)] for _ in range(40)]
    shared = rng.integers(0, 5, 40)
    rows = {
        "sentence1": [" ".join(word[:4]) for word in letters],
        "sentence2": [" ".join(word[:n] + word[4 : 8 - n]) for word, n in zip(letters, shared, strict=True)],
        "label": [float(n) for n in shared],
    }
    Dataset.from_dict(rows).to_parquet(tmp_path / "pairs.parquet")
    (tmp_path / "data").mkdir()
    for split in ("train", "validation"):
        shutil.copy(tmp_path / "pairs.parquet", tmp_path / "data" / f"{split}.parquet")
    out = tmp_path / "out"
    (tmp_path / "words.vec").write_text(
        "".join(f"{c} {' '.join(str(int(c == d)) for d in 'abcdefgh')}\n" for c in "abcdefgh")
    )
    arguments = ["--model", bert, "--dataset", tmp_path / "data", "--label_type", "numbers"]
    arguments += ["--words", tmp_path / "words.vec"]
    assert evaluate(*arguments, "--output_dir", out) == 0
    report = json.loads((out / "report.json").read_text())
    plain = ("TF-IDF", "common words, the rarer the more", "mean of word vectors, the rarer the more")
    assert all(report["rows"][row]["sts_spearman"] > 0.9 for row in plain)
    assert report["rows"]["bert, whitened"]["sts_spearman"] is not None
    assert 0 < report["rows"]["bert"]["sts_spearman_ci95"] < 0.5
    assert report["task"]["classes"] is None and "alignment" in report["properties"]["bert"]
    assert "Similarity of sentences" in (out / "report.html").read_text()


def test_images_with_several_labels_by_the_protocols_of_voc07(resnet, tmp_path):
    """Half of the digits are also even or odd; an image may have no label at all."""
    from datasets import ClassLabel, Features, List

    from hf_replearn.data.images import load_images

    data, kind = load_images("toy"), List(ClassLabel(names=["even", "odd", "small"]))
    for split, part in (("train", data.train), ("test", data.test)):
        part = part.select(range(200))
        labels = [[digit % 2] * (digit > 1) + [2] * (digit < 5) for digit in part["label"][:]]
        rows = {"image": part["image"][:], "objects": labels}
        Dataset.from_dict(rows, Features(image=part.features["image"], objects=kind)).to_parquet(
            tmp_path / f"{split}.parquet"
        )
    out, arguments = tmp_path / "out", ["--model", resnet, "--dataset", tmp_path, "--shots", "1,8"]
    assert evaluate(*arguments, "--output_dir", out) == 0
    report = json.loads((out / "report.json").read_text())
    for row in ("tiny", "random weights", "raw pixels"):
        scores = report["rows"][row]
        assert set(scores) == {"voc07@1", "voc07@1_ci95", "voc07@8", "voc07@8_ci95", "voc07_full"}
        assert 0.3 < scores["voc07@8"] < 1 and 0 < scores["voc07@8_ci95"] < 0.3
    assert report["rows"]["raw pixels"]["voc07_full"] > 0.9
    assert "Goyal" in report["protocols"]["voc07"] and "Goyal" in (out / "report.html").read_text()


def test_own_features_stand_beside_ours(resnet, tmp_path, capsys):
    """As `encode` writes them, and without labels, they score as the encoder that they are of."""
    some = [
        "--dataset",
        "toy",
        "--train_examples",
        150,
        "--test_examples",
        60,
        "--shots",
        "1,2",
        "--baselines",
        "false",
    ]
    theirs = tmp_path / "theirs.npz"
    main(["encode", "--model", str(resnet), "--dataset", "toy", "--output", str(theirs), "--use_cpu"])
    arrays = np.load(theirs)
    np.savez(tmp_path / "bare.npz", train=arrays["train"], test=arrays["test"])
    files = ["--features", theirs, tmp_path / "bare.npz"]
    assert evaluate("--model", resnet, *files, *some, "--output_dir", tmp_path / "out") == 0
    report = load(tmp_path / "out")
    assert list(report.rows) == ["tiny", "theirs", "bare"] and report.rows["theirs"] == report.rows["bare"]
    assert report.rows["theirs"] == pytest.approx(report.rows["tiny"], abs=1e-4)
    assert report.encoders["bare"]["from"] == str(tmp_path / "bare.npz")
    assert {test["other"] for test in report.comparisons} == {"theirs", "bare"}
    assert evaluate(*files, *some, "--output_dir", tmp_path / "alone") == 0
    assert load(tmp_path / "alone").rows["bare"] == report.rows["bare"]


def damaged(arrays: dict, how: str) -> dict:
    """What goes wrong with features."""
    arrays = {name: array.copy() for name, array in arrays.items()}
    changes = {
        "NaN": lambda: arrays["test"].__setitem__((3, 0), np.nan),
        "short": lambda: arrays.update(train=arrays["train"][:-1], train_labels=arrays["train_labels"][:-1]),
        "labels": lambda: arrays.update(test_labels=arrays["test_labels"][:-2]),
        "order": lambda: arrays.update(train_labels=np.roll(arrays["train_labels"], 1)),
        "names": lambda: arrays.update(train_labels=np.array([f"digit {n}" for n in arrays["train_labels"]])),
        "classes": lambda: arrays.update(classes=np.array(list("abcdefghij"))),
        "flat": lambda: arrays.update(test=arrays["test"][:, 0]),
        "texts": lambda: arrays.update(test=arrays["test"].astype(str)),
        "width": lambda: arrays.update(test=arrays["test"][:, :2]),
        "test": lambda: arrays.pop("test"),
        "more": lambda: arrays.update(validation=arrays["test"]),
    }
    changes[how]()
    return arrays


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("NaN", "test: 1 of 360 features are NaN or infinite, first in row 3"),
        ("short", "has 1,436 train features, the dataset 1,437 train examples"),
        ("labels", "test: 360 features, but 358 labels"),
        ("order", "train_labels are not the dataset's; row 0 has"),
        ("names", "1,437 of 1,437 train_labels are not the dataset's; row 0 has digit"),
        ("classes", "train_labels are not the dataset's; row 0 has"),
        ("flat", "test: features must be (N, D), got (360,)"),
        ("texts", "test: features must be numbers"),
        ("width", "train features have 4 dimensions and test features 2"),
        ("test", "has no array 'test', only train, train_labels, test_labels: give train (N, D), test (M, D)"),
        ("more", "has an array 'validation', which is not known"),
    ],
)
def test_own_features_that_are_not_of_these_examples(how, message, tmp_path, capsys, monkeypatch):
    from hf_replearn.data.images import load_images

    monkeypatch.setattr("hf_replearn.judging.evaluate.compute_features", None)  # before anything is computed
    data, rng = load_images("toy"), np.random.default_rng(0)
    arrays = {name: rng.normal(size=(len(part), 4)) for name, part in (("train", data.train), ("test", data.test))}
    arrays |= {"train_labels": np.array(data.train["label"][:]), "test_labels": np.array(data.test["label"][:])}
    np.savez(tmp_path / "theirs.npz", **damaged(arrays, how))
    assert evaluate("--features", tmp_path / "theirs.npz", "--dataset", "toy", "--output_dir", tmp_path / "out") == 2
    (error,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert error.startswith(f"error: --features {tmp_path / 'theirs.npz'}") and message in error


@pytest.mark.parametrize("content", [b"", b"PK", b"text", None])
def test_a_file_that_holds_no_features(content, tmp_path, capsys):
    path = tmp_path / "theirs.npz"
    if content is None:
        np.savez(path, train=np.array([{}, {}], dtype=object), test=np.zeros((1, 1)))
    else:
        path.write_bytes(content)
    assert evaluate("--features", path, "--dataset", "toy", "--output_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: --features {path} is no ") and ".npz file" in error
    assert ("pickle" in error) == (content is None)


def test_one_array_alone_is_no_features_of_train_and_test(tmp_path, capsys):
    np.save(tmp_path / "theirs.npy", np.zeros((4, 2)))
    assert evaluate("--features", tmp_path / "theirs.npy", "--dataset", "toy", "--output_dir", tmp_path / "out") == 2
    assert "is no whole .npz file, which numpy.savez writes: give train (N, D), test (M, D)" in capsys.readouterr().err


def test_every_run_of_a_folder_on_one_page(resnet, bert, tmp_path, capsys):
    """What cannot be judged is left out, with a word: a text encoder, a folder of something else, a file."""
    runs = tmp_path / "runs"
    for name, source in (("a", resnet), ("b", resnet), ("words", bert)):
        shutil.copytree(source, runs / name)
    (runs / "notes").mkdir()
    (runs / "log.txt").write_text("")
    some = ["--dataset", "toy", "--train_examples", 100, "--test_examples", 40, "--shots", 1, "--baselines", "false"]
    assert evaluate("--runs", runs, *some, "--output_dir", tmp_path / "whole") == 0
    assert evaluate("--runs", *sorted(runs.iterdir()), *some, "--output_dir", tmp_path / "shell") == 0
    assert evaluate("--runs", f"{runs}/*", *some, "--output_dir", tmp_path / "pattern") == 0
    reports = [load(tmp_path / name) for name in ("whole", "shell", "pattern")]
    assert all(list(report.rows) == ["a", "b"] for report in reports)
    assert reports[0].rows == reports[1].rows == reports[2].rows
    printed = capsys.readouterr().out
    for left_out in (f"{runs}/notes: it holds no encoder", f"{runs}/log.txt: it holds", f"{runs}/words: --model"):
        assert f"left out: {left_out}" in printed
        assert any(note.startswith(f"not judged: {left_out}") for note in reports[0].task.notes)
    assert "log.txt" in (tmp_path / "whole" / "report.html").read_text()


def test_two_evaluations_on_one_page(resnet, tmp_path, capsys):
    for seed in (0, 1):
        arguments = ["--model", resnet, "--dataset", "toy", "--train_examples", 100, "--test_examples", 40]
        arguments += ["--shots", "1,2", "--seed", seed, "--baselines", "false"]
        assert evaluate(*arguments, "--output_dir", tmp_path / str(seed)) == 0
    page = tmp_path / "page" / "both.html"
    main(["report", str(tmp_path / "0"), str(tmp_path / "1"), "--output", str(page)])
    assert "0: tiny" in page.read_text() and "1: tiny" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "toy"], "--model is required"),
        (["--model", "{}/nothing", "--dataset", "toy"], "nothing is not an encoder of images"),
        (["--model", "{0}/tiny", "{0}/tiny", "--dataset", "toy"], "given twice"),
        (["--model", "{}/tiny", "--dataset", "toy", "--shots", "5000"], "5000"),
        (["--model", "{}/tiny", "--dataset", "{}/numbers.csv"], "finetune --mode linear"),
        (["--model", "{}/tiny", "--dataset", "toy", "--words", "w.vec"], "--words w.vec is of pairs of sentences"),
        (["--model", "{}/tiny", "--dataset", "toy", "--layers", "9"], "has the layers 0 to "),
        (["--model", "{}/tiny", "--dataset", "toy", "--layers", "first"], "--layers must be last, all or"),
        (["--model", "{}/tiny", "--dataset", "toy", "--finetune", "0.001"], "too few for 10 classes"),
        (["--runs", "{}/nothing/*", "--dataset", "toy"], "there is no such folder"),
        (["--runs", "{}", "--dataset", "{}/words.csv"], "none of --runs can be judged"),
        (["--runs", "{}/numbers.csv", "--dataset", "toy"], "no folder there holds an encoder"),
        (["--features", "{}/nothing.npz", "--dataset", "toy"], "nothing.npz: there is no such file"),
        (["--features", "{0}/a.npz", "{0}/a.npz", "--dataset", "toy"], "a.npz is given twice"),
        (
            ["--runs", "{}/tiny", "--dataset", "toy", "--add_to_card"],
            "--add_to_card is of the card of the first --model",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, resnet, tmp_path, capsys):
    shutil.copytree(resnet, tmp_path / "tiny")
    rows = "text,label\n" + "\n".join(f"word {n},{n / 7}" for n in range(30))
    (tmp_path / "numbers.csv").write_text(rows)
    (tmp_path / "words.csv").write_text("text,label\n" + "up,a\ndown,b\n" * 20)
    arguments = [argument.format(tmp_path) for argument in arguments]
    assert evaluate("--output_dir", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_a_page_of_nothing_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path)])
    assert end.value.code == 2 and "no report.json" in capsys.readouterr().err


def test_no_recipe_hides_a_library():
    """Python looks for modules beside a script first: `import evaluate` must not find a recipe."""
    names = [path.stem for path in (ROOT / "recipes").glob("*.py")]
    code = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    found = subprocess.run(
        [sys.executable, "-I", "-c", code, *names], capture_output=True, text=True, cwd=ROOT / "tests"
    )
    assert found.stdout.strip() == "[]"
