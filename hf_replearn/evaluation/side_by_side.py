"""Several encoders on one labelled dataset: what each is worth, over its layers too, and whether they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hf_replearn.evaluation.checks import check_varied, multi_label
from hf_replearn.evaluation.k_shot import feasible_shots, k_shot
from hf_replearn.evaluation.kept import Kept, key_of
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.label_free import label_free
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.evaluation.sentences import cosine, paired_spearman, sts
from hf_replearn.evaluation.statistics import holm, paired_test
from hf_replearn.evaluation.steps import alone, at_work
from hf_replearn.evaluation.suite import Kind, Protocol, judge, outcomes, suite
from hf_replearn.representation import Features

Layers = Sequence[tuple[Features, Features]]  # of each layer those of train and test, or of first and second sentences


@dataclass
class Judged:
    """What was measured of one encoder.

    scores, properties: {metric: value}; missing: {metric: why there is none}. found: outcomes of the test examples,
    {metric: (draws, M)}, or the similarities of pairs {"sts_spearman": (P,)}. told: classes by the linear probe (M,).
    """

    scores: dict[str, float | None] = field(default_factory=dict)
    properties: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    found: dict[str, Tensor] = field(default_factory=dict)
    told: Tensor | None = None


def check_labels(protocol: Protocol, train: Tensor, test: Tensor, *, names: Sequence[str] | None) -> list[int] | None:
    """The shots that can be had. Raises InputError for labels (N,) or (N, C) that a protocol cannot be computed with,
    before anything is."""
    if protocol.kind == "classes":
        return feasible_shots(train, protocol.shots, names=names)
    if protocol.kind == "several":
        nothing = [Features(torch.zeros(len(labels), 1), labels) for labels in (train, test)]
        multi_label(*nothing, names=names)
    if protocol.kind == "scores":
        check_varied(test)
    return None if protocol.shots is None else list(protocol.shots)


def judge_encoder(
    name: str, layers: Layers, labels: Tensor, *, protocol: Protocol, tuned: dict[str, Tensor], kept: Kept
) -> Judged:
    """Scores and properties of the last layer, every protocol by itself.

    labels: of the test examples, or scores of pairs. tuned: outcomes of fine-tuning, which stand beside the others.
    """
    compute = partial(_judge, name, *layers[-1], labels, protocol=protocol, tuned=tuned)
    key = key_of("judged", *layers[-1], labels, protocol, *(part for item in tuned.items() for part in item))
    tensors, facts = kept.once(key, compute)
    told = tensors.pop("told", None)
    return Judged(found=tensors, told=told, **facts)


def _judge(name: str, first: Features, second: Features, labels: Tensor, *, protocol: Protocol, tuned) -> tuple:
    """Tensors and facts of a `Judged`."""
    seed = protocol.seed
    if protocol.kind == "scores":
        return _similarity(name, first, second, labels, seed=seed)
    properties, unknown = alone(
        partial(label_free, second, seed=seed), metrics=["properties"], what=f"properties of {name}"
    )
    if protocol.kind == "several":
        scores, missing = suite(first, second, shots=protocol.shots, seed=seed, name=name)
        return {}, {"scores": scores, "properties": properties, "missing": missing | unknown}
    result = outcomes(first, second, protocol=protocol, name=name)
    found = result.found | tuned
    scores, ungrouped = judge(second, found, seed=seed, name=name)
    missing = result.missing | ungrouped
    facts = {"scores": scores | dict.fromkeys(missing), "properties": properties, "missing": missing | unknown}
    return found | ({} if result.told is None else {"told": result.told}), facts


def _similarity(name: str, first: Features, second: Features, scores: Tensor, *, seed: int) -> tuple:
    """Of pairs of sentences: Spearman's correlation with people's scores, properties, and the similarities (P,)."""
    alike = (scores >= 0.8 * scores.max()).nonzero().flatten()
    both = Features(torch.cat([first.x, second.x]))
    pairs = (alike, alike + len(first))
    properties, unknown = alone(
        partial(label_free, both, positives=pairs, seed=seed), metrics=["properties"], what=f"properties of {name}"
    )
    measure = partial(sts, first.x, second.x, scores, seed=seed)
    found, missing = alone(measure, metrics=["sts_spearman"], what=f"similarities of {name}")
    facts = {"scores": found | dict.fromkeys(missing), "properties": properties, "missing": missing | unknown}
    return {"sts_spearman": cosine(first.x, second.x)} if found else {}, facts


def over_layers(
    name: str, layers: Layers, *, protocol: Protocol, kept: Kept
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """k-shot with the most labels, kNN and linear probe of every layer: {metric: [value of layer 0, 1, …]}, and why
    there is none of a metric."""

    def compute() -> tuple[dict, dict]:
        found: dict[str, list[float]] = {}
        missing: dict[str, str] = {}
        most, how = max(protocol.shots or (1,)), {"seed": protocol.seed, "device": protocol.device}
        for number, (train, test) in enumerate(layers):
            steps = {
                f"k_shot@{most}": partial(k_shot, train, test, shots=(most,), draws=protocol.draws, **how),
                f"knn@{min(20, len(train))}": partial(knn, train, test, k=20, device=protocol.device),
                "linear": partial(linear_probe, train, test, **how),
            }
            with at_work(f"layer {number} of {name}"):
                for metric, step in steps.items():
                    scores, reasons = alone(step, metrics=[metric])
                    missing |= {f"{key} of layer {number}": reason for key, reason in reasons.items()}
                    found.setdefault(metric, []).append(scores.get(metric))
        whole = {metric: values for metric, values in found.items() if None not in values}
        return {}, {"layers": whole, "missing": missing}

    key = key_of("layers", *(part for pair in layers for part in pair), protocol)
    facts = kept.once(key, compute)[1]
    return facts["layers"], facts["missing"]


def compare(judged: dict[str, Judged], scores: Tensor, *, kind: Kind, seed: int) -> list[dict[str, Any]]:
    """Paired tests of the first row with every other one, of what both have, p corrected for their number (Holm)."""
    (_, first), *others = judged.items()
    tests = []
    for other, second in others:
        for metric in filter(second.found.__contains__, first.found):
            a, b = first.found[metric].numpy(), second.found[metric].numpy()
            test = (
                paired_spearman(a, b, scores.numpy(), seed=seed) if kind == "scores" else paired_test(a, b, seed=seed)
            )
            tests.append({"metric": metric, "other": other} | test)
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p"] = p
    return tests


def nothing_measured(judged: dict[str, Judged]) -> str | None:
    """Why none of these encoders has a single score; None where one has."""
    if any(value is not None for row in judged.values() for value in row.scores.values()):
        return None
    return "; ".join(dict.fromkeys(why for row in judged.values() for why in row.missing.values())) or "no score"
