"""What is asked of a representation, each by one number: few labels, clusters, interpolation, disentanglement,
hierarchy, sparsity (Bengio, Courville & Vincent 2013, section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FEW = 8  # labels a class, or what was measured nearest to it
PAIRS, NEAREST = 256, 1000  # images to be mixed, and training images that a mixture is compared with
LINEAR = "any linear code, such as PCA"
Numbers = Mapping[str, float | None]
ONE_CLASS = "it is of data with one class an example"


@dataclass
class Found:
    """What was found of encoders and baselines: row -> {metric: value}; of layers, {metric: [value of layer 0, 1, …]}.

    interpolation: row -> `gain_of_codes`. disentanglement: row -> mutual information gap on images of known factors.
    """

    rows: Mapping[str, Numbers]
    properties: Mapping[str, Numbers] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    interpolation: Numbers = field(default_factory=dict)
    disentanglement: Numbers = field(default_factory=dict)


def desiderata(found: Found, *, asked: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each thing that is asked: {"asked", "measure", "values": {row of `asked`: text}, "baseline": the best
    of all other rows, in words, "why": how to have it, where all have a dash}."""
    known = [metric for scores in found.rows.values() for metric in scores]
    shots = [metric for metric in known if metric.startswith("k_shot@") and metric.split("@")[1].isdigit()]
    few = min(shots, key=lambda metric: abs(math.log(int(metric.split("@")[1]) / FEW)), default="k_shot@k")
    count = few.split("@")[1]
    labels = f"{count} label{'s' * (count != '1')} a class"

    def of(rows: Mapping[str, Numbers], metric: str) -> Numbers:
        return {row: scores.get(metric) for row, scores in rows.items()}

    told = any(value is not None for value in found.interpolation.values())
    between = {**found.interpolation, LINEAR: 0.0} if told else {}
    stages, best_layers = best_stages(found.layers)
    measured = {
        "few labels": (f"accuracy with {labels}", of(found.rows, few), ONE_CLASS),
        "clusters": ("mutual information of classes and k-means clusters (NMI)", of(found.rows, "nmi"), ONE_CLASS),
        "interpolation": (
            "how much nearer to images the middle of two codes is than that of their images",
            between,
            "it is of runs with a decoder, such as an autoencoder",
        ),
        "disentanglement": (
            "mutual information gap on images of known factors (MIG)",
            found.disentanglement,
            "hf-replearn disentanglement --add_to_card measures it",
        ),
        "hierarchy": ("best stage, by its linear probe", best_layers, "--layers all measures it"),
        "sparsity": ("Hoyer's sparsity of an example's features", of(found.properties, "sparsity"), "not measured"),
    }
    return [
        _line(name, measure, values, asked, why=why, more=stages if name == "hierarchy" else {})
        for name, (measure, values, why) in measured.items()
    ]


def best_stages(layers: Mapping[str, Mapping[str, list[float]]]) -> tuple[dict[str, str], dict[str, float]]:
    """Row -> which layer has the best linear probe, in words, and how good it is."""
    words, values = {}, {}
    for row, found in layers.items():
        if probes := found.get("linear"):
            best = max(range(len(probes)), key=probes.__getitem__)
            words[row], values[row] = f" (layer {best} of 0 to {len(probes) - 1})", probes[best]
    return words, values


def _line(
    name: str, measure: str, values: Numbers, asked: Sequence[str], *, why: str, more: Mapping[str, str]
) -> dict[str, Any]:
    known = {row: value for row, value in values.items() if value is not None and math.isfinite(value)}
    text = {row: f"{value:.3f}{more.get(row, '')}" for row, value in known.items()}
    others = {row: value for row, value in known.items() if row not in asked}
    best = max(others, key=others.__getitem__, default=None)
    return {
        "asked": name,
        "measure": measure,
        "values": {row: text.get(row, "–") for row in asked},
        "baseline": "–" if best is None else f"{text[best]}, {best}",
        "why": "" if any(row in known for row in asked) else why,
    }


@torch.no_grad()
def gain_of_codes(train: Tensor, test: Tensor, decode: Callable[[Tensor], Tensor], *, seed: int = 0) -> float:
    """How much nearer to images the decoded middle of two codes is than the middle of their decoded images.

    1 less the ratio of both mean distances (Euclidean) to the nearest of the decoded images of train. All three are
    decoded, so that what the decoder loses plays no part; it is 0 where the decoder is linear, as of PCA, and below 0
    where the middle between codes is no image.

    train: codes (N, K), of which 1,000 at most are used. test: (M, K), of which pairs are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = min(PAIRS, len(test) // 2)
    first, second = test[torch.randperm(len(test), generator=generator)[: 2 * pairs]].chunk(2)

    def images(codes: Tensor) -> Tensor:
        return torch.cat([decode(some).float().flatten(1).cpu() for some in codes.split(64)])

    known = images(train[:NEAREST])
    middle = (images(first) + images(second)) / 2
    decoded = images((first + second) / 2)
    near, far = (torch.cdist(made, known).min(1).values.mean().item() for made in (decoded, middle))
    return 1 - near / far if far > 0 else 0.0
