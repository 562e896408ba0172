"""Random walks: uniform ones by chi-square, biased ones against what is enumerated, ends, orders; and what is learnt
from them."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.stats import chisquare

from hf_replearn.data.graphs import load_graph
from hf_replearn.methods.skipgram import NeighbourFit, Stretches
from hf_replearn.methods.walks import Edges, LineFit, Neighbours, WalkFit, Walks, walk

# two cliques of four, joined by the edge 3-4, and a tail 7-8-9
BARBELL = [(a, b) for first in (0, 4) for a in range(first, first + 4) for b in range(a + 1, first + 4)]
BARBELL += [(3, 4), (7, 8), (8, 9)]
# 0 -> 1 -> 2 -> 0 and back from 1 to 0; 2 -> 3, which leads nowhere
DIRECTED = [(0, 1), (1, 2), (2, 0), (1, 0), (2, 3)]


def neighbours(pairs, *, directed=False, count=None):
    pairs = np.array(pairs)
    ways = pairs if directed else np.concatenate([pairs, pairs[:, ::-1]])
    count = count or int(pairs.max()) + 1
    lists = csr_matrix((np.ones(len(ways)), ways.T), shape=(count, count))
    lists.sort_indices()
    return Neighbours(lists.indptr.astype(np.int64), lists.indices.astype(np.int64), directed=directed)


def lists_of(graph):
    return [set(graph.others[first:last].tolist()) for first, last in zip(graph.pointers[:-1], graph.pointers[1:])]  # noqa: B905


def second_order(graph, p, q):
    """(u, v) -> {x: probability}, as section 3.2 of node2vec says it."""
    near, found = lists_of(graph), {}
    for u, ends in enumerate(near):
        for v in ends:
            weights = {x: 1 / p if x == u else 1.0 if x in near[u] else 1 / q for x in near[v]}
            found[u, v] = {x: weight / sum(weights.values()) for x, weight in weights.items()}
    return found


def steps(rows):
    """(u, v) -> how often each x follows."""
    found = {}
    for u, v, x in zip(rows[:, :-2].ravel(), rows[:, 1:-1].ravel(), rows[:, 2:].ravel(), strict=True):
        if x >= 0:
            counts = found.setdefault((int(u), int(v)), {})
            counts[int(x)] = counts.get(int(x), 0) + 1
    return found


def test_at_one_and_one_every_neighbour_is_as_likely():
    graph = neighbours(BARBELL)
    rows = walk(graph, np.tile(np.arange(10), 800), 30, np.random.default_rng(0))
    near, p_values = lists_of(graph), []
    for node in range(10):
        after = rows[:, 1:][rows[:, :-1] == node]
        assert set(after.tolist()) == near[node]
        if len(near[node]) > 1:
            p_values.append(chisquare(np.bincount(after)[sorted(near[node])]).pvalue)
    assert min(p_values) > 0.001 and np.mean(p_values) > 0.1


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("p", "q"), [(0.25, 4.0), (4.0, 0.25), (0.5, 0.5), (4.0, 4.0), (0.1, 1.0), (1.0, 2.0)])
def test_biased_steps_are_as_likely_as_enumerated(p, q, directed, table, monkeypatch):
    if not table:
        monkeypatch.setattr("hf_replearn.methods.walks.TABLE", 0)
    graph = neighbours(DIRECTED if directed else BARBELL, directed=directed)
    assert (graph.second_steps is not None) == table
    rows = walk(graph, np.tile(np.arange(len(graph)), 900), 40, np.random.default_rng(1), p=p, q=q)
    wanted, found = second_order(graph, p, q), steps(rows)
    p_values = []
    for pair, counts in found.items():
        assert counts.keys() <= wanted[pair].keys(), pair
        if sum(counts.values()) >= 200 and len(wanted[pair]) > 1:
            total = sum(counts.values())
            expected = {x: total * share for x, share in wanted[pair].items()}
            p_values.append(chisquare([counts.get(x, 0) for x in expected], list(expected.values())).pvalue)
    assert len(p_values) >= (2 if directed else 20) and min(p_values) > 0.0005


@pytest.mark.parametrize("table", [True, False])
def test_walks_follow_edges_and_end_where_there_is_none(table, monkeypatch):
    if not table:
        monkeypatch.setattr("hf_replearn.methods.walks.TABLE", 0)
    graph = neighbours([*DIRECTED, (5, 0)], directed=True)  # 4 has no edge at all
    for p, q in ((1, 1), (0.5, 2)):
        rows = walk(graph, np.array([3, 4, 2, 5]), 50, np.random.default_rng(0), p=p, q=q)
        assert rows[:, 0].tolist() == [3, 4, 2, 5] and (rows[:2, 1:] == -1).all() and (rows[2:, 1] >= 0).all()
        near = lists_of(graph)
        for row in rows:
            length = int((row >= 0).sum())
            assert (row[length:] == -1).all()
            assert all(b in near[a] for a, b in zip(row[: length - 1], row[1:length], strict=True))
            assert length == 50 or not near[row[length - 1]]


def test_edges_are_found_by_bisection():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 60, (500, 2)), axis=0)
    graph = neighbours(pairs[pairs[:, 0] != 59], directed=True, count=60)
    nodes, others = map(np.ravel, np.meshgrid(np.arange(60), np.arange(60)))
    there = np.array([other in lists_of(graph)[node] for node, other in zip(nodes[:300], others[:300], strict=True)])
    np.testing.assert_array_equal(graph.has(nodes, others)[:300], there)
    near = lists_of(graph)
    assert (
        graph.has(nodes, others).sum() == sum(map(len, near)) and not graph.has(nodes[nodes == 59], others[:60]).any()
    )


def test_every_node_starts_as_often_in_orders_that_differ():
    walks = Walks(neighbours(BARBELL, count=12), passes=3, length=5, seed=0)
    rows = np.concatenate([walks.rows(number) for number in range(len(walks))])
    assert rows.shape == (30, 5)
    orders = rows[:, 0].reshape(3, 10)
    assert (np.sort(orders) == np.arange(10)).all() and len({tuple(order) for order in orders.tolist()}) == 3
    assert walks.counts.sum() == 50 and (walks.counts[10:] == 0).all() and (walks.counts[:10] > 0).all()


def test_a_stretch_is_the_same_whichever_were_drawn_before(monkeypatch):
    monkeypatch.setattr("hf_replearn.methods.walks.STRETCH", 60)
    given = {"passes": 4, "length": 6, "p": 0.5, "q": 2.0}
    one, other = (Walks(neighbours(BARBELL), seed=3, **given) for _ in range(2))
    assert len(one) == 4 and one.size == 10
    all_rows = [one.rows(number) for number in range(4)]
    for number in (2, 0, 3, 1):
        np.testing.assert_array_equal(other.rows(number), all_rows[number])
    assert not np.array_equal(all_rows[0], all_rows[1])
    assert not np.array_equal(all_rows[0], Walks(neighbours(BARBELL), seed=4, **given).rows(0))


def test_a_stretch_is_rows_of_nodes_without_gaps():
    walks = Walks(neighbours(DIRECTED, directed=True), passes=2, length=4, seed=0)
    ids, rows = walks.stretch(0)
    table = walks.rows(0)
    assert ids.tolist() == table[table >= 0].tolist()
    assert torch.bincount(rows).tolist() == (table >= 0).sum(1).tolist()


def test_edges_come_once_in_every_pass(monkeypatch):
    monkeypatch.setattr("hf_replearn.methods.walks.STRETCH", 20)
    edges = np.array(BARBELL)
    source = Edges(edges, count=11, passes=3, seed=0)
    pairs = torch.cat([source.stretch(number)[0].view(-1, 2) for number in range(len(source))]).numpy()
    assert len(pairs) == 3 * len(edges) and len(source) == -(-3 * len(edges) // 10)
    for part in np.split(pairs, 3):
        np.testing.assert_array_equal(np.unique(part, axis=0), np.unique(edges, axis=0))
    assert source.counts[3] == 4 and source.counts[10] == 0


def learn(fit, examples, seed=0):
    state = fit.begin(examples, torch.Generator().manual_seed(seed))
    for number in range(fit.passes):
        fit.go_on(state, examples, torch.Generator().manual_seed(seed + number + 1))
    return state


def test_deepwalk_is_skip_gram_on_its_walks():
    """The same tables as of a text whose documents are the walks."""
    walks = Walks(neighbours(BARBELL), passes=20, length=10, seed=0)
    assert len(walks) == 1
    table = walks.rows(0)
    text = np.concatenate([np.append(row, -1) for row in table]).astype(np.int32)
    given = {"dim": 8, "window": 3, "negatives": 5, "epochs": 1, "stretches": 1, "rate": 0.05, "subsample": 0}
    found = learn(WalkFit(**given), walks)
    words = learn(NeighbourFit(**given), Stretches(text, walks.counts, size=len(text)))
    for name in ("inputs", "outputs"):
        torch.testing.assert_close(found[name], words[name], rtol=0, atol=0)


def test_first_order_is_learnt_in_one_table_by_the_gradient_of_its_loss():
    """One block of LINE: the step of each row is the rate times autograd's gradient of both roles of the table."""
    from hf_replearn.methods.skipgram import loss

    edges = Edges(np.array(BARBELL), count=10, passes=1, seed=0)
    fit = LineFit(dim=12, negatives=5, stretches=1, rate=1e-3)
    state = fit.begin(edges, torch.Generator().manual_seed(0))
    table = (state["first"] * 20).double().requires_grad_()
    state["first"] = table.detach().float().clone()
    before = state["first"].clone()
    (block,) = fit.halves["first"].blocks(*edges.stretch(0), edges.counts, torch.Generator().manual_seed(1))
    loss(table, table, block, negatives=5).backward()
    fit.go_on(state, edges, torch.Generator().manual_seed(1))
    step = (state["first"] - before).double()
    torch.testing.assert_close(step, -1e-3 * table.grad, rtol=0.02, atol=1e-6)


def test_a_pair_of_line_is_an_edge():
    edges = Edges(np.array(BARBELL), count=10, passes=1, seed=0)
    (block,) = (
        LineFit(4, 5, 1, 0.1).halves["first"].blocks(*edges.stretch(0), edges.counts, torch.Generator().manual_seed(0))
    )
    tile, place = np.nonzero(block.weights.sum(2).numpy())
    pairs = {
        (int(block.centres.view(-1, 32)[n, i]), int(block.contexts[n, j]))
        for n, i, j in torch.nonzero(block.weights).tolist()
    }
    assert pairs == {*BARBELL, *((b, a) for a, b in BARBELL)} and len(tile) == len(place) == 2 * len(BARBELL)


@pytest.mark.parametrize("method", ["walks", "edges"])
def test_groups_are_found_and_a_node_alone_has_no_vector(method):
    graph = load_graph("toy")
    if method == "walks":
        examples = Walks(neighbours(graph.edges, count=len(graph)), passes=20, length=20, seed=0)
        fit = WalkFit(16, 5, 5, epochs=1, stretches=len(examples), rate=0.05, subsample=0)
    else:
        examples = Edges(graph.edges, len(graph), passes=200, seed=0)
        fit = LineFit(32, 5, len(examples), 0.05)
    vectors = fit.vectors(learn(fit, examples), examples)
    known = torch.from_numpy(graph.degrees > 0)
    assert (vectors[~known] == 0).all() and vectors[known].norm(dim=1).min() > 0
    unit, labels = torch.nn.functional.normalize(vectors[known]), torch.from_numpy(graph.labels)[known]
    similar = (unit @ unit.T).fill_diagonal_(-2)
    votes = labels[similar.topk(5).indices].mode(dim=1).values
    assert (votes == labels).float().mean() > 0.6  # a quarter by chance


def test_the_vectors_of_line_are_its_two_orders_at_length_one():
    edges = Edges(np.array(BARBELL), count=10, passes=5, seed=0)
    fit = LineFit(8, 5, len(edges), 0.1)
    state = learn(fit, edges)
    vectors = fit.vectors(state, edges)
    assert vectors.shape == (10, 8)
    for half in vectors.split(4, dim=1):
        torch.testing.assert_close(half.norm(dim=1), torch.ones(10))
    assert fit.parameters(state) == 80 and fit.seen(edges, state) == 2 * 5 * len(BARBELL)
