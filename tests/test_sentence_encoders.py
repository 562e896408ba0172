"""Sentence encoders end to end: every objective runs, others load what it leaves, runs go on bit for bit, cached
gradients and several processes change nothing, bad input is refused in a line."""

import hashlib
import json
import os
import signal

import elsewhere
import forked
import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.evaluation.sentences import sts
from hf_replearn.recipes import export
from hf_replearn.recipes.sentences import SentencesSettings, main
from hf_replearn.representation import extract
from hf_replearn.settings import run
from hf_replearn.training.trainer import PretrainingTrainer

TINY = ["--size", "tiny", "--vocab_size", "400", "--sequence_length", "16", "--use_cpu", "--bf16", "false"]
TINY += ["--per_device_train_batch_size", "8", "--max_steps", "6", "--save_steps", "2", "--logging_steps", "1"]
WORDS = ["a", "the", "sea", "ship", "sails", "wind", "blows", "over", "far", "night", "moon", "gull"]

LOAD = """
import json, sys
from sentence_transformers import SentenceTransformer
for folder in sys.argv[2:]:
    print(json.dumps(SentenceTransformer(folder, device="cpu").encode(json.loads(sys.argv[1])).tolist()))
"""


def start(*arguments: str) -> int:
    """Runs it in this process; returns its exit code."""
    try:
        run(main, SentencesSettings, [*TINY, *arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr("hf_replearn.sharing.results.write_curves", lambda folder: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Texts, pairs of them in a table, and pairs with scores."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 8)).capitalize() + "." for _ in range(150)]
    (root / "text").mkdir()
    (root / "text" / "train.txt").write_text("\n\n".join(" ".join(lines[n : n + 2]) for n in range(0, 100, 2)))
    (root / "text" / "validation.txt").write_text("\n\n".join(lines[100:]))
    partners = [" ".join(reversed(line.lower().rstrip(".").split())) for line in lines]
    Dataset.from_dict({"one": lines[:100], "two": partners[:100]}).to_csv(root / "pairs.csv")
    scored = {"sentence1": lines[:40], "sentence2": partners[1:41], "label": rng.uniform(0, 5, 40).round(2)}
    (root / "scored").mkdir()
    for split in ("train", "validation"):
        Dataset.from_dict(scored).to_parquet(root / "scored" / f"{split}.parquet")
    return root


@pytest.fixture(scope="module")
def simcse(data, tmp_path_factory):
    """A run of SimCSE, whitened, and watched by scored pairs."""
    out = tmp_path_factory.mktemp("runs") / "simcse"
    given = ["--dataset", str(data / "text"), "--whiten", "12", "--sts", str(data / "scored"), "--eval_steps", "3"]
    assert start(*given, "--output_dir", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def others(data, tmp_path_factory):
    """Runs of the other objectives."""
    root = tmp_path_factory.mktemp("others")
    assert start("--objective", "tsdae", "--dataset", str(data / "text"), "--output_dir", str(root / "tsdae")) == 0
    given = ["--objective", "pairs", "--dataset", str(data / "pairs.csv"), "--symmetric", "true"]
    assert start(*given, "--output_dir", str(root / "pairs")) == 0
    return root


def vectors(folder, texts: list[str]) -> torch.Tensor:
    encoder = find_encoder(str(folder), modality="text")
    rows = Dataset.from_dict({"text": texts})
    return extract(encoder.network, rows, preprocess=encoder.preprocess, batch_size=2).x


def digest(out) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def logs(out) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_sentence_transformers_loads_every_run_without_this_package(simcse, others, tmp_path):
    """And gives the vectors that we give, of texts in batches and alone."""
    texts = ["The sea over the ship.", "Wind", "far gull " * 30, "A ship sails over the sea at night."]
    folders = [simcse, others / "tsdae", others / "pairs"]
    printed = elsewhere.run(LOAD, json.dumps(texts), *folders, folder=tmp_path)
    for folder, line in zip(folders, printed.splitlines()[-3:], strict=True):
        theirs = torch.tensor(json.loads(line))
        torch.testing.assert_close(vectors(folder, texts), theirs, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(vectors(folder, texts[1:2]), theirs[1:2], rtol=1e-3, atol=1e-4)
    assert vectors(simcse, texts).shape == (4, 12)
    assert find_encoder(str(simcse), modality="text").pooling == "cls, Dense"
    assert find_encoder(str(others / "pairs"), modality="text").pooling == "mean"


def test_whitened_vectors_of_the_texts_trained_on_are_white(simcse, data):
    lines = [line for text in (data / "text" / "train.txt").read_text().split("\n\n") for line in text.split(". ")]
    x = vectors(simcse, [line.rstrip(".") + "." for line in lines])
    torch.testing.assert_close(x.mean(0), torch.zeros(12), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.T @ x / len(x), torch.eye(12), atol=1e-2, rtol=0)


def test_what_a_run_says(simcse, data, others):
    report = json.loads((simcse / "report.json").read_text())
    rows = [f"{name}{white}" for name in ("SimCSE", "before training") for white in (", whitened", "")]
    assert list(report["rows"]) == [*rows, "common words, the rarer the more"]
    assert set(report["own_task"]["rows"]) >= {"this run", "before training", "chance"}
    assert report["encoder"]["features"] == 12
    watched = [line["sts_spearman"] for line in logs(simcse) if "sts_spearman" in line]
    assert len(watched) == 3  # before, in the middle, at the end
    assert watched[-1] == pytest.approx(report["rows"]["SimCSE"]["sts_spearman_scored"], abs=1e-3)
    scored = Dataset.from_parquet(str(data / "scored" / "validation.parquet"))
    parts = [vectors(simcse, scored[name][:]) for name in ("sentence1", "sentence2")]
    ours = sts(*parts, torch.tensor(scored["label"][:]))["sts_spearman"]
    assert report["rows"]["SimCSE, whitened"]["sts_spearman_scored"] == pytest.approx(ours, abs=1e-3)
    card = (simcse / "README.md").read_text()
    assert "SentenceTransformer(" in card and "SimCSE: Simple Contrastive" in card
    card = (others / "tsdae" / "README.md").read_text()
    assert "No score was measured" in card and "Denoising" in card
    pairs = json.loads((others / "pairs" / "report.json").read_text())
    assert pairs["data"]["unit"] == "text pair" and pairs["own_task"]["told"].startswith("The partner of a text")


@pytest.mark.parametrize("objective", ["simcse", "tsdae"])
def test_killed_and_started_again_it_ends_with_the_same_bits(objective, data, simcse, others, tmp_path):
    """Dropout, what is taken out of a text and the order of the texts are drawn again."""
    given = ["--objective", objective, "--dataset", str(data / "text"), "--output_dir", str(tmp_path / "out")]
    given += ["--whiten", "12"] if objective == "simcse" else []

    def die_at_the_fifth() -> None:
        inner, count = PretrainingTrainer.training_step, 0

        def step(*args, **kwargs):
            nonlocal count
            count += 1
            if count == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*args, **kwargs)

        PretrainingTrainer.training_step = step
        run(main, SentencesSettings, [*TINY, *given])

    first = forked.start(die_at_the_fifth, tmp_path / "log")
    assert first.wait() == [-9], first.printed()[-2000:]
    assert start(*given) == 0
    whole = simcse if objective == "simcse" else others / "tsdae"
    assert digest(tmp_path / "out") == digest(whole)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (whole / "tokenizer.json").read_bytes()


@pytest.mark.usefixtures("unshown")
def test_cached_gradients_and_two_processes_are_one_batch(data, tmp_path):
    """Of 24 pairs in one loss: at once, eight at a time, and in two processes four at a time; without dropout."""
    given = ["--objective", "pairs", "--dataset", str(data / "pairs.csv"), "--dropout", "0", "--max_steps", "3"]
    at_once = ["--per_device_train_batch_size", "24"]
    assert start(*given, *at_once, "--output_dir", str(tmp_path / "once")) == 0
    cached = [*given, "--negatives", "24"]
    assert start(*cached, "--output_dir", str(tmp_path / "cached")) == 0

    def of_two() -> None:
        more = ["--per_device_train_batch_size", "4", "--output_dir", str(tmp_path / "two")]
        run(main, SentencesSettings, [*TINY, *cached, *more])

    two = forked.start(of_two, tmp_path / "log", processes=2)
    assert two.wait() == [0, 0], two.printed()[-3000:]
    losses = {name: [line["loss"] for line in logs(tmp_path / name) if "loss" in line][0] for name in
              ("once", "cached", "two")}  # fmt: skip
    assert losses["cached"] == pytest.approx(losses["once"], rel=1e-4)
    texts = ["The sea over the ship.", "A gull", "Night over the sea."]
    torch.testing.assert_close(
        vectors(tmp_path / "cached", texts), vectors(tmp_path / "once", texts), atol=2e-3, rtol=0
    )
    assert losses["two"] == pytest.approx(losses["once"], rel=0.2)  # of other pairs


def test_an_encoder_that_was_trained_goes_on_and_a_checkpoint_is_exported(simcse, data, tmp_path, capsys):
    """Its own weights are where it starts, without a new tokenizer, and its whitening is left out, with a word; the
    exported checkpoint is the encoder."""
    given = ["--init", str(simcse), "--dataset", str(data / "text"), "--learning_rate", "1e-12"]
    assert start(*given, "--output_dir", str(tmp_path / "next")) == 0
    assert "makes a vector by cls, Dense; here it is trained by cls" in capsys.readouterr().out
    texts = ["The sea over the ship.", "A gull"]
    plain = find_encoder(str(simcse), modality="text", pooling="cls")
    rows = Dataset.from_dict({"text": texts})
    expected = extract(plain.network, rows, preprocess=plain.preprocess).x
    torch.testing.assert_close(vectors(tmp_path / "next", texts), expected, atol=1e-5, rtol=0)
    checkpoint = tmp_path / "next" / "checkpoint-6"
    run(export.main, export.ExportSettings, ["--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "x")])
    assert torch.equal(vectors(tmp_path / "x", texts), vectors(tmp_path / "next", texts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dropout", "0"], "both views of a text are the same vector"),
        (["--where", "label=1"], "--where is of --objective pairs, not of simcse: leave it out"),
        (["--objective", "tsdae", "--temperature", "0.1"], "--temperature is of --objective simcse and pairs"),
        (["--objective", "pairs", "--delete", "0.5"], "--delete is of --objective tsdae"),
        (["--objective", "pairs"], "one column of texts, and pairs are two"),
        (["--text_column", "story"], "--text_column 'story' does not exist"),
        (["--whiten", "5000"], "--whiten 5000: the vectors of 100 texts vary in"),
        (["--whiten", "128", "--dataset", "toy"], "texts vary in 127 directions: say --whiten 127 at most"),
        (["--per_device_train_batch_size", "200"], "a batch of 200 rows is larger than the data, 100"),
        (["--negatives", "12"], "--negatives 12 must be a multiple of 8"),
        (["--init", "nowhere/at/all"], "--init 'nowhere/at/all' is no folder"),
        (["--sts", "DATA/text"], "there are no labelled examples"),
        (["--sts", "toy"], "--sts toy: give pairs of sentences with scores"),
    ],
)
def test_what_is_refused_in_one_line(arguments, message, data, tmp_path, capsys):
    given = [argument.replace("DATA", str(data)) for argument in arguments]
    usual = [] if "--dataset" in given else ["--dataset", str(data / "text")]
    assert start(*usual, *given, "--output_dir", str(tmp_path / "out")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_other_kinds_of_encoders_to_start_from_are_refused(data, tmp_path, capsys):
    from transformers import GPT2Config, GPT2Model, ViTConfig, ViTModel

    from hf_replearn.data.tokenization import train_tokenizer
    from hf_replearn.encoders.words import WordVectors, learn_words, words_of, write_words

    known = learn_words(["the sea the ship"], lowercase=True, min_count=1, most=None)
    table = np.zeros((len(words_of(known)), 4), dtype=np.float32)
    write_words(WordVectors(words_of(known), table, known), tmp_path / "words", recipe="word2vec")
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**small, image_size=8, patch_size=4)).save_pretrained(tmp_path / "vit")
    tokenizer = train_tokenizer("gpt", ["the sea the ship"], vocab_size=300)
    GPT2Model(GPT2Config(vocab_size=320, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path / "gpt")
    tokenizer.save_pretrained(tmp_path / "gpt")
    told = {"words": "holds vectors of words", "vit": "no encoder of texts", "gpt": "say --pooling mean"}
    for name, message in told.items():
        given = ["--init", str(tmp_path / name), "--dataset", str(data / "text"), "--output_dir", str(tmp_path / "out")]
        assert start(*given) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
