"""Vectors of nodes judged: splits that share nothing, areas against scikit-learn, baselines against loops, what leaks
and what does not, and what is refused."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import average_precision_score, roc_auc_score

from hf_replearn.errors import InputError
from hf_replearn.evaluation.graph_baselines import adamic_adar, degree_product, degrees, random_gcn, spectral, spread
from hf_replearn.evaluation.links import (
    LinkSplit,
    areas,
    by_vectors,
    judge_links,
    paired_links,
    resampled_areas,
    split_links,
)
from hf_replearn.evaluation.nodes import NodeSplit, judge_nodes, random_split, told

N = 120


@pytest.fixture(scope="module")
def pairs() -> np.ndarray:
    """Two groups of 60 nodes; edges are likelier within."""
    rng = np.random.default_rng(0)
    group = np.arange(N) < N // 2
    a, b = np.triu_indices(N, 1)
    linked = rng.random(len(a)) < np.where(group[a] == group[b], 0.1, 0.01)
    return np.stack([a[linked], b[linked]], axis=1)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return (np.arange(N) < N // 2).astype(np.int64)


# ---- splits


def test_link_splits_share_nothing(pairs):
    edges = set(map(tuple, pairs.tolist()))
    for seed in range(20):
        split = split_links(pairs[:, ::-1], N, seed=seed)
        parts = [split.train, split.validation, split.test, split.validation_none, split.test_none]
        found = [{tuple(sorted(pair)) for pair in part.tolist()} for part in parts]
        assert [len(part) for part in found] == [len(part) for part in parts]
        assert sum(map(len, found)) == len(set().union(*found))
        assert found[0] | found[1] | found[2] == edges
        assert not (found[3] | found[4]) & edges
        assert len(split.test) == len(split.test_none) == round(0.1 * len(pairs))
        assert len(split.validation) == len(split.validation_none) == round(0.05 * len(pairs))


def test_link_splits_are_of_their_seed(pairs):
    first, again, other = (split_links(pairs, N, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.test, again.test) and np.array_equal(first.test_none, again.test_none)
    assert not np.array_equal(first.test, other.test)


def test_pairs_that_are_no_edge_are_drawn_uniformly():
    """From a ring of 8 nodes: each of its 20 other pairs as often; χ² with 19 degrees of freedom."""
    ring = np.stack([np.arange(8), (np.arange(8) + 1) % 8], axis=1)
    ring = np.concatenate([ring, [[0, 4], [1, 5], [2, 6], [3, 7]] * 1, [[0, 2], [2, 4], [4, 6], [0, 6]]])
    others, count = {}, 0
    ring = np.unique(np.sort(ring, axis=1), axis=0)
    ring = np.concatenate([ring, [[0, 8], [1, 8], [2, 8], [3, 8]]])  # 20 edges of 9 nodes
    for seed in range(3000):
        split = split_links(ring, 9, seed=seed)
        for pair in [*split.test_none.tolist(), *split.validation_none.tolist()]:
            others[tuple(pair)] = others.get(tuple(pair), 0) + 1
            count += 1
    assert len(others) == 36 - 20
    expected = count / len(others)
    assert sum((found - expected) ** 2 / expected for found in others.values()) < 37.7  # of 1 in 1000, 15 degrees


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("validation", [[0, 1]], "another part"),
        ("test_none", [[0, 1]], "another part"),
        ("validation_none", [[8, 9], [8, 9]], "stands twice"),
        ("test", [[5, 4]], "not ordered"),
    ],
)
def test_link_splits_that_share_a_pair_are_found(part, value, message):
    given = {"train": [[0, 1]], "validation": [[1, 2]], "test": [[2, 3]]}
    given |= {"validation_none": [[0, 9]], "test_none": [[1, 9]]}
    LinkSplit(**{name: np.array(pairs) for name, pairs in given.items()})
    with pytest.raises(AssertionError, match=message):
        LinkSplit(**{name: np.array(pairs) for name, pairs in (given | {part: value}).items()})


def test_links_of_small_and_of_full_graphs_are_refused(pairs):
    with pytest.raises(InputError, match="the graph has 19 edges: 20"):
        split_links(pairs[:19], N, seed=0)
    with pytest.raises(InputError, match="of the graph's 8 nodes only 0 pairs are not linked, and 4 are needed"):
        split_links(np.stack(np.triu_indices(8, 1), axis=1), 8, seed=0)


def test_random_splits_of_nodes():
    """Of each class its tenth, at least two; nodes without a label are in none."""
    labels = np.repeat([0, 1, 2, -1], [100, 30, 3, 20])
    split = random_split(labels, seed=0)
    assert np.bincount(labels[split.train]).tolist() == [10, 3, 2]
    assert np.array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(133))
    assert not np.array_equal(split.train, random_split(labels, seed=1).train)


@pytest.mark.parametrize("test", [[1, 5], [2, 5]])
def test_splits_of_nodes_that_share_one_are_refused(test):
    with pytest.raises(InputError, match=r"1 nodes are both (train|validation) and test, the first is row [12]"):
        NodeSplit(np.array([0, 1]), np.array([2, 3]), np.array(test))
    with pytest.raises(InputError, match="the split has no test nodes"):
        NodeSplit(np.array([0, 1]), np.array([2, 3]), np.array([], dtype=int))


# ---- nodes


def test_vectors_that_tell_classes_are_worth_more_than_noise(labels):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((N, 8))
    own = NodeSplit(np.arange(50, 70), np.arange(30, 50), np.concatenate([np.arange(30), np.arange(70, N)]))
    good = judge_nodes(noise + 4 * labels[:, None], labels, own=own)
    bad = judge_nodes(noise, labels, own=own)
    for metric in ("nodes_own_split", "nodes_random_split"):
        assert good.scores[metric] > 0.95 and abs(bad.scores[metric] - 0.5) < 0.15
    assert good.found["nodes_own_split"].shape == (1, 80) and good.found["nodes_random_split"].shape == (10, 1)
    assert good.scores["nodes_own_split"] == good.found["nodes_own_split"].mean()
    assert set(judge_nodes(noise, labels).scores) == {"nodes_random_split", "nodes_random_split_ci95"}


def test_the_cost_is_not_chosen_on_test_nodes(labels):
    """Labels of test nodes change no prediction; those of validation nodes may."""
    x = np.random.default_rng(0).standard_normal((N, 8)) + labels[:, None]
    for validation in (np.arange(30, 50), np.empty(0, int)):
        split = NodeSplit(np.arange(50, 70), validation, np.arange(70, N))
        changed = labels.copy()
        changed[split.test] = 1 - changed[split.test]
        assert np.array_equal(told(x, labels, split), told(x, changed, split))


def test_classes_without_a_train_node_are_errors(labels):
    """Numbers of classes need not be 0, 1, …, and a class that was not learnt is never told."""
    three = np.where(np.arange(N) % 10 == 0, 7, 3 + 2 * labels)
    train = np.flatnonzero(three != 7)[::2]
    left = np.setdiff1d(np.arange(N), train)
    split = NodeSplit(train, left[::5], np.setdiff1d(left, left[::5]))
    found = told(np.stack([labels, 1 - labels], axis=1) * 1.0, three, split)
    assert set(found) == {3, 5}
    assert np.array_equal(found == three[split.test], three[split.test] != 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, np.where(y == 1, 0, -1)), "all of one class, or none"),
        (lambda x, y: (np.where(x > 2, np.nan, x), y), "NaN or infinite"),
    ],
)
def test_what_cannot_be_judged_is_refused(labels, change, message):
    x = np.random.default_rng(0).standard_normal((N, 8))
    with pytest.raises(InputError, match=message):
        judge_nodes(*change(x, labels))


# ---- links


def test_areas_are_those_of_scikit_learn():
    """With ties, and with pairs that count several times or not at all."""
    rng = np.random.default_rng(0)
    edges, none = rng.integers(0, 9, 40) / 3, rng.integers(-3, 6, 50) / 3
    w, v = rng.integers(0, 3, (4, 40)), rng.integers(0, 3, (4, 50))
    auc, ap = areas(edges, none, w, v)
    for row in range(4):
        scores = np.concatenate([np.repeat(edges, w[row]), np.repeat(none, v[row])])
        real = np.repeat([1, 0], [w[row].sum(), v[row].sum()])
        assert math.isclose(auc[row], roc_auc_score(real, scores))
        assert math.isclose(ap[row], average_precision_score(real, scores))


def test_intervals_are_as_wide_as_the_binomial_says():
    """Of scores that are 1 or 0, the area is a mean of two shares: its deviation is known."""
    edges, none = np.repeat([1.0, 0.0], [80, 20]), np.repeat([1.0, 0.0], [30, 70])
    wanted = ((0.8 * 0.2 + 0.3 * 0.7) / 100) ** 0.5 / 2
    assert abs(resampled_areas(edges, none)[0].std() / wanted - 1) < 0.06


def test_equal_scores_are_at_chance_and_differences_are_paired(pairs):
    split = split_links(pairs, N, seed=0)
    nothing = judge_links(lambda asked: np.ones(len(asked)), split)
    assert nothing.scores["links_auc"] == nothing.scores["links_ap"] == 0.5
    assert nothing.scores["links_auc_ci95"] is None  # no spread to estimate one from
    some = judge_links(adamic_adar(split.train, N), split)
    test = paired_links("links_auc", some, nothing)
    assert math.isclose(test["difference"], some.scores["links_auc"] - 0.5) and test["ci95"] > 0
    with pytest.raises(InputError, match="scores of pairs are not finite"):
        judge_links(lambda asked: np.full(len(asked), np.nan), split)


def test_pairs_are_scored_by_the_way_that_validation_pairs_tell_best(pairs):
    """By hand; the test pairs have no say."""
    chosen = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        group = np.where(np.arange(N) < N // 2, 1.0, -1.0)[:, None]
        vectors = np.hstack([group + rng.standard_normal((N, 1)), rng.standard_normal((N, 2)) + seed % 3])
        split = split_links(pairs, N, seed=seed)
        found = {}
        for way, x in {"product": vectors, "cosine": vectors, "centred cosine": vectors - vectors.mean(0)}.items():
            x = x if way == "product" else x / np.linalg.norm(x, axis=1, keepdims=True)
            both = np.concatenate([split.validation, split.validation_none])
            real = np.arange(len(both)) < len(split.validation)
            found[way] = roc_auc_score(real, (x[both[:, 0]] * x[both[:, 1]]).sum(1))
        way = by_vectors(vectors, split)[1]
        assert found[way] > max(found.values()) - 1e-9
        chosen.add(way)
    assert len(chosen) > 1


def test_vectors_of_all_edges_leak(pairs):
    """The eigenvectors of the whole graph know its test edges; those of the training edges do not: why a model that was
    trained on all of them is not asked for links. A random graph shows it, where there is nothing to know."""
    rng = np.random.default_rng(0)
    a, b = np.triu_indices(N, 1)
    chosen = rng.permutation(len(a))[:600]
    noise = np.stack([a[chosen], b[chosen]], axis=1)
    split = split_links(noise, N, seed=0)
    found = {}
    for name, edges in (("training", split.train), ("all", noise)):
        vectors = spectral(edges, N, width=60).astype(np.float64)
        found[name] = judge_links(lambda asked, x=vectors: (x[asked[:, 0]] * x[asked[:, 1]]).sum(1), split).scores
    assert found["all"]["links_auc"] > 0.9 and found["training"]["links_auc"] < 0.65


# ---- what is known without learning


def test_baselines_by_loops(pairs):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, 5)).astype(np.float32)
    beside = [{node} for node in range(N)]
    for a, b in pairs.tolist():
        beside[a].add(b)
        beside[b].add(a)
    size = [len(others) for others in beside]  # with itself
    once = np.array(
        [sum(features[other] / (size[node] * size[other]) ** 0.5 for other in beside[node]) for node in range(N)]
    )
    np.testing.assert_allclose(spread(features, pairs, 1), once, atol=1e-5)
    np.testing.assert_allclose(spread(csr_matrix(features), pairs, 1), once, atol=1e-5)
    np.testing.assert_allclose(spread(features, pairs, 2), spread(spread(features, pairs, 1), pairs, 1), atol=1e-5)
    assert degrees(pairs, N).tolist() == [number - 1 for number in size]
    asked = np.array([[0, 1], [3, 90], [5, 17], [60, 61]])
    common = [(beside[a] - {a, b}) & (beside[b] - {a, b}) for a, b in asked.tolist()]
    wanted = [sum(1 / math.log(size[other] - 1) for other in some) for some in common]
    np.testing.assert_allclose(adamic_adar(pairs, N)(asked), wanted)
    wanted = [(size[a] - 1) * (size[b] - 1) for a, b in asked.tolist()]
    np.testing.assert_allclose(degree_product(pairs, N)(asked), wanted)


def test_a_random_gcn_is_linear_in_what_is_spread_up_to_its_prelu(pairs):
    features = np.random.default_rng(0).standard_normal((N, 5)).astype(np.float32)
    found, once = random_gcn(features, pairs, width=64), spread(features, pairs, 1)
    undone = np.where(found > 0, found, 4 * found)
    weight = np.linalg.lstsq(once, undone, rcond=None)[0]
    np.testing.assert_allclose(once @ weight, undone, atol=1e-4)
    assert weight.shape == (5, 64) and 0.9 < abs(weight).max() / (6 / 69) ** 0.5 <= 1 + 1e-3
    assert not np.allclose(found, random_gcn(features, pairs, width=64, seed=1))


def test_spectral_vectors_tell_the_groups(pairs, labels):
    """The first of all nodes of a component, which they have alike, is left out."""
    vectors = spectral(pairs, N, width=2)
    assert judge_nodes(vectors, labels).scores["nodes_random_split"] > 0.9
    assert spectral(pairs, N, width=N).shape == (N, N - 1)


def test_spectral_vectors_of_a_graph_in_pieces(monkeypatch):
    """Fifty pairs of nodes beside two groups: an eigenvector for each piece would leave none for what is within one."""
    rng = np.random.default_rng(0)
    one, other = (np.stack(np.triu_indices(40, 1), 1) + first for first in (0, 40))
    groups = np.concatenate([one[rng.random(len(one)) < 0.2], other[rng.random(len(other)) < 0.2], [[0, 40]]])
    edges = np.concatenate([groups, 80 + np.arange(100).reshape(50, 2)])
    vectors = spectral(edges, 180, width=4)
    first = vectors[:80, -1]
    assert (first[:40] > 0).mean() in (0, 1) and (first[:40] > 0).mean() + (first[40:] > 0).mean() == 1
    assert abs(vectors[80:]).max() < 1e-6  # a pair of nodes is known by its piece alone
    monkeypatch.setattr("hf_replearn.evaluation.graph_baselines.EDGE", 0)  # as of a graph too large for all of them
    some = spectral(edges, 180, width=4)
    np.testing.assert_allclose(some @ some.T, vectors @ vectors.T, atol=1e-5)
