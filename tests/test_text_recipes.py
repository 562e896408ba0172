"""Masked and causal language modelling: every architecture, every form of the run, bad input."""

import importlib
import json
import re
import shutil
from functools import partial
from pathlib import Path

import datasets
import elsewhere
import forked
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from hf_replearn.settings import run

TINY = ["--dataset", "toy", "--size", "tiny", "--vocab_size", "1000", "--sequence_length", "32", "--use_cpu"]
TINY += ["--per_device_train_batch_size", "8", "--max_steps", "3", "--eval_rows", "16", "--bf16", "false"]
SETTINGS = {"masked_lm": "MaskedLMSettings", "causal_lm": "CausalLMSettings"}
ARCHITECTURES = {"bert": "masked_lm", "roberta": "masked_lm", "modernbert": "masked_lm"}
ARCHITECTURES |= {"gpt2": "causal_lm", "qwen3": "causal_lm"}


def recipe(name: str, *arguments: str) -> int:
    """Runs the recipe in this process; returns its exit code."""
    module = importlib.import_module(f"hf_replearn.recipes.{name}")
    try:
        usual = TINY[2:] if "--dataset" in arguments else TINY  # given twice, datasets are one corpus
        run(module.main, getattr(module, SETTINGS[name]), [*usual, *arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """One native model of every architecture."""
    folder = tmp_path_factory.mktemp("models")
    for architecture, name in ARCHITECTURES.items():
        more = ["--samples", "A list, a set", "The value"] if architecture == "gpt2" else []
        assert recipe(name, "--architecture", architecture, *more, "--output_dir", str(folder / architecture)) == 0
    return folder


def logs(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


PLAIN = """
import sys
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, pipeline
folder, encoders, decoders = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
for name in encoders:
    path = f"{folder}/{name}"
    fill = pipeline("fill-mask", path)
    guesses = fill(f"The value of the {fill.tokenizer.mask_token} is an object.")
    assert len(guesses) == 5 and sum(guess["score"] for guess in guesses) <= 1
    features = pipeline("feature-extraction", path)("A text.")
    assert len(features[0][0]) == 128
for name in decoders:
    path = f"{folder}/{name}"
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    made = model.generate(**tokenizer("The value", return_tensors="pt", return_token_type_ids=False), max_new_tokens=5)
    assert made.shape[1] > 2
    assert "generated_text" in pipeline("text-generation", path)("The value", max_new_tokens=3)[0]
for name in encoders + decoders:
    info = AutoModel.from_pretrained(f"{folder}/{name}", output_loading_info=True)[1]
    assert not [key for key in info["missing_keys"] if "pooler" not in key], info
    assert AutoModel.from_pretrained(f"{folder}/{name}").config.vocab_size % 64 == 0
"""


def test_every_architecture_loads_in_plain_transformers(trained):
    encoders = ",".join(name for name, method in ARCHITECTURES.items() if method == "masked_lm")
    decoders = ",".join(name for name, method in ARCHITECTURES.items() if method == "causal_lm")
    elsewhere.run(PLAIN, trained, encoders, decoders, folder=trained)


def test_what_a_run_leaves(trained):
    files = {path.name for path in (trained / "bert").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "report.json", "log.jsonl"} <= files
    report = json.loads((trained / "bert" / "report.json").read_text())
    assert report["training"]["held_out"]["this model"] > 0
    assert report["training"]["tokens"] == pytest.approx(3 * 8 * 32, rel=0.05)
    assert "[MASK]" in report["samples"] and all(gap["guesses"] and gap["hidden"] for gap in report["said"])
    said = json.loads((trained / "gpt2" / "report.json").read_text())["samples"].splitlines()
    assert said[0].startswith("The beginning of a text, and after")
    assert [line.partition(" | ")[0] for line in said[1:]] == ["A list, a set", "The value"]
    assert "\ufffd" not in report["samples"] + "".join(said)
    log = logs(trained / "gpt2")
    assert {"loss", "perplexity", "tokens", "tokens_per_second"} <= log[0].keys()
    assert any("held_out_perplexity" in line for line in log)
    card = (trained / "gpt2" / "README.md").read_text()
    assert 'pipeline("text-generation"' in card and "| this model |" in card


@pytest.mark.parametrize(
    ("name", "architecture", "more"),
    [
        ("masked_lm", "roberta", ["--packing", "sentences", "--whole_words", "--mask_rate", "0.3"]),
        ("masked_lm", "modernbert", ["--packing", "documents", "--masking", "fixed", "--schedule", "linear"]),
        (
            "masked_lm",
            "bert",
            ["--short_rows", "0.5", "--optimizer", "adamw", "--schedule", "cosine", "--zero_init", "false"],
        ),
        ("causal_lm", "qwen3", ["--packing", "documents", "--dropout", "0.1"]),
        ("causal_lm", "gpt2", ["--streaming", "--short_rows", "0.5"]),
        ("masked_lm", "bert", ["--streaming", "--packing", "documents"]),
    ],
)
@pytest.mark.usefixtures("unshown")
def test_the_forms_of_a_run(name, architecture, more, tmp_path):
    folder = tmp_path / "text"
    if "--streaming" in more:
        texts = {"text": [f"Sentence {i} of the text. It says {i * i}." for i in range(3000)]}
        folder.mkdir()
        datasets.Dataset.from_dict(texts).to_json(folder / "train.jsonl")
        more = [*more, "--dataset", str(folder)]
    assert recipe(name, "--architecture", architecture, "--output_dir", str(tmp_path / "out"), *more) == 0
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.usefixtures("unshown")
def test_pretraining_lowers_the_loss_below_that_of_frequencies(tmp_path):
    more = ["--max_steps", "60", "--per_device_train_batch_size", "16", "--sequence_length", "64", "--eval_rows", "100"]
    assert recipe("causal_lm", "--output_dir", str(tmp_path), *more) == 0
    losses = json.loads((tmp_path / "report.json").read_text())["training"]["held_out"]
    assert losses["this model"] < losses["token frequencies"] - 0.3


@pytest.mark.usefixtures("unshown")
def test_a_time_budget_ends_the_run_and_its_schedule(tmp_path, capfd):
    more = ["--max_steps", "-1", "--max_minutes", "0.1", "--logging_steps", "1", "--output_dir", str(tmp_path)]
    assert recipe("masked_lm", *more) == 0
    log = logs(tmp_path)
    assert 6 <= max(line.get("seconds", 0) for line in log) < 12
    rates = [line["learning_rate"] for line in log if "learning_rate" in line]
    assert rates[-1] < 0.2 * max(rates)
    steps = log[-1]["step"]
    shown = capfd.readouterr().err
    assert re.search(rf"100%\|[█#]+\|.*, step {steps}\b", shown) and "1000000000" not in shown
    assert recipe("masked_lm", *more) == 0  # finished: nothing more is trained
    assert logs(tmp_path)[-1]["step"] == steps


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("masked_lm", "float32"),
        pytest.param("causal_lm", "float32", marks=pytest.mark.slow),
        ("causal_lm", "bfloat16"),
    ],
)
@pytest.mark.usefixtures("unshown")
def test_an_interrupted_run_goes_on_to_the_same_bits(name, weights, tmp_path):
    from hf_replearn.training.trainer import PretrainingTrainer

    more = ["--max_steps", "6", "--save_steps", "2", "--dropout", "0.1", "--weights", weights]
    more += ["--bf16", str(weights == "bfloat16").lower()]
    assert recipe(name, "--output_dir", str(tmp_path / "whole"), *more) == 0
    step = PretrainingTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise RuntimeError("killed")
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(PretrainingTrainer, "training_step", interrupted)
        recipe(name, "--output_dir", str(tmp_path / "parts"), *more)
    assert recipe(name, "--output_dir", str(tmp_path / "parts"), *more) == 0
    files = {folder: tmp_path / folder / "model.safetensors" for folder in ("whole", "parts")}
    whole, parts = map(load_file, files.values())
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert {str(value.dtype) for value in whole.values()} == {f"torch.{weights}"}
    if weights == "bfloat16":
        state = [torch.load(tmp_path / folder / "checkpoint-6" / "optimizer.pt")["state"] for folder in files]
        assert len(state[0]) == len(state[1]) > 10
        masters = [[kept["master"] for kept in some.values()] for some in state]
        assert all(map(torch.equal, *masters)) and {master.dtype for master in masters[0]} == {torch.float32}
        files["whole"].unlink()
        assert recipe(name, "--output_dir", str(tmp_path / "whole"), *more) == 0  # finished: only saved again
        assert files["whole"].read_bytes() == files["parts"].read_bytes()
        config = json.loads((tmp_path / "whole" / "config.json").read_text())
        assert config["dtype"] == "bfloat16"


def test_bfloat16_weights_that_cannot_be(tmp_path, capsys, monkeypatch):
    asked = ["--weights", "bfloat16", "--output_dir", str(tmp_path / "out")]
    assert recipe("masked_lm", *asked, "--bf16", "false") == 2
    assert "--bf16 false forbids it: leave one out" in capsys.readouterr().err
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert recipe("masked_lm", *asked, "--bf16", "true") == 2
    assert "--weights bfloat16 is not for FSDP" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["masked_lm", pytest.param("causal_lm", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("unshown")
def test_two_processes_and_accumulation_equal_one_big_batch(name, tmp_path):
    """Documents of different lengths, so that the number of predictions differs from process to process."""
    more = ["--packing", "sentences", "--optimizer", "adamw", "--learning_rate", "1e-3", "--output_dir"]
    big = ["--per_device_train_batch_size", "16"]
    assert recipe(name, *more, str(tmp_path / "one"), *big) == 0
    assert recipe(name, *more, str(tmp_path / "accumulated"), "--gradient_accumulation_steps", "2") == 0
    module = importlib.import_module(f"hf_replearn.recipes.{name}")
    given = [*TINY, *more, str(tmp_path / "two")]
    two = partial(run, module.main, getattr(module, SETTINGS[name]), given)
    started = forked.start(two, tmp_path / "log", processes=2)
    assert started.wait() == [0, 0], started.printed()[-3000:]
    one = load_file(tmp_path / "one" / "model.safetensors")
    for other in ("accumulated", "two"):
        weights = load_file(tmp_path / other / "model.safetensors")
        for key in one:
            torch.testing.assert_close(
                # a twentieth of one of AdamW's steps, which makes much of the rounding of small gradients
                weights[key],
                one[key],
                rtol=0,
                atol=5e-5,
                msg=lambda m, k=key, o=other: f"{o} {k} {m}",
            )
        last = [logs(tmp_path / folder)[-2].get("held_out_loss") for folder in ("one", other)]
        assert last[0] == pytest.approx(last[1], abs=1e-4)


@pytest.mark.usefixtures("unshown")
def test_going_on_from_somebodys_checkpoint(trained, tmp_path):
    assert recipe("masked_lm", "--init", str(trained / "roberta"), "--output_dir", str(tmp_path / "a")) == 0
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["encoder"]["architecture"] == "RobertaForMaskedLM"
    assert report["encoder"]["initialized_from"] == "roberta"
    assert recipe("causal_lm", "--init", str(trained / "qwen3"), "--output_dir", str(tmp_path / "b")) == 0


@pytest.fixture
def corpora(trained, tmp_path):
    def save(name: str, **columns):
        (tmp_path / name).mkdir()
        datasets.Dataset.from_dict(columns).to_parquet(tmp_path / name / "train.parquet")

    (tmp_path / "nothing").mkdir()
    save("empty", text=[""] * 20)
    save("blank", text=["  \n"] * 20)
    save("lists", text=[["a", "b"]] * 20)
    save("two", title=["a title"] * 20, body=["a body"] * 20)
    save("numbers", value=[1, 2, 3])
    save("short", text=["A few words only."] * 4)
    save("russian", text=["Совсем другой язык и другое письмо."] * 200)
    save("chinese", text=["人人生而自由在尊严和权利上一律平等他们赋有理性和良心"] * 200)
    (tmp_path / "headless").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(trained / "bert" / name, tmp_path / "headless")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    for name, model in {
        "clip": transformers.CLIPModel(transformers.CLIPConfig(text_config=small, vision_config=small)),
        "gemma2": transformers.Gemma2ForCausalLM(
            transformers.Gemma2Config(**small, vocab_size=2048, num_key_value_heads=1, head_dim=16)
        ),
    }.items():
        model.save_pretrained(tmp_path / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(trained / ("bert" if name == "clip" else "gpt2") / file, tmp_path / name)
    weights = load_file(trained / "bert" / "model.safetensors")
    for name, change in {
        "half": lambda key, value: None if ".layer.1." in key else value,
        "nan": lambda key, value: value * float("nan") if ".layer.1.output.dense.bias" in key else value,
    }.items():
        shutil.copytree(tmp_path / "headless", tmp_path / name)
        changed = {key: change(key, value) for key, value in weights.items()}
        kept = {key: value.contiguous() for key, value in changed.items() if value is not None}
        save_file(kept, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


BAD = [
    ("masked_lm", ["--dataset", "{}/nowhere/at/all"], "there is no folder or file"),
    ("masked_lm", ["--dataset", "{}/nothing"], "there is no text in"),
    ("masked_lm", ["--dataset", "{}/empty"], "has no text"),
    ("causal_lm", ["--dataset", "{}/blank"], "has no text"),
    ("masked_lm", ["--dataset", "{}/lists"], "column 'text' holds List, not one text a row"),
    ("masked_lm", ["--dataset", "{}/lists", "--text_column", "text"], "is List, not one text a row"),
    ("masked_lm", ["--dataset", "{}/two"], "several columns hold text: title, body; choose with --text_column"),
    ("masked_lm", ["--dataset", "{}/two", "--text_column", "head"], "does not exist; the columns are title, body"),
    ("masked_lm", ["--dataset", "{}/numbers"], "no column holds text: value"),
    ("masked_lm", ["--short_rows", "0.5", "--sequence_length", "8"], "has no room for text"),
    ("masked_lm", ["--dataset", "{}/short"], "a batch of 8 rows is larger than the data"),
    ("masked_lm", ["--tokenizer", "{models}/gpt2"], "needs a tokenizer with a mask token"),
    ("masked_lm", ["--tokenizer", "{}/nothing"], "holds no tokenizer"),
    ("masked_lm", ["--init", "{models}/bert", "--tokenizer", "{models}/roberta"], "has another vocabulary"),
    ("masked_lm", ["--init", "{models}/nowhere"], "--init"),
    ("masked_lm", ["--init", "{models}/bert", "--sequence_length", "600"], "is longer than --init"),
    ("causal_lm", ["--init", "{models}/bert"], "needs a tokenizer with an end-of-text token"),
    ("causal_lm", ["--init", "{models}/roberta"], "roberta sees later tokens, its logits are not one projection"),
    ("causal_lm", ["--init", "{}/gemma2"], "or it has no fused attention (sdpa); supported are"),
    ("masked_lm", ["--init", "{}/clip"], "is a clip, of which transformers has no masked language model"),
    ("masked_lm", ["--init", "{models}/gpt2", "--tokenizer", "{models}/gpt2"], "needs a tokenizer with a mask token"),
    ("masked_lm", ["--architecture", "gpt2"], "--architecture must be one of bert, roberta, modernbert"),
    ("causal_lm", ["--size", "huge"], "--size must be one of"),
    ("causal_lm", ["--architecture", "qwen3", "--streaming", "--max_steps", "-1"], "--streaming needs --max_steps"),
    ("causal_lm", ["--max_step", "3"], "did you mean --max_steps?"),
    ("masked_lm", ["--push_to_hub"], "HF_HUB_OFFLINE"),
    ("masked_lm", ["--dataset", "{}/russian", "--tokenizer", "{models}/bert"], "% of the characters of the documents"),
    ("masked_lm", ["--short_rows", "0.5", "--sequence_length", "30"], "is not a multiple of 4"),
    (
        "masked_lm",
        ["--dataset", "{}/chinese", "--architecture", "roberta", "--whole_words", "--vocab_size", "300"],
        "--whole_words would hide",
    ),
    ("causal_lm", ["--dataset", "{}/short", "--streaming"], "no text to train on, besides the documents"),
    ("masked_lm", ["--init", "{models}/bert/checkpoint-3"], "hf-replearn export --checkpoint"),
    ("masked_lm", ["--init", "{}/headless"], "--init"),
    ("masked_lm", ["--init", "{}/half"], "lacks"),
    ("masked_lm", ["--init", "{}/nan"], "weights are not finite"),
    ("masked_lm", ["--sequence_length", "131072", "--per_device_train_batch_size", "1000000"], "GB of memory at least"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(name, arguments, message, corpora, trained, capsys, monkeypatch):
    """Before anything is trained."""
    monkeypatch.setattr("hf_replearn.training.trainer.PretrainingTrainer.training_step", None)
    arguments = [argument.format(corpora, models=trained) for argument in arguments]
    assert recipe(name, "--output_dir", str(corpora / "out"), *arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_a_tokenizer_larger_than_the_model_is_an_error(trained, tmp_path, capsys):
    from transformers import AutoTokenizer

    shutil.copytree(trained / "bert", tmp_path / "bert")
    tokenizer = AutoTokenizer.from_pretrained(trained / "bert")
    tokenizer.add_tokens([f"word{i}" for i in range(200)])
    tokenizer.save_pretrained(tmp_path / "bert")
    assert recipe("masked_lm", "--init", str(tmp_path / "bert"), "--output_dir", str(tmp_path / "out")) == 2
    assert "but its tokenizer has" in capsys.readouterr().err


def test_null_texts_that_are_held_out_and_what_is_only_for_show_do_not_cost_the_model(tmp_path, capsys, monkeypatch):
    """Samples, page and card each fail with a word; weights and report are there, and the run ends well."""
    texts = ["alpha beta gamma delta " * 10, "epsilon zeta eta theta " * 10, None, "iota kappa " * 20, ""] * 60
    (tmp_path / "data").mkdir()
    for split, rows in {"train": texts, "validation": texts[:30]}.items():
        datasets.Dataset.from_dict({"text": rows}).to_parquet(tmp_path / "data" / f"{split}.parquet")

    def fails(*args, **kwargs):
        raise ZeroDivisionError("a fault of ours")

    out = tmp_path / "out"
    arguments = ["--dataset", str(tmp_path / "data"), "--vocab_size", "300", "--output_dir", str(out)]
    assert recipe("masked_lm", *arguments) == 0
    assert "[MASK]" in json.loads((out / "report.json").read_text())["samples"]
    for name in ("evaluation.samples.fill_gaps", "pretraining.texts.frequency_loss"):
        monkeypatch.setattr(f"hf_replearn.{name}", fails)
    for name in ("write_page", "write_card"):
        monkeypatch.setattr(f"hf_replearn.sharing.results.{name}", fails)
    arguments[-1] = str(tmp_path / "shown")
    assert recipe("masked_lm", *arguments) == 0
    said = capsys.readouterr().err
    for what in ("samples", "the loss of token frequencies", "the page (report.html)", "the card (README.md)"):
        assert f"warning: {what} could not be made: ZeroDivisionError: a fault of ours" in said
    report = json.loads((tmp_path / "shown" / "report.json").read_text())
    assert report["samples"].startswith("samples could not be made") and report["training"]["held_out"]["this model"]
    weights = [load_file(folder / "model.safetensors") for folder in (out, tmp_path / "shown")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_tokenizer_with_gaps_trains_and_its_model_has_a_place_for_every_number(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names["mask_token"] = "[MASK]"
    numbers = {token: number for number, token in enumerate(names.values())} | {f"w{i}": 90 + 7 * i for i in range(30)}
    backend = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(tmp_path / "tokenizer")
    texts = [" ".join(f"w{i * j % 30}" for j in range(30)) for i in range(200)]
    datasets.Dataset.from_dict({"text": texts}).to_parquet(tmp_path / "words.parquet")
    arguments = ["--dataset", str(tmp_path / "words.parquet"), "--tokenizer", str(tmp_path / "tokenizer")]
    assert recipe("masked_lm", *arguments, "--output_dir", str(tmp_path / "out")) == 0
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "out").config.vocab_size == 320  # 90 + 7 * 29 + 1 = 294
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["model_max_length"] == 32


def test_positions_of_a_checkpoint_are_counted_as_it_counts_them(trained, tmp_path):
    """KLUE's RoBERTa: its configuration pads with 1, its tokenizer with 0. Training must not move the positions."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = tmp_path / "roberta"
    shutil.copytree(trained / "roberta", folder, ignore=shutil.ignore_patterns("checkpoint-*"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["pad_token_id"] == tokenizer.pad_token_id == 1
    tokenizer.pad_token = tokenizer.unk_token
    assert tokenizer.pad_token_id == 3
    tokenizer.save_pretrained(folder)
    still = ["--learning_rate", "0", "--muon_learning_rate", "0", "--weight_decay", "0", "--max_steps", "1"]
    assert recipe("masked_lm", "--init", str(folder), *still, "--output_dir", str(tmp_path / "out")) == 0
    text = tokenizer("A text of some words.", return_tensors="pt")
    before, after = (AutoModelForMaskedLM.from_pretrained(place).eval() for place in (folder, tmp_path / "out"))
    with torch.no_grad():
        assert torch.equal(before(**text).logits, after(**text).logits)


@pytest.mark.usefixtures("unshown")
def test_a_run_that_goes_on_keeps_its_tokenizer_whatever_became_of_the_cache(tmp_path, monkeypatch):
    """Trained twice, WordPiece breaks ties in another way: the rows would be others."""
    out = ["--max_steps", "2", "--save_steps", "1", "--output_dir", str(tmp_path / "out")]
    assert recipe("masked_lm", *out) == 0
    vocabulary = (tmp_path / "out" / "tokenizer.json").read_text()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "another")
    assert recipe("masked_lm", *out) == 0
    assert (tmp_path / "out" / "tokenizer.json").read_text() == vocabulary


def test_settings_that_decide_nothing_are_named(trained, tmp_path, capsys):
    more = ["--dropout", "0.1", "--lowercase", "--output_dir", str(tmp_path / "out")]
    assert recipe("causal_lm", "--init", str(trained / "gpt2"), *more) == 0
    said = capsys.readouterr().out
    [unused] = re.findall("not used: (.*), as the checkpoint of --init has its own", said)
    assert set(unused.split(", ")) == {"--size", "--dropout", "--vocab_size", "--lowercase"}
    assert re.search(r"train: [\d,]+ rows of 32 tokens, .* of [\d,]+ documents; held out: 16 rows", said)


def test_exported_tokenizers_say_what_their_models_read(trained):
    """Learned positions are as many as were trained, rotary ones as the configuration has; longer texts are cut."""
    limits = {name: json.loads((trained / name / "tokenizer_config.json").read_text()) for name in ARCHITECTURES}
    found = {name: config["model_max_length"] for name, config in limits.items()}
    assert found == {"bert": 32, "roberta": 32, "gpt2": 32, "modernbert": 8192, "qwen3": 8192}
