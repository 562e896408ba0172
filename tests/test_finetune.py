"""Fine-tuning and probes: the mechanisms on every family of encoders, and the recipe from a folder to its scores."""

import importlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoModelForImageClassification, AutoModelForSequenceClassification

from hf_replearn.encoders.heads import LayerClassifier
from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.load import choose_length, load_network, load_processor, with_dropout
from hf_replearn.encoders.pooling import Pooling
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.finetune import finetune as fine_tune
from hf_replearn.evaluation.layers import bag_of_words, probe, probe_layers
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.evaluation.repetitions import mean_and_interval, reasons, summarise, table
from hf_replearn.metrics import score
from hf_replearn.representation import Features, extract, split_layers
from hf_replearn.settings import run

WORDS = [f"w{number}" for number in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL |= {"vocab_size": 128, "max_position_embeddings": 34, "pad_token_id": 0}
FAMILIES = {
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)),
    "roberta": lambda: transformers.RobertaForMaskedLM(transformers.RobertaConfig(**SMALL)),
    "modernbert": lambda: transformers.ModernBertForMaskedLM(
        transformers.ModernBertConfig(**SMALL, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=128, n_positions=34, eos_token_id=3)
    ),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**SMALL | {"pad_token_id": None}, num_key_value_heads=2, head_dim=16, eos_token_id=3)
    ),
}


def make_tokenizer(*, decoder: bool):
    """One token a word. An encoder's puts [CLS] and [SEP] around texts, a decoder's nothing, and cannot pad."""
    words = models.WordPiece({word: number for number, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder:
        return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder of each family, with random weights of language models, and of a ResNet of timm."""
    import timm

    from hf_replearn.sharing.export import export_timm

    root = tmp_path_factory.mktemp("checkpoints")
    for family, make in FAMILIES.items():
        torch.manual_seed(0)
        make().save_pretrained(root / family)
        make_tokenizer(decoder=family in ("gpt2", "qwen3")).save_pretrained(root / family)
    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 32]}
    export_timm(
        timm.create_model("resnet18", num_classes=0, **arguments), root / "resnet", architecture="resnet18",
        arguments=arguments, image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3,
    )  # fmt: skip
    return root


def make_texts(count: int, *, seed: int) -> dict[str, list]:
    """Words at random; the class says from which half of the vocabulary most of them are."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    texts = []
    for label in labels:
        other = rng.random(rng.integers(4, 12)) < 0.15
        texts.append(" ".join(f"w{rng.integers(0, 30) + 30 * (label ^ flip)}" for flip in other))
    return {"text": texts, "label": [["low", "high"][label] for label in labels]}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for split, count, seed in (("train", 400, 0), ("test", 100, 1)):
        Dataset.from_dict(make_texts(count, seed=seed)).to_parquet(root / f"{split}.parquet")
    return root


def finetune(*arguments) -> int:
    """Runs the recipe in this process; returns its exit code."""
    recipe = importlib.import_module("hf_replearn.recipes.finetune")
    try:
        run(recipe.main, recipe.FinetuneSettings, ["--use_cpu", "--bf16", "false", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


def scores_of(out) -> dict:
    """{(row, share of labels, seed): scores}"""
    runs = json.loads((out / "scores.json").read_text())["runs"]
    return {(run["row"], run["label_fraction"], run["seed"]): run["scores"] for run in runs}


# ---- the mechanisms


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_mates_and_padding_change_nothing(checkpoints, family):
    """Of every family: a text and a pair get the logits and features that they get alone."""
    folder = str(checkpoints / family)
    config, tokenizer = load_processor(folder, images=False, num_labels=3)
    classifier = load_network(AutoModelForSequenceClassification, folder, config).eval()
    encoder = Pooling(load_network(AutoModel, folder, config), all_layers=True).eval()
    collate = ProcessorInputs(tokenizer, 16, token_types=getattr(config, "type_vocab_size", 0) > 1)
    single = [{"text": text, "label": 0} for text in ("w1 w2", "w3 w4 w5 w6 w7", "")]
    pairs = [row | {"text_pair": "w9 w10"} for row in single]
    for rows in (single, pairs):
        with torch.no_grad():
            batch, alone = collate(rows), [collate([row]) for row in rows]
            labels = batch.pop("labels")
            together = classifier(**batch).logits
            each = torch.cat([classifier(**{k: v for k, v in one.items() if k != "labels"}).logits for one in alone])
            torch.testing.assert_close(together, each, rtol=1e-4, atol=1e-5)
            features = torch.cat([encoder(one) for one in alone])
            torch.testing.assert_close(encoder(batch), features, rtol=1e-4, atol=1e-5)
        assert labels.tolist() == [0, 0, 0]
        assert encoder.widths == [32, 32, 32]


def test_layers_are_the_hidden_states(checkpoints):
    """Mean-pooled by hand, and the first is the embeddings."""
    folder = str(checkpoints / "bert")
    config, tokenizer = load_processor(folder, images=False)
    network = load_network(AutoModel, folder, config).eval()
    rows = Dataset.from_dict({"text": ["w1 w2 w3", "w4"], "label": [0, 1]})
    encoder = Pooling(network, all_layers=True).eval()
    layers = split_layers(extract(encoder, rows, preprocess=ProcessorInputs(tokenizer)), encoder.widths)
    for row, text in enumerate(rows["text"]):
        with torch.no_grad():
            outputs = network(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        for layer, states in zip(layers, outputs.hidden_states, strict=True):
            torch.testing.assert_close(layer.x[row], states[0].mean(0), rtol=1e-4, atol=1e-5)
    assert layers[0].labels.tolist() == [0, 1]


def test_the_last_layer_of_timm_is_its_own_pooling(checkpoints):
    import timm

    folder = str(checkpoints / "resnet")
    config, _ = load_processor(folder, images=True)
    encoder = Pooling(load_network(AutoModel, folder, config), all_layers=True).eval()
    plain, pixels = timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = encoder({"pixel_values": pixels, "labels": torch.zeros(2)})
        torch.testing.assert_close(features[:, -32:], plain(pixels), rtol=1e-4, atol=1e-5)
        first = plain.forward_intermediates(pixels, indices=[0], intermediates_only=True)[0]
    torch.testing.assert_close(features[:, :64], first.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    assert encoder.widths == [64, 8, 8, 16, 32]


@pytest.mark.parametrize("family", [*FAMILIES, "resnet"])
def test_a_layer_learns_with_the_blocks_below_it_alone(checkpoints, family):
    """Its logits are the head's of the layer's pooled features, and no gradient reaches a block above it."""
    folder, images = str(checkpoints / family), family == "resnet"
    config, processor = load_processor(folder, images=images, num_labels=3)
    pooling = Pooling(load_network(AutoModel, folder, config), all_layers=True)
    if images:
        batch = transformers.BatchFeature({"pixel_values": torch.randn(3, 3, 32, 32), "labels": torch.arange(3)})
    else:
        rows = [{"text": text, "label": n} for n, text in enumerate(("w1 w2", "w3 w4 w5", "w6"))]
        batch = ProcessorInputs(processor, 16)(rows)
    network = LayerClassifier(pooling, layer=1, batch=batch, outputs=3).eval()
    found = network(**batch)
    features = pooling(batch).split(pooling.widths, dim=1)[1]
    torch.testing.assert_close(found["logits"], network.head(features))
    expected = torch.nn.functional.cross_entropy(found["logits"], batch["labels"])
    torch.testing.assert_close(found["loss"], expected)
    found["loss"].backward()
    first, second = ("layer1.", "layer2.") if images else (r"(layer|h|layers)\.0\.", r"(layer|h|layers)\.1\.")
    reached = {name: parameter.grad is not None for name, parameter in network.named_parameters()}
    assert any(got for name, got in reached.items() if re.search(first, name)), reached
    above = [got for name, got in reached.items() if re.search(second, name)]
    assert above and not any(above), reached


def test_the_head_is_always_fresh_and_the_body_the_checkpoints(checkpoints, tmp_path):
    folder = str(checkpoints / "bert")
    config, _ = load_processor(folder, images=False, num_labels=2)
    trained = load_network(AutoModelForSequenceClassification, folder, config)
    trained.save_pretrained(tmp_path)
    again = load_network(AutoModelForSequenceClassification, str(tmp_path), config)
    assert not torch.equal(trained.classifier.weight, again.classifier.weight)
    for name, weight in trained.bert.state_dict().items():
        assert torch.equal(weight, again.bert.state_dict()[name]), name
    unlike = load_network(AutoModelForSequenceClassification, folder, config, pretrained=False)
    assert not torch.equal(
        unlike.bert.embeddings.word_embeddings.weight, trained.bert.embeddings.word_embeddings.weight
    )


def test_random_weights_of_timm_are_timms(checkpoints):
    """transformers' wrapper would draw all of them from N(0, 0.02)."""
    folder = str(checkpoints / "resnet")
    config, _ = load_processor(folder, images=True, num_labels=4)
    network = load_network(AutoModelForImageClassification, folder, config, pretrained=False)
    kernel = network.timm_model.layer4[0].conv1.weight  # (32, 16, 3, 3), fan-out 288
    assert kernel.std().item() == pytest.approx((2 / 288) ** 0.5, rel=0.1)
    assert network.timm_model.fc.out_features == 4


def test_a_checkpoint_of_something_else(checkpoints, tmp_path):
    config, _ = load_processor(str(checkpoints / "bert"), images=False)
    with pytest.raises(InputError, match="lacks"):
        load_network(AutoModel, str(checkpoints / "roberta" / "..") + "/gpt2", config)
    config.vocab_size = 64
    with pytest.raises(InputError, match="word_embeddings.weight has shape"):
        load_network(AutoModel, str(checkpoints / "bert"), config)


def test_dropout_reaches_every_rate(checkpoints):
    for family in FAMILIES:
        config, _ = load_processor(str(checkpoints / family), images=False)
        network = AutoModel.from_config(with_dropout(config, 0.3))
        rates = {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)}
        assert rates <= {0.3}
        assert rates or config.attention_dropout == 0.3  # Qwen3 only has that of attention, without a module


def test_lengths(checkpoints):
    """RoBERTa counts positions from its padding token on: 34 of them are 33 tokens; its tokenizer here says 32."""
    config, tokenizer = load_processor(str(checkpoints / "roberta"), images=False)
    assert choose_length(None, config, tokenizer) == 32
    tokenizer.model_max_length = 10**9
    assert choose_length(None, config, tokenizer) == 33
    assert choose_length(20, config, tokenizer) == 20
    with pytest.raises(InputError, match="--max_length 34 is more than the 33 tokens"):
        choose_length(34, config, tokenizer)


def test_probe_is_the_linear_probe():
    x, labels = torch.randn(300, 12), torch.randint(0, 3, (300,))
    x[torch.arange(300), labels] += 1.5
    train, test = Features(x[:200], labels[:200]), Features(x[200:], labels[200:])
    assert probe(train, test, metrics=["accuracy"])["accuracy"] == linear_probe(train, test)["linear"]


def test_ridge_finds_a_linear_map():
    x = torch.randn(300, 12)
    y = x @ torch.randn(12) + 0.01 * torch.randn(300)
    found = probe(Features(x[:200], y[:200]), Features(x[200:], y[200:]), metrics=["pearson", "spearman"])
    assert found["pearson"] > 0.999


def test_layers_to_probe():
    x, labels = torch.randn(60, 4), torch.arange(60) % 2
    good, noise = Features(x + 3 * labels[:, None], labels), Features(x, labels)
    layers, rows = [(good, good), (noise, noise)], np.arange(40)
    found = probe_layers(layers, rows, which="all", metrics=["accuracy", "f1"])
    assert list(found) == ["accuracy", "f1", "accuracy layer 0", "f1 layer 0", "accuracy layer 1", "f1 layer 1"]
    assert found["accuracy layer 0"] > 0.95 > found["accuracy layer 1"] == found["accuracy"]
    assert list(probe_layers(layers, rows, which="last", metrics=["accuracy"])) == ["accuracy"]
    assert probe_layers(layers, rows, which="0", metrics=["accuracy"]) == {"accuracy": found["accuracy layer 0"]}
    with pytest.raises(InputError, match="the layers of this network are 0 to 1"):
        probe_layers(layers, rows, which="2", metrics=["accuracy"])


def test_bag_of_words_knows_the_words_and_their_overlap():
    train, test = (Dataset.from_dict(make_texts(count, seed=seed)) for count, seed in ((300, 0), (100, 1)))
    numbers = [part.map(lambda row: {"label": int(row["label"] == "high")}) for part in (train, test)]
    assert bag_of_words(*numbers, metrics=["accuracy"])["accuracy"] > 0.9
    same = {"text": train["text"][:], "text_pair": train["text"][:], "label": [1.0] * 300}
    other = {"text": train["text"][:], "text_pair": train["text"][::-1], "label": [0.0] * 300}
    pairs = Dataset.from_dict({name: [*same[name], *other[name]] for name in same}).shuffle(seed=0)
    found = bag_of_words(pairs.select(range(400)), pairs.select(range(400, 600)), metrics=["pearson"])
    assert found["pearson"] > 0.9


def test_interval_against_scipy():
    from scipy.stats import t

    values = [0.7, 0.8, 0.78, 0.74]
    low, high = t.interval(0.95, 3, loc=np.mean(values), scale=np.std(values, ddof=1) / 2)
    mean, half = mean_and_interval(values)
    assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))
    assert mean_and_interval([0.5]) == (0.5, None)
    assert mean_and_interval([0.35, 0.6]) == (0.475, None)  # the t interval of two would reach from -1.1 to 2.1
    assert mean_and_interval([0.6, 0.6, 0.6]) == (pytest.approx(0.6), None)  # no spread to estimate one from
    assert mean_and_interval([0.0, 0.0, 1.0])[1] is None  # wider than 0…1
    assert mean_and_interval([-0.3, 0.0, 0.3], low=-1.0)[1] == pytest.approx(0.745, abs=1e-3)


def test_summary_of_runs():
    runs = [
        {"row": row, "label_fraction": share, "scores": {"f1": value, "f1 layer 0": 0.5}}
        for row, share, value in (
            ("a", 1.0, 0.9),
            ("a", 0.01, 0.6),
            ("a", 0.01, 0.7),
            ("a", 0.01, 0.8),
            ("b", 1.0, None),
        )
    ]
    rows = summarise(runs, names={"f1": "finetune_mrpc"})
    assert list(rows["a"])[:2] == ["finetune_mrpc@1%", "finetune_mrpc@1%_ci95"]
    assert rows["a"]["finetune_mrpc@1%_ci95"] == pytest.approx(0.248, abs=1e-3)
    assert rows["a"]["finetune_mrpc@1%"] == pytest.approx(0.7)
    assert rows["a"]["finetune_mrpc@100%"] == 0.9 and "finetune_mrpc@100%_ci95" not in rows["a"]
    assert np.isnan(rows["b"]["finetune_mrpc@100%"])
    assert table(rows).splitlines()[1].split() == ["finetune_mrpc@1%", "0.700", "±", "0.248", "–"]
    assert re.search(r"finetune_mrpc@100% +0.900 +–$", table(rows), re.MULTILINE)  # NaN is no score


def test_scores_of_several_metrics():
    found = score(np.array([0, 1, 1]), np.array([0, 1, 0]), metrics=["f1", "accuracy"])
    assert found == {"f1": pytest.approx(2 / 3), "accuracy": pytest.approx(2 / 3)}
    zeros = score(np.array([0, 1, 1]), np.array([0, 0, 0]), metrics=["f1"], positive=0)
    assert zeros == {"f1": pytest.approx(0.5)}  # one of three found, nothing else taken for it
    with pytest.raises(ArithmeticError, match="2 of 3 predictions are not finite"):
        score(np.array([0.1, np.nan, np.inf]), np.array([1.0, 2.0, 3.0]), metrics=["pearson"])


@pytest.mark.parametrize(
    ("task", "names", "asked", "positive"),
    [
        ("mrpc", ["equivalent", "not_equivalent"], None, "equivalent"),  # in the order of the alphabet
        ("qqp", ["not_duplicate", "duplicate"], None, "duplicate"),
        ("mrpc", ["0", "1"], None, "1"),
        ("mail", ["False", "True"], None, "True"),
        ("mail", ["ham", "spam"], "ham", "ham"),
        ("mail", ["ham", "spam"], None, None),
        ("mrpc", ["no", "yes"], None, None),
    ],
)
def test_f1_is_of_a_class_that_is_known_or_asked_for(task, names, asked, positive):
    from hf_replearn.judging.task import choose_positive

    recipe = importlib.import_module("hf_replearn.recipes.finetune")
    settings = recipe.FinetuneSettings(model="m", dataset=task, output_dir="o", positive_class=asked)
    data = SimpleNamespace(label_names=names)
    if positive is None:
        with pytest.raises(
            InputError, match=f"--positive_class {names[0]} or --positive_class {names[1]}, or .*f1_macro"
        ):
            choose_positive(settings, task, data, metrics=["f1"])
    else:
        assert names[choose_positive(settings, task, data, metrics=["f1"])] == positive


def test_f1_of_the_positive_class_by_hand_and_named_wherever_it_is_shown(checkpoints, tmp_path, capsys):
    """Nothing to be learnt: "equivalent" is always said, right in three of four, F1 = 2 · 0.75 / (0.75 + 1)."""
    (tmp_path / "mrpc").mkdir()
    for split in ("train", "test"):
        labels = ["not_equivalent" if i % 4 == 0 else "equivalent" for i in range(40)]
        rows = {"sentence1": ["w1 w2"] * 40, "sentence2": ["w3 w4"] * 40, "label": labels}
        Dataset.from_dict(rows).to_csv(tmp_path / "mrpc" / f"{split}.csv")
    arguments = ["--model", checkpoints / "bert", "--dataset", tmp_path / "mrpc", "--mode", "linear"]
    assert finetune(*arguments, "--baseline", "false", "--output_dir", tmp_path / "out") == 0
    assert scores_of(tmp_path / "out")["bert", 1.0, 42] == {"f1": pytest.approx(6 / 7), "accuracy": 0.75}
    assert (
        "finetune_mrpc_f1: F1 of the class 'equivalent'".replace("finetune", "linear_probe") in capsys.readouterr().out
    )
    content = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert content["positive_class"] == "equivalent"
    assert content["protocols"]["linear_probe_mrpc_f1"].startswith("F1 of the class 'equivalent' on the split 'test'")


def test_a_run_that_fails_is_a_dash_with_its_reason_and_the_others_stay(
    checkpoints, texts, tmp_path, capsys, monkeypatch
):
    from hf_replearn.judging import ways

    out, honest, seeds, broken = tmp_path / "out", ways.finetune, [], {43}

    def diverging(network, train, test, *, collate, args):
        seeds.append(args.seed)
        if args.seed in broken:
            raise ArithmeticError("the loss is not finite after step 1")
        return honest(network, train, test, collate=collate, args=args)

    monkeypatch.setattr(ways, "finetune", diverging)
    arguments = ["--model", checkpoints / "bert", "--dataset", texts, "--label_fraction", "0.05", "--baseline", "false"]
    arguments += ["--min_steps", "2", "--num_train_epochs", "0.01", "--output_dir", out, "--seeds"]
    assert finetune(*arguments, "2") == 0
    assert "of bert: seed 43: ArithmeticError: the loss is not finite after step 1" in capsys.readouterr().out
    found = scores_of(out)
    assert found["bert", 0.05, 43] == {"accuracy": None} and found["bert", 0.05, 42]["accuracy"] is not None
    assert finetune(*arguments, "1") == 0  # the seed that went well is there already
    assert seeds == [42, 43]
    broken.clear()
    assert finetune(*arguments, "2") == 0  # what failed is tried again
    assert seeds == [42, 43, 43]
    assert scores_of(out)["bert", 0.05, 43]["accuracy"] is not None
    assert not any(run.get("missing") for run in json.loads((out / "scores.json").read_text())["runs"])

    broken.add(42)
    arguments[arguments.index(out)] = tmp_path / "other"
    assert finetune(*arguments, "1") == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: of bert nothing could be measured: seed 42: ArithmeticError: the loss")
    assert not (tmp_path / "other" / "model").exists()


def test_what_a_mean_of_some_seeds_would_hide_is_said():
    runs = [
        {"row": "a", "seed": 1, "label_fraction": 0.1, "scores": {"f1": 0.5}},
        {"row": "a", "seed": 2, "label_fraction": 0.1, "scores": {"f1": None}, "missing": {"f1": "too large"}},
    ]
    assert np.isnan(summarise(runs, names={"f1": "finetune_x"})["a"]["finetune_x@10%"])
    assert reasons(runs, names={"f1": "finetune_x"}) == {"a": {"finetune_x@10%": "seed 2: too large"}}


@pytest.mark.parametrize("where", ["loss", "weights"])
def test_fine_tuning_that_diverges_has_no_predictions(tmp_path, where):
    """Class 0 is what argmax makes of NaN. It is seen in the loss, and where only the test examples show it."""

    class Diverging(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, labels):
            logits = torch.stack([x, -x], dim=1) * self.scale
            loss = torch.nn.functional.cross_entropy(logits, labels)
            return {"loss": loss * float("nan") if where == "loss" else loss, "logits": logits / (x[:, None] != 99)}

    def collate(rows):
        return {"x": torch.tensor([row["x"] for row in rows]), "labels": torch.tensor([row["label"] for row in rows])}

    train, test = (Dataset.from_dict({"x": [1.0, last], "label": [0, 1]}) for last in (2.0, 99.0))
    args = transformers.TrainingArguments(
        tmp_path, max_steps=2, use_cpu=True, remove_unused_columns=False, save_strategy="no", report_to=[]
    )
    said = {
        "loss": "the loss of fine-tuning is nan in step 1 of 2",
        "weights": "1 of 2 test examples get NaN or infinity",
    }
    with pytest.raises(TrainingError, match=said[where]):
        fine_tune(Diverging(), train, test, collate=collate, args=args)


# ---- the recipe


def test_fine_tuning_learns_and_goes_on_where_it_was(checkpoints, texts, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    arguments = ["--model", checkpoints / "bert", "--dataset", texts, "--label_fraction", "0.1,1", "--output_dir", out]
    arguments += ["--min_steps", "25", "--num_train_epochs", "2", "--learning_rate", "5e-3", "--seeds"]
    assert finetune(*arguments, "1") == 0
    assert "±" not in capsys.readouterr().out
    assert finetune(*arguments, "2") == 0  # a seed more
    found = scores_of(out)
    assert set(found) == {
        *((row, f, s) for row in ("bert", "random weights", "TF-IDF") for f in (0.1, 1.0) for s in (42, 43))
    } - {("TF-IDF", 1.0, 43)}  # of all labels there is one draw, and TF-IDF has no weights to draw
    for row in ("bert", "random weights"):
        assert found[row, 1.0, 42]["accuracy"] > 0.9
    printed = capsys.readouterr().out
    mean = np.mean([found["bert", 0.1, seed]["accuracy"] for seed in (42, 43)])
    assert f"finetune_{texts.name}@10%".replace("-", "") in printed and f"{mean:.3f}" in printed
    assert "±" not in printed  # of two seeds there is no interval that says anything

    plain = AutoModelForSequenceClassification.from_pretrained(out / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "model")
    test = Dataset.from_parquet(str(texts / "test.parquet"))
    with torch.no_grad():
        logits = plain(**tokenizer(test["text"][:], padding=True, return_tensors="pt")).logits
    guessed = [plain.config.id2label[number] for number in logits.argmax(1).tolist()]
    assert np.mean(np.array(guessed) == np.array(test["label"][:])) == found["bert", 1.0, 42]["accuracy"]

    content = json.loads((out / "scores.json").read_text())
    content["runs"] = content["runs"][1:]
    (out / "scores.json").write_text(json.dumps(content))
    monkeypatch.setattr("hf_replearn.judging.ways.bag_of_words", None)  # nothing of it is left to do
    assert finetune(*arguments, "2") == 0
    assert scores_of(out) == found  # the missing one comes out the same, and as with the other number of seeds
    capsys.readouterr()
    assert finetune(*arguments, "1") == 0 and scores_of(out) == found
    assert "±" not in capsys.readouterr().out


def test_fine_tuning_of_every_layer(checkpoints, tmp_path):
    """The layer before the first block knows the words, which are all that tells these classes."""
    data, out = make_texts(160, seed=0), tmp_path / "out"
    Dataset.from_dict(data | {"label": [{"low": 0, "high": 1}[label] for label in data["label"]]}).to_csv(
        tmp_path / "words.csv"
    )
    arguments = ["--model", checkpoints / "bert", "--dataset", tmp_path / "words.csv", "--layers", "all"]
    arguments += ["--min_steps", "50", "--learning_rate", "5e-3", "--seeds", "1", "--label_fraction", "0.5"]
    assert finetune(*arguments, "--output_dir", out) == 0
    found = scores_of(out)
    for row in ("bert", "random weights"):
        assert list(found[row, 0.5, 42]) == ["accuracy", *(f"accuracy layer {number}" for number in range(3))]
        assert min(found[row, 0.5, 42].values()) > 0.8
    assert len(set(found["bert", 0.5, 42].values())) > 1
    assert (out / "layers.png").stat().st_size > 10_000
    arguments[arguments.index("all")] = "1"
    assert finetune(*arguments, "--output_dir", tmp_path / "one") == 0
    assert scores_of(tmp_path / "one")["bert", 0.5, 42] == {"accuracy": found["bert", 0.5, 42]["accuracy layer 1"]}
    assert not (tmp_path / "one" / "model").exists()  # transformers has no class for it


def test_frozen_layers(checkpoints, texts, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--model", checkpoints / "gpt2", "--dataset", texts, "--mode", "linear", "--layers", "all"]
    assert (
        finetune(
            *arguments,
            "--label_fraction",
            "0.2",
            "--metrics",
            "f1,accuracy",
            "--positive_class",
            "high",
            "--output_dir",
            out,
        )
        == 0
    )
    scores = scores_of(out)["gpt2", 0.2, 42]
    assert list(scores) == ["f1", "accuracy", *(f"{m} layer {n}" for n in range(3) for m in ("f1", "accuracy"))]
    assert scores["accuracy layer 0"] > 0.8
    assert (out / "layers.png").stat().st_size > 10_000
    assert "_accuracy@20% layer 2" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["full", "linear"])
def test_pairs_with_numbers(checkpoints, tmp_path, mode):
    """STS-B's form: the number is the share of words that two texts have in common."""
    rng = np.random.default_rng(0)
    firsts, shared = [rng.choice(WORDS, 6, replace=False) for _ in range(80)], rng.integers(0, 7, 80)
    seconds = [[*first[:n], *rng.choice(WORDS, 6 - n)] for first, n in zip(firsts, shared, strict=True)]
    rows = {"sentence1": list(map(" ".join, firsts)), "sentence2": list(map(" ".join, seconds))}
    Dataset.from_dict(rows | {"label": (shared / 6).tolist()}).to_parquet(tmp_path / "stsb.parquet")
    arguments = ["--model", checkpoints / "qwen3", "--dataset", tmp_path / "stsb.parquet", "--mode", mode]
    assert finetune(*arguments, "--min_steps", "5", "--seeds", "1", "--output_dir", tmp_path / "out") == 0
    found = scores_of(tmp_path / "out")
    assert list(found["qwen3", 1.0, 42]) == ["pearson", "spearman"]
    assert found["TF-IDF", 1.0, 42]["pearson"] > 0.6


@pytest.mark.parametrize(
    ("mode", "layers"), [("full", "last"), ("linear", "all"), pytest.param("full", "all", marks=pytest.mark.slow)]
)
def test_images(checkpoints, tmp_path, mode, layers):
    arguments = ["--model", checkpoints / "resnet", "--dataset", "toy", "--label_fraction", "0.1", "--mode", mode]
    arguments += [
        "--min_steps",
        "40",
        "--learning_rate",
        "2e-2",
        "--per_device_train_batch_size",
        "16",
        "--seeds",
        "1",
        "--layers",
        layers,
    ]
    assert finetune(*arguments, "--output_dir", tmp_path / "out") == 0
    found = scores_of(tmp_path / "out")
    assert [row for row, _, _ in found] == ["resnet", "random weights", "raw pixels"]
    assert found["raw pixels", 0.1, 42]["accuracy"] > 0.8
    if mode == "full":
        assert found["resnet", 0.1, 42]["accuracy"] > 0.4
        assert found["resnet", 0.1, 42].get("accuracy layer 4", 1) > 0.4
        plain = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "model")
        assert plain.config.id2label == {number: str(number) for number in range(10)}
    of_layers = [f"accuracy layer {number}" for number in range(5)] if layers == "all" else []
    assert list(found["resnet", 0.1, 42]) == ["accuracy", *of_layers]


def test_scores_join_the_card_of_the_encoder(checkpoints, texts, tmp_path):
    import shutil

    from hf_replearn.sharing import report as facts

    model = tmp_path / "mine"
    shutil.copytree(checkpoints / "bert", model)
    facts.Report(
        method=facts.Method(
            name="Masked LM", summary="Hides words.", paper="BERT", arxiv="1810.04805", bibtex="", model_class="a.B"
        ),
        encoder=facts.Encoder(
            library="transformers", pipeline_tag="feature-extraction", architecture="bert", parameters=1, features=32,
            input_size=[32],
        ),
        data=facts.Data(name="prose", unit="row", train=1, test=1, skipped=0, classes=None, held_out="none"),
        training=facts.Training(
            steps=1, examples=1, seconds=1.0, examples_per_second=1.0, final_loss=1.0, hardware="none"
        ),
        command="hf-replearn masked-lm", settings={}, changed=[],
        rows={"Masked LM": {"knn": 0.5}, "random weights": {"knn": 0.4}}, protocols={"knn": "Nearest neighbours."},
    ).save(model)  # fmt: skip
    arguments = ["--model", model, "--dataset", texts, "--dataset_config", "words", "--mode", "linear"]
    assert finetune(*arguments, "--label_fraction", "0.1", "--add_to_card", "--output_dir", tmp_path / "out") == 0
    report = facts.Report.load(model)
    expected = np.mean([scores_of(tmp_path / "out")["Masked LM", 0.1, seed]["accuracy"] for seed in (42, 43, 44)])
    assert report.rows["Masked LM"]["linear_probe_words@10%"] == pytest.approx(expected)
    assert report.rows["Masked LM"]["knn"] == 0.5
    assert set(report.rows) == {"Masked LM", "random weights", "TF-IDF"}
    assert f"{report.protocols['linear_probe_words'][:40]}" in (model / "README.md").read_text()

    arguments += ["--seeds", "2", "--baseline", "false", "--label_fraction", "0.2", "--add_to_card"]
    assert finetune(*arguments, "--output_dir", tmp_path / "other") == 0
    report = facts.Report.load(model)  # of the scores under one name all are measured in one way
    assert [key for key in report.metrics if "words" in key] == ["linear_probe_words@20%"]
    assert "mean of 2 seeds" in report.protocols["linear_probe_words"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{0}/missing/model"], "missing/model"),
        (["--model", "{0}/resnet"], "is an encoder of images, and these are texts"),
        (["--dataset", "toy"], "is an encoder of texts, and these are images"),
        (["--dataset", "{1}/missing/data"], "missing/data"),
        (["--label_column", "sentiment"], "--label_column 'sentiment' does not exist; the columns are text"),
        (["--text_columns", "label"], "besides the label 'label', got 'label'"),
        (["--label_fraction", "0.001"], "too few for 2 classes"),
        (["--label_fraction", "1.5"], "--label_fraction must be"),
        (["--metrics", "pearson"], "--metrics pearson does not fit these labels; choose from accuracy, f1"),
        (["--metrics", "f1"], "--positive_class high or --positive_class low, or --metrics f1_macro"),
        (["--metrics", "f1", "--positive_class", "higher"], "'higher' is no class; the classes are high, low"),
        (["--positive_class", "high"], "is of f1 only, and the metrics are accuracy"),
        (["--max_length", "100"], "--max_length 100 is more than the 32 tokens"),
        (["--layers", "3"], "--layers 3: the layers of this network are 0 to 2"),
        (["--layers", "first"], "--layers must be last, all or the number of a layer, got 'first'"),
        (["--push_to_hub", "--mode", "linear"], "which --mode linear does not have"),
        (["--push_to_hub", "--layers", "1"], "which --layers 1 does not make"),
        (["--seeds", "0"], "--seeds must be"),
        (["--add_to_card"], "no folder with a report.json"),
        (["--push_to_hub"], "HF_HUB_OFFLINE"),
        (["--modell", "x"], "did you mean --model?"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, checkpoints, texts, tmp_path, capsys, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr("transformers.Trainer.train", None)
    given = {"--model": str(checkpoints / "bert"), "--dataset": str(texts), "--output_dir": str(tmp_path / "out")}
    arguments = [argument.format(checkpoints, texts) for argument in arguments]
    rest = [word for flag, value in given.items() if flag not in arguments for word in (flag, value)]
    assert finetune(*rest, *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize("content", [b"", b"[]", b'{"runs": 3}', b'{"runs": [{"row": "a"}]}', b"\xff", b"[" * 100_000])
def test_damaged_scores_are_not_written_over(content, tmp_path):
    from hf_replearn.judging.repeated import read_runs

    (tmp_path / "scores.json").write_bytes(content)
    with pytest.raises(InputError, match=r"scores.json is damaged \(\w+\): move it away to measure anew"):
        read_runs(tmp_path / "scores.json")


def test_evaluate_fine_tunes_with_the_defaults_of_finetune():
    from dataclasses import fields

    from hf_replearn.judging.arguments import Usual

    recipe = importlib.import_module("hf_replearn.recipes.finetune")
    usual = Usual(output_dir="o", learning_rate=1.0, use_cpu=True, dataloader_num_workers=0)
    settings = recipe.FinetuneSettings(model="m", dataset="d", output_dir="o")
    names = [spec.name for spec in fields(Usual)][4:]
    assert len(names) == 7 and all(getattr(usual, name) == getattr(settings, name) for name in names)
