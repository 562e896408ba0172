"""Every protocol by itself: what cannot be computed, what is kept, and what is said meanwhile."""

import time

import pytest
import torch

from hf_replearn.errors import InputError, Preempted
from hf_replearn.evaluation.kept import Kept, key_of
from hf_replearn.evaluation.steps import BEAT, MOMENT, alone, at_work
from hf_replearn.evaluation.suite import Protocol, judge, outcomes, suite
from hf_replearn.representation import Features

HOW = Protocol(shots=[1, 2], draws=3, neighbours=(20,), queries=100)


def examples(n=40, classes=4, seed=0) -> Features:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return Features(torch.eye(classes, 6)[labels] + 0.3 * torch.randn(n, 6, generator=rng), labels)


def test_a_failure_is_a_reason_and_no_end():
    def fails(error):
        def compute():
            raise error

        return compute

    assert alone(fails(InputError("too few")), metrics=["a", "b"]) == ({}, {"a": "too few", "b": "too few"})
    singular = torch.linalg.LinAlgError("singular")
    assert alone(fails(singular), metrics=["a"])[1]["a"].endswith("singular")
    assert alone(lambda: {"a": float("nan"), "b": 0.5}, metrics=["a", "b"]) == ({"b": 0.5}, {"a": "it is not a number"})
    outcome = torch.tensor([1.0, torch.inf])
    assert alone(lambda: {"a": outcome}, metrics=["a"])[0] == {}
    for stop in (Preempted("told to stop"), KeyboardInterrupt()):  # a run that is told to stop does
        with pytest.raises(type(stop)):
            alone(fails(stop), metrics=["a"])


def test_a_long_step_gives_signs_of_life(capsys, monkeypatch):
    assert MOMENT < BEAT < 5
    for name in ("MOMENT", "BEAT"):
        monkeypatch.setattr(f"hf_replearn.evaluation.steps.{name}", 0.05)
    with at_work("counting"):
        time.sleep(0.2)
    printed = capsys.readouterr().out
    assert printed.startswith("counting …") and printed.count("…") >= 3 and printed.endswith(" s\n")
    with at_work(None), at_work("nothing of note"):
        pass
    assert capsys.readouterr().out == ""


def test_a_test_set_with_one_example_a_class_has_the_scores_that_can_be_had():
    train, test = examples(), examples(4, seed=1)
    found = outcomes(train, test, protocol=HOW)
    assert set(found.found) == {"k_shot@1", "k_shot@2", "knn@20", "linear"}
    assert {found.missing[name] for name in ("recall@1", "recall@5", "map")} == {
        "every class has a single example: none can find another of its class"
    }
    scores, missing = judge(test, found.found)
    assert set(missing) == {"nmi", "ari", "matched", "silhouette"} and "4 examples of 4 classes" in missing["nmi"]
    assert all(value is None or 0 <= value <= 1 for value in scores.values())


def test_recall_at_k_of_no_more_than_k_others_is_no_score():
    found = outcomes(examples(), examples(6, classes=2, seed=1), protocol=HOW)
    assert "recall@1" in found.found and "map" in found.found
    assert found.missing == {"recall@5": "all 5 other test examples are among so many nearest"}


def test_features_that_are_not_finite_leave_dashes_and_no_class_0():
    train, test = examples(), examples(seed=1)
    broken = Features(test.x.clone(), test.labels)
    broken.x[3, 2] = float("nan")
    found = outcomes(train, broken, protocol=HOW)
    assert found.found == {} and found.told is None
    assert all(
        "1 of 40 test features are NaN or infinite, first in row 3" in reason for reason in found.missing.values()
    )
    assert set(judge(broken, {})[1]) == {"nmi", "ari", "matched", "silhouette"}
    scores, missing = suite(train, broken, shots=[1], draws=3)
    assert scores == dict.fromkeys(["k_shot@1", "knn@20", "knn@40", "linear"]) and set(missing) == set(scores)
    huge = Features(1e25 * test.x, test.labels)  # whose squares single precision cannot hold
    assert all("above 1e+17" in reason for reason in outcomes(train, huge, protocol=HOW).missing.values())


def test_more_shots_than_a_class_has_leave_the_other_protocols():
    scores, missing = suite(examples(), examples(seed=1), shots=[1, 64], draws=3)
    assert set(missing) == {"k_shot@1", "k_shot@64"} and "class 0 has 10 of the 40" in missing["k_shot@64"]
    assert scores["k_shot@64"] is None and scores["linear"] > 0.5


def test_what_is_kept_is_found_again_and_of_other_features_it_is_not(tmp_path):
    kept, calls = Kept(tmp_path / "kept"), []

    def compute():
        calls.append(1)
        return {"right": torch.tensor([1.0, 0.0])}, {"missing": {"map": "why"}}

    train = examples()
    other = Features(train.x + 1e-6, train.labels)
    relabelled = Features(train.x, train.labels.flip(0))
    keys = [key_of(features, extra) for features in (train, other, relabelled) for extra in (1, 2)]
    assert len(set(keys)) == 6 and key_of(examples(), 1) == keys[0]
    for _ in range(2):
        tensors, facts = kept.once(keys[0], compute)
        assert tensors["right"].tolist() == [1, 0] and facts == {"missing": {"map": "why"}}
    assert len(calls) == 1
    [path] = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:20])  # cut short: computed again
    assert kept.once(keys[0], compute)[0]["right"].tolist() == [1, 0] and len(calls) == 2
    kept.once(keys[1], compute)
    assert len(calls) == 3
    kept.forget()
    assert not (tmp_path / "kept").exists()
