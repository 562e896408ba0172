"""What the page of an evaluation shows: maps, nearest neighbours, top features, confusions of the linear probe."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from hf_replearn.evaluation import projection
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.label_free import most_active
from hf_replearn.evaluation.neighbours import QUERIES, nearest_examples, shown
from hf_replearn.evaluation.steps import alone
from hf_replearn.sharing.figures import whole_numbers

TOP_FEATURES, ACTIVE = 4, 8


def draw(report, features: dict, judged: dict, test, *, points: int, seed: int) -> None:
    """What the pictures of the page show: maps, nearest neighbours, top features, confusions of the linear probe.

    Pictures are for show: those of an encoder that cannot be drawn are missing, with the reason.
    """
    rng = np.random.default_rng(seed)
    some = torch.from_numpy(np.sort(rng.permutation(len(test))[:points]))
    queries = rng.permutation(len(test))[:QUERIES].tolist()
    report.maps = {"labels": np.array(test["label"][:])[some.numpy()].tolist(), "PCA": {}, "t-SNE": {}}
    report.neighbours = {"queries": [shown(test[row], report.task.classes) for row in queries]}
    for row, (_, tested) in features.items():
        told = judged[row].told
        if told is not None:
            table = np.zeros((len(report.task.classes),) * 2, int)
            np.add.at(table, (tested.labels.numpy(), told.numpy()), 1)
            report.confusion[row] = table.tolist()
        steps = {"neighbours": partial(find_examples, report, row, tested, test, queries=queries)}
        if not row.startswith("PCA of"):  # whose maps are those of the features themselves
            steps["maps"] = partial(find_maps, report, row, tested[some], seed=seed)
        for name, step in steps.items():
            report.missing[row] |= alone(step, metrics=[name], what=f"{name} of {row}")[1]


def find_maps(report, row: str, some, *, seed: int) -> dict:
    """Both maps of some features (N, D), in the report."""
    check_finite(some.x, "test")
    maps = {
        "PCA": whole_numbers(projection.pca_map(some)),
        "t-SNE": whole_numbers(projection.tsne_map(some, seed=seed)),
    }
    for kind, places in maps.items():
        report.maps[kind][row] = places
    return {}


def find_examples(report, row: str, tested, test, *, queries: list[int]) -> dict:
    """The nearest neighbours of the queries, and the examples of the most selective features, in the report."""
    names = report.task.classes
    report.neighbours[row] = nearest_examples(tested, test, queries, names)
    report.top_features[row] = [
        {"feature": d, "selectivity": share, "examples": [shown(test[key], names) for key in keys]}
        for d, share, keys in most_active(tested, top=TOP_FEATURES, examples=ACTIVE)
    ]
    return {}
