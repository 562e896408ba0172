"""Semantic clusterability: whether groups found without labels are the classes, and how far classes lie apart."""

from __future__ import annotations

import numpy as np
from torch.nn.functional import normalize

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.repetitions import INTERVAL
from hf_replearn.evaluation.statistics import stated
from hf_replearn.representation import Features

RESAMPLES = 200
SILHOUETTE_ROWS = 2000  # whose distances to one another fit into 16 MB


def clustering(features: Features, *, runs: int = 5, seed: int = 0) -> dict[str, float]:
    """k-means with as many clusters as classes on features of unit length, compared with the labels.

    Returns the means over `runs` starts of k-means of
      "nmi"       normalised mutual information, by the arithmetic mean of both entropies, 0…1;
      "ari"       adjusted Rand index (Hubert & Arabie 1985), 0 for chance, at most 1;
      "matched"   accuracy where clusters are named after classes one to one in the best way (Kuhn 1955),
    each with "…_ci95", the half width of a 95 % interval over starts and, by bootstrap, examples; and, of the classes
    themselves, "silhouette" (cosine; Rousseeuw 1987), -1…1, in which an example that is alone in its class counts 0.
    Raises InputError for missing or multi-label labels, or a single class.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    if features.labels is None or features.labels.ndim != 1:
        raise InputError("clusters are compared with one label an example")
    values, classes = np.unique(features.labels.numpy(), return_inverse=True)
    if not 2 <= len(values) < len(classes):
        raise InputError(f"{len(classes)} examples of {len(values)} classes: clusters need at least two of several")
    check_finite(features.x, "test")
    x = normalize(features.x).numpy()
    tables = []
    for start in range(runs):
        clusters = KMeans(len(values), n_init=1, random_state=seed + start).fit_predict(x)
        tables.append(contingency(classes, clusters, size=len(values)))
    scores = {}
    for name, score in {"nmi": nmi, "ari": ari, "matched": matched_accuracy}.items():
        scores[name] = float(np.mean([score(table) for table in tables]))
        scores[name + INTERVAL] = _half_width(score, tables, seed=seed)
    some = np.random.default_rng(seed).permutation(len(x))[:SILHOUETTE_ROWS]
    if 2 <= len(np.unique(classes[some])) < len(some):
        scores["silhouette"] = float(silhouette_score(x[some], classes[some], metric="cosine"))
    return scores


def contingency(classes: np.ndarray, clusters: np.ndarray, *, size: int) -> np.ndarray:
    """How many examples of each class are in each cluster: (size, size)."""
    return np.bincount(classes * size + clusters, minlength=size * size).reshape(size, size)


def nmi(table: np.ndarray) -> float:
    """Normalised mutual information of a contingency table (C, K); 0 where all is one class or one cluster."""
    p = table / table.sum()
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    entropies = [-(q[q > 0] * np.log(q[q > 0])).sum() for q in (rows, columns)]
    expected = np.outer(rows, columns)[p > 0]
    mean = np.mean(entropies)
    return float((p[p > 0] * np.log(p[p > 0] / expected)).sum() / mean) if min(entropies) > 0 else 0.0


def ari(table: np.ndarray) -> float:
    """Adjusted Rand index of a contingency table (C, K)."""

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1.0) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    chance = rows * columns / pairs(table.sum())
    most = (rows + columns) / 2
    return 1.0 if most == chance else (both - chance) / (most - chance)


def matched_accuracy(table: np.ndarray) -> float:
    """The share on the diagonal of a contingency table (C, K) whose columns are ordered best."""
    from scipy.optimize import linear_sum_assignment

    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def _half_width(score, tables: list[np.ndarray], *, seed: int) -> float | None:
    """Of the interval around the mean over tables: spread by resampled examples, and by the start of k-means."""
    rng = np.random.default_rng(seed)
    examples = []
    for table in tables:  # drawing examples again is drawing cells again
        draws = rng.multinomial(table.sum(), table.ravel() / table.sum(), size=RESAMPLES)
        examples.append(np.var([score(draw.reshape(table.shape)) for draw in draws]))
    starts = np.var([score(table) for table in tables], ddof=1) / len(tables) if len(tables) > 1 else 0.0
    return stated(float(1.96 * np.sqrt(np.mean(examples) + starts)))
