"""Networks on graphs against dense matrices, loops over nodes and torch_geometric; DGI and GraphMAE against loops; a
fit by Adam against torch.optim."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from hf_replearn.methods.dgi import DGI, deep_graph_infomax
from hf_replearn.methods.gnn import GNN, GraphFit, Nodes, Pattern, dropout, start
from hf_replearn.methods.graphmae import GraphMAE, scaled_cosine_error
from hf_replearn.methods.graphmae.modeling_graphmae import rows_of

N, D, F = 12, 7, 8
PAIRS = np.array([(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (3, 6), (7, 8), (8, 9), (9, 10)])  # 11: alone


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.standard_normal((N, D)) * (rng.random((N, D)) < 0.4)
    found[5] = 0  # a node without any
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def nodes(features) -> Nodes:
    return Nodes.of(PAIRS, features)


def made(network: nn.Module, seed: int = 0) -> nn.Module:
    """With weights at random, biases too."""
    network.load_state_dict(start(network, torch.Generator().manual_seed(seed)))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed + 1)))
    return network


def heard() -> list[list[int]]:
    """The nodes that each node hears, itself among them."""
    found = [[node] for node in range(N)]
    for a, b in PAIRS:
        found[a].append(b)
        found[b].append(a)
    return found


def test_a_sparse_product_and_its_gradients_are_those_of_dense_matrices():
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(rng.random((5, 6)) < 0.4)
    pattern = Pattern.of(rows, columns, (5, 6))
    values = torch.tensor(rng.standard_normal(len(rows)), requires_grad=True)
    x = torch.tensor(rng.standard_normal((6, 3)), requires_grad=True)
    dense = torch.zeros(5, 6, dtype=torch.float64).index_put((torch.tensor(rows), torch.tensor(columns)), values)
    torch.testing.assert_close(pattern.times(values, x), dense @ x)
    assert torch.autograd.gradcheck(pattern.times, (values, x))


def test_weights_are_those_of_the_normalised_adjacency(nodes, features):
    degree = [len(others) for others in heard()]
    dense = torch.zeros(N, N).index_put((nodes.messages.rows, nodes.messages.columns), nodes.weights)
    for a, b in itertools.product(range(N), repeat=2):
        wanted = (degree[a] * degree[b]) ** -0.5 if b in heard()[a] else 0.0
        assert math.isclose(float(dense[a, b]), wanted, abs_tol=1e-7)
    torch.testing.assert_close(rows_of(nodes, torch.tensor([3, 5, 0])), torch.from_numpy(features[[3, 5, 0]]))


def test_gcn_by_loops(nodes, features):
    network = made(GNN("GCN", D, F))
    weight, bias = network.convs[0].lin.weight, network.convs[0].bias
    degree = [len(others) for others in heard()]
    projected = torch.from_numpy(features) @ weight.T
    for node, others in enumerate(heard()):
        total = bias + sum(projected[other] / (degree[node] * degree[other]) ** 0.5 for other in others)
        torch.testing.assert_close(network(nodes)[node], torch.where(total > 0, total, 0.25 * total))


def test_gat_by_loops(nodes, features):
    network = made(GNN("GAT", D, F, heads=2))
    conv, x = network.convs[0], torch.from_numpy(features)
    for node, others in enumerate(heard()):
        wanted = []
        for head in range(2):
            weight = conv.lin.weight[head * 4 : head * 4 + 4]
            scores = [
                nn.functional.leaky_relu(
                    conv.att_src[0, head] @ (weight @ x[other]) + conv.att_dst[0, head] @ (weight @ x[node]), 0.2
                )
                for other in others
            ]
            attention = torch.softmax(torch.stack(scores), dim=0)
            wanted.append(sum(a * (weight @ x[other]) for a, other in zip(attention, others, strict=True)))
        wanted = torch.cat(wanted) + conv.bias
        torch.testing.assert_close(network(nodes)[node], torch.where(wanted > 0, wanted, 0.25 * wanted))


@pytest.mark.parametrize(("kind", "more"), [("GCN", {}), ("GCN", {"layers": 2}), ("GAT", {"layers": 2, "heads": 2})])
@pytest.mark.filterwarnings("ignore")
def test_torch_geometric_loads_the_weights(nodes, features, kind, more):
    """Strictly, and gives the same vectors after its `act`."""
    theirs = pytest.importorskip("torch_geometric.nn")
    network = made(GNN(kind, D, F, **more))
    other = getattr(theirs, kind)(**network.arguments)
    other.load_state_dict(network.state_dict(), strict=True)
    edges = torch.from_numpy(np.concatenate([PAIRS, PAIRS[:, ::-1]]).T.copy())
    torch.testing.assert_close(other.act(other(torch.from_numpy(features), edges)), network(nodes))


def test_a_node_hears_as_far_as_there_are_layers(nodes, features):
    """Node 0 is two edges from 3 and three from 4."""
    for layers, last in ((1, 2), (2, 3)):
        network = made(GNN("GCN", D, F, layers=layers))
        for node in range(N):
            changed = features.copy()
            changed[node] += 1
            same = torch.equal(network(Nodes.of(PAIRS, changed))[0], network(nodes)[0])
            assert same == (node > last)


def test_dropout_keeps_the_mean_and_is_of_the_generator():
    x = torch.ones(100_000)
    found = dropout(x, 0.2, torch.Generator().manual_seed(0))
    assert abs(float(found.mean()) - 1) < 0.01 and abs(float((found == 0).float().mean()) - 0.2) < 0.01
    assert torch.equal(found, dropout(x, 0.2, torch.Generator().manual_seed(0)))
    assert dropout(x, 0.2, None) is x


# ---- DGI


def test_dgi_by_loops():
    generator = torch.Generator().manual_seed(0)
    real, shuffled = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    bilinear = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    summary = [1 / (1 + math.exp(-sum(float(h[place]) for h in real) / 5)) for place in range(3)]
    total = 0.0
    for vectors, is_real in ((real, True), (shuffled, False)):
        for h in vectors.tolist():
            score = sum(h[i] * float(bilinear[i, j]) * summary[j] for i in range(3) for j in range(3))
            probability = 1 / (1 + math.exp(-score))
            total -= math.log(probability if is_real else 1 - probability)
    assert math.isclose(float(deep_graph_infomax(real, shuffled, bilinear)), total / 10, rel_tol=1e-12)


def test_dgi_at_chance_is_log_two():
    """A discriminator of 0 knows nothing; nor does any of a graph whose nodes are all alike."""
    real = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert math.isclose(float(deep_graph_infomax(real, real.flip(0), torch.zeros(3, 3))), math.log(2), rel_tol=1e-6)
    alike = Nodes.of(np.array(list(itertools.combinations(range(6), 2))), np.ones((6, 4), dtype=np.float32))
    loss, _ = fitted(GraphFit(lambda inputs: DGI(inputs, 8), passes=30, rate=0.01), alike)
    assert loss > math.log(2) - 1e-3


def test_dgi_shuffles_the_features_and_not_the_edges(nodes, features):
    """Its second graph is that of features in another order, computed anew."""
    network = made(DGI(D, F))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    shuffled = network.encoder(Nodes.of(PAIRS, features[order.numpy()]))
    wanted = deep_graph_infomax(network.encoder(nodes), shuffled, network.weight)
    torch.testing.assert_close(network(nodes, torch.Generator().manual_seed(3)), wanted)


# ---- GraphMAE


def test_scaled_cosine_error_by_loops():
    told, real = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    wanted = (0 + (1 - 0.5**0.5) ** 3 + 2**3) / 3
    assert math.isclose(float(scaled_cosine_error(told, real, 3.0)), wanted, rel_tol=1e-6)
    assert torch.isfinite(scaled_cosine_error(torch.zeros(1, 2), real[:1], 3.0))  # a node without features


def test_graphmae_hides_features_from_the_encoder(nodes, features):
    """Changing those of a node that is hidden and not put in another's place changes nothing but what is to be told."""
    network = made(GraphMAE(D, F, heads=2, replaced=0.0))
    _, hidden = network.hide(nodes, torch.Generator().manual_seed(0))
    assert len(hidden) == 6
    seen = {}
    for name, more in (("as they are", 0.0), ("changed", 5.0)):
        changed = features.copy()
        changed[hidden.numpy()] += more * (changed[hidden.numpy()] != 0)
        seen[name] = network.hide(Nodes.of(PAIRS, changed), torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(*seen.values())


def test_graphmae_puts_other_nodes_in_the_place_of_some(nodes):
    network = made(GraphMAE(D, F, heads=2, mask=0.5, replaced=0.4))
    network.encoder.dropout = 0.0
    projected, (seen, hidden) = network.encoder.project(nodes), network.hide(nodes, torch.Generator().manual_seed(1))
    masked = network.token @ network.encoder.convs[0].lin.weight.T
    as_masked = [torch.allclose(row, masked[0]) for row in seen]
    assert sum(as_masked[node] for node in hidden.tolist()) >= 4  # of six, two were changed
    others = [node for node in range(N) if node not in hidden.tolist()]
    torch.testing.assert_close(seen[others], projected[others])
    for node in hidden.tolist():
        assert as_masked[node] or any(torch.allclose(seen[node], row) for row in projected)


def test_the_decoder_is_a_layer_of_gat_that_does_not_see_hidden_vectors(nodes):
    network = made(GraphMAE(D, F, heads=2))
    network.encoder.dropout = network.decoder.attention_dropout = 0.0
    vectors, hidden = torch.randn(N, F, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 3, 8])
    told = network.tell(vectors, hidden, nodes, None)
    x = (vectors @ network.to_decoder.weight.T).index_fill(0, hidden, 0.0)
    torch.testing.assert_close(told, network.decoder(x @ network.decoder.lin.weight.T, nodes)[hidden])
    other = vectors.index_fill(0, hidden, 9.0)
    torch.testing.assert_close(network.tell(other, hidden, nodes, None), told)


# ---- fits


def fitted(fit: GraphFit, nodes: Nodes, state=None, first: int = 0, last: int | None = None) -> tuple[float, dict]:
    state = fit.begin(nodes, torch.Generator().manual_seed(0)) if state is None else state
    loss = math.nan
    for number in range(first, fit.passes if last is None else last):
        loss = fit.go_on(state, nodes, torch.Generator().manual_seed(number))["loss"]
    return loss, state


def test_a_fit_is_adam(nodes):
    fit = GraphFit(lambda inputs: GraphMAE(inputs, F, heads=2), passes=6, rate=0.01, weight_decay=0.1, cosine=True)
    _, state = fitted(fit, nodes)
    network = GraphMAE(D, F, heads=2)
    network.load_state_dict(start(network, torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    for number in range(6):
        seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(number)))
        optimizer.zero_grad()
        network(nodes, torch.Generator().manual_seed(seed)).backward()
        optimizer.step()
        schedule.step()
    for name, weight in network.named_parameters():
        torch.testing.assert_close(state[f"model.{name}"], weight.detach())


def test_a_fit_goes_on_bit_for_bit(nodes):
    fits = [GraphFit(lambda inputs: DGI(inputs, F), passes=8, rate=0.01, patience=20) for _ in range(2)]
    _, whole = fitted(fits[0], nodes)
    _, half = fitted(fits[0], nodes, last=4)
    _, state = fitted(fits[1], nodes, {name: x.clone() for name, x in half.items()}, first=4)
    assert whole.keys() == state.keys() and all(torch.equal(whole[name], state[name]) for name in whole)


def test_a_fit_ends_where_the_loss_does_not_fall_and_keeps_the_weights_of_the_smallest(nodes):
    class Rising(nn.Module):
        """Its loss is smallest at the third step, whatever the weights."""

        def __init__(self, inputs):
            super().__init__()
            self.encoder, self.calls = GNN("GCN", inputs, F), 0

        def forward(self, nodes, generator):
            self.calls += 1
            return 0 * self.encoder(nodes).sum() + abs(self.calls - 3) + self.encoder.convs[0].lin.weight.sum() * 1e-6

    fit = GraphFit(Rising, passes=50, rate=0.1, patience=4)
    state = fit.begin(nodes, torch.Generator().manual_seed(0))
    weights = []
    while not fit.has_converged(state):
        weights.append(state["model.encoder.convs.0.lin.weight"].clone())
        fit.go_on(state, nodes, torch.Generator().manual_seed(0))
    assert len(weights) == 7  # the third and four more
    assert torch.equal(fit.encoder(state).convs[0].lin.weight, weights[2])
    torch.testing.assert_close(fit.vectors(state, nodes), fit.encoder(state)(nodes))


@pytest.mark.parametrize("method", [DGI, GraphMAE])
def test_both_learn(nodes, method):
    fit = GraphFit(lambda inputs: method(inputs, 16), passes=150, rate=0.01)
    first, _ = fitted(fit, nodes, last=1)
    last, _ = fitted(fit, nodes)
    assert last < 0.6 * first
