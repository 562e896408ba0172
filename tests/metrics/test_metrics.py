"""Every metric against scikit-learn or scipy: by itself, under evaluate.combine, and loaded from its file offline."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sklearn

import hf_replearn.metrics
from hf_replearn.metrics import GLUE, METRICS, QUESTIONS

FOLDER = Path(hf_replearn.metrics.__file__).parent
RNG = np.random.default_rng(0)
TRUE, GUESSED = RNG.integers(0, 2, 200), RNG.integers(0, 2, 200)
NUMBERS, GUESSED_NUMBERS = RNG.normal(size=200), RNG.normal(size=200).round(1)  # rounded: some are equal
BY_PEER = {
    "accuracy": (TRUE, GUESSED, sklearn.accuracy_score(TRUE, GUESSED)),
    "f1": (TRUE, GUESSED, sklearn.f1_score(TRUE, GUESSED)),
    "f1_macro": (TRUE, GUESSED, sklearn.f1_score(TRUE, GUESSED, average="macro")),
    "matthews_correlation": (TRUE, GUESSED, sklearn.matthews_corrcoef(TRUE, GUESSED)),
    "pearson": (NUMBERS, GUESSED_NUMBERS, pearsonr(NUMBERS, GUESSED_NUMBERS).statistic),
    "spearman": (NUMBERS, GUESSED_NUMBERS, spearmanr(NUMBERS, GUESSED_NUMBERS).statistic),
}


@pytest.mark.parametrize("name", [name for name in METRICS if name not in QUESTIONS])
def test_equal_to_its_peer(name):
    true, guessed, value = BY_PEER[name]
    assert METRICS[name]().compute(predictions=guessed, references=true) == {name: pytest.approx(value, abs=1e-12)}


def test_loaded_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path))
    for name, (true, guessed, value) in BY_PEER.items():
        file, macro, _ = name.partition("_macro")
        metric = evaluate.load(str(FOLDER / f"{file}.py"), "macro" if macro else None, cache_dir=str(tmp_path))
        assert metric.compute(predictions=guessed, references=true) == {name: pytest.approx(value, abs=1e-12)}
    metric = evaluate.load(str(FOLDER / "squad.py"), "v2", cache_dir=str(tmp_path))
    right = [{"id": "x", "answers": {"text": [], "answer_start": []}}]
    found = metric.compute(predictions=[{"id": "x", "prediction_text": ""}], references=right)
    assert found == {"exact_match": 1.0, "f1": 1.0, "unanswerable": 1.0}


def test_combined():
    names = ["accuracy", "f1", "f1_macro", "matthews_correlation"]
    together = evaluate.combine([METRICS[name]() for name in names]).compute(predictions=GUESSED, references=TRUE)
    assert together == {name: pytest.approx(BY_PEER[name][2], abs=1e-12) for name in names}
    together = evaluate.combine([METRICS["pearson"](), METRICS["spearman"]()])
    assert list(together.compute(predictions=GUESSED_NUMBERS, references=NUMBERS)) == ["pearson", "spearman"]


def test_added_batch_by_batch():
    metric = METRICS["accuracy"]()
    for start in range(0, 200, 64):
        metric.add_batch(predictions=GUESSED[start : start + 64], references=TRUE[start : start + 64])
    assert metric.compute()["accuracy"] == pytest.approx(BY_PEER["accuracy"][2], abs=1e-12)


def test_constant_predictions():
    """No correlation exists; Matthews' is 0 by definition, and F1 of a class that nobody names as well."""
    zeros = np.zeros(200, int)
    assert METRICS["matthews_correlation"]().compute(predictions=zeros, references=TRUE)["matthews_correlation"] == 0
    assert METRICS["f1"]().compute(predictions=zeros, references=zeros)["f1"] == 0
    assert np.isnan(METRICS["pearson"]().compute(predictions=zeros, references=NUMBERS)["pearson"])


def test_every_task_of_glue_has_metrics_that_exist():
    assert len(GLUE) == 9
    assert {name for names in GLUE.values() for name in names} <= METRICS.keys()


def test_an_unknown_configuration():
    with pytest.raises(ValueError, match="binary or macro"):
        METRICS["f1"]("weighted")
