"""Networks on graphs, as sparse products: GCN (Kipf & Welling 2017) and GAT (Veličković et al. 2018), whose weights
have the names of torch_geometric.nn.GCN and GAT, which load them; and how they are fitted to a whole graph.

N nodes, E messages (both ways of each edge, and of each node to itself), D numbers of a node's features, F of its
vector, H heads
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call


@dataclass(frozen=True)
class Pattern:
    """Where a sparse matrix (N, M) has numbers, row by row, and where its transpose has them.

    starts: (N + 1,) and columns: (E,), as in a CSR matrix. rows: (E,). other_starts: (M + 1,), other_columns: (E,) and
    order: (E,), the place of each number of the transpose among those of the matrix.
    """

    starts: Tensor
    columns: Tensor
    rows: Tensor
    other_starts: Tensor
    other_columns: Tensor
    order: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Pattern:
        """Of the places of the numbers, sorted by row and then by column."""
        order = np.lexsort((rows, columns))
        starts, other = (
            np.concatenate([[0], np.cumsum(np.bincount(of, minlength=count))])
            for of, count in zip((rows, columns), shape, strict=True)
        )
        parts = (starts, columns, rows, other, rows[order], order)
        return cls(*(torch.from_numpy(part.astype(np.int64)) for part in parts), shape)

    def to(self, device: torch.device) -> Pattern:
        names = ("starts", "columns", "rows", "other_starts", "other_columns", "order")
        return Pattern(*(getattr(self, name).to(device) for name in names), self.shape)

    def times(self, values: Tensor, x: Tensor) -> Tensor:
        """The matrix with these values (E,) times x (M, F): (N, F); both have gradients."""
        return _Product.apply(values, x, self)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, x: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, x)
        ctx.pattern = pattern
        return _times(pattern.starts, pattern.columns, values, pattern.shape, x)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (values, x), pattern = ctx.saved_tensors, ctx.pattern
        of_values = of_x = None
        if ctx.needs_input_grad[0]:
            none = _csr(pattern.starts, pattern.columns, torch.zeros_like(values), pattern.shape)
            of_values = torch.sparse.sampled_addmm(none, gradient.contiguous(), x.T).values()
        if ctx.needs_input_grad[1]:
            numbers, shape = values.index_select(0, pattern.order), pattern.shape[::-1]
            of_x = _times(pattern.other_starts, pattern.other_columns, numbers, shape, gradient)
        return of_values, of_x, None


def _times(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], x: Tensor) -> Tensor:
    """A CSR matrix times x (M, F). Into a tensor of its own: `@` fills one with 0, copies it and adds to that, which
    takes four times as long."""
    product = x.new_empty(shape[0], x.shape[1])
    return torch.addmm(product, _csr(starts, columns, values, shape), x.contiguous(), beta=0, out=product)


def _csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, columns, values.contiguous(), shape, check_invariants=False)


@dataclass(frozen=True)
class Nodes:
    """A graph as networks see it.

    messages: who hears whom, a pattern (N, N) that is symmetric, each node hears itself. weights: (E,), the values of
    Â = D^-1/2 (A + I) D^-1/2. features: where the nodes' features (N, D) have numbers, and values: these numbers.
    """

    messages: Pattern
    weights: Tensor
    features: Pattern
    values: Tensor

    @classmethod
    def of(cls, pairs: np.ndarray, features) -> Nodes:
        """pairs: (P, 2) unordered pairs of different nodes, each once. features: (N, D), a scipy.sparse matrix or an
        array."""
        from scipy.sparse import csr_matrix

        features = csr_matrix(features)
        features.sum_duplicates()
        features.eliminate_zeros()
        count, places = features.shape[0], features.tocoo()
        loops = np.arange(count)
        rows = np.concatenate([pairs[:, 0], pairs[:, 1], loops])
        columns = np.concatenate([pairs[:, 1], pairs[:, 0], loops])
        order = np.lexsort((columns, rows))
        rows, columns = rows[order], columns[order]
        scale = np.bincount(rows, minlength=count) ** -0.5
        return cls(
            Pattern.of(rows, columns, (count, count)),
            torch.from_numpy((scale[rows] * scale[columns]).astype(np.float32)),
            Pattern.of(places.row, places.col, features.shape),
            torch.from_numpy(places.data.astype(np.float32)),
        )

    def to(self, device: torch.device) -> Nodes:
        return Nodes(*(part.to(device) for part in (self.messages, self.weights, self.features, self.values)))

    @property
    def count(self) -> int:
        return self.features.shape[0]

    @property
    def width(self) -> int:
        return self.features.shape[1]


def dropout(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """x with a share of its numbers at 0 and the others larger by as much; with no generator, as it is."""
    if generator is None or share == 0:
        return x
    return x * torch.empty_like(x).bernoulli_(1 - share, generator=generator).mul_(1 / (1 - share))


def glorot(*shape: int) -> nn.Parameter:
    """A parameter that `begin` fills."""
    return nn.Parameter(torch.empty(*shape))


class _LeakyReLU(torch.autograd.Function):
    """Of x and the slope (1,) below 0."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return nn.functional.leaky_relu(x, float(slope))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, slope = ctx.saved_tensors
        of_slope = torch.dot(gradient.flatten(), x.clamp(max=0).flatten())[None]
        return (x > 0).to(x.dtype).mul_(1 - slope).add_(slope).mul_(gradient), of_slope


class PReLU(nn.Module):
    """nn.PReLU with one number, whose gradient PyTorch computes several times slower on a CPU."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return _LeakyReLU.apply(x, self.weight)


class Lin(nn.Module):
    """The matrix of a layer, (F, D)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = glorot(outputs, inputs)


class GCNConv(nn.Module):
    """Â X Wᵀ + b (Kipf & Welling 2017, equation 2, without the nonlinearity)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.lin = Lin(inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, projected: Tensor, nodes: Nodes, generator: torch.Generator | None = None) -> Tensor:
        """projected: X Wᵀ (N, F)."""
        return nodes.messages.times(nodes.weights, projected) + self.bias


class GATConv(nn.Module):
    """A node's vector is the mean of those it hears, by attention, for each head (Veličković et al. 2018, equations 1
    to 5): as torch_geometric.nn.GATConv computes it, heads side by side."""

    def __init__(self, inputs: int, outputs: int, heads: int, *, attention_dropout: float = 0.0):
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.lin = Lin(inputs, outputs)
        self.att_src = glorot(1, heads, outputs // heads)
        self.att_dst = glorot(1, heads, outputs // heads)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def attention(self, of_source: Tensor, of_target: Tensor, nodes: Nodes) -> Tensor:
        """How much each node listens to each that it hears (E, H), 1 in all: a softmax of what the two (N, H) add up
        to, through a leaky ReLU."""
        messages = nodes.messages
        scores = nn.functional.leaky_relu(of_source[messages.columns] + of_target[messages.rows], 0.2)
        rows = messages.rows[:, None].expand_as(scores)
        largest = scores.new_full((nodes.count, self.heads), -torch.inf).scatter_reduce(0, rows, scores, "amax")
        weights = (scores - largest.detach()[messages.rows]).exp()
        total = weights.new_zeros(nodes.count, self.heads).index_add(0, messages.rows, weights)
        return weights / total[messages.rows]

    def forward(self, projected: Tensor, nodes: Nodes, generator: torch.Generator | None = None) -> Tensor:
        """projected: X Wᵀ (N, F)."""
        x = projected.unflatten(1, (self.heads, -1))
        attention = self.attention((x * self.att_src).sum(2), (x * self.att_dst).sum(2), nodes)
        attention = dropout(attention, self.attention_dropout, generator)
        heard = [nodes.messages.times(a, part) for a, part in zip(attention.unbind(1), x.unbind(1), strict=True)]
        return torch.cat(heard, dim=1) + self.bias


class GNN(nn.Module):
    """Layers of one kind, a PReLU after each, the same one: a node's vector (F,) is what comes out of the last.

    kind: GCN or GAT, the class of torch_geometric.nn that loads the weights. That leaves out the last PReLU, its `act`.
    heads: of a GAT. dropout: share of the numbers that go into a layer; attention_dropout: of the attention.
    """

    def __init__(
        self,
        kind: str,
        inputs: int,
        outputs: int,
        *,
        layers: int = 1,
        heads: int = 1,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ):
        super().__init__()
        self.kind, self.heads, self.dropout = kind, heads, dropout
        widths = [inputs, *[outputs] * layers]
        self.convs = nn.ModuleList(
            GCNConv(*pair) if kind == "GCN" else GATConv(*pair, heads, attention_dropout=attention_dropout)
            for pair in zip(widths[:-1], widths[1:], strict=True)
        )
        self.act = PReLU()

    @property
    def arguments(self) -> dict:
        """What makes the same network with torch_geometric.nn.GCN or GAT."""
        outputs, inputs = self.convs[0].lin.weight.shape
        known = {"in_channels": inputs, "hidden_channels": outputs, "num_layers": len(self.convs), "act": "prelu"}
        return known | ({"heads": self.heads} if self.kind == "GAT" else {})

    def project(self, nodes: Nodes, generator: torch.Generator | None = None) -> Tensor:
        """The features by the matrix of the first layer: (N, F)."""
        values = dropout(nodes.values, self.dropout, generator)
        return nodes.features.times(values, self.convs[0].lin.weight.T)

    def forward(
        self, nodes: Nodes, projected: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """The vectors of all nodes (N, F). projected: what is taken for `project(nodes)`."""
        x = self.project(nodes, generator) if projected is None else projected
        for place, conv in enumerate(self.convs):
            if place:
                x = nn.functional.linear(dropout(x, self.dropout, generator), conv.lin.weight)
            x = self.act(conv(x, nodes, generator))
        return x


def start(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights at random: matrices by Glorot & Bengio (2010), vectors as they were made."""
    found = {}
    for name, weight in network.named_parameters():
        found[name] = weight.detach().clone()
        if name.endswith(("weight", "att_src", "att_dst")) and weight.ndim > 1:
            bound = (6 / (weight.shape[-1] + weight.shape[-2])) ** 0.5
            found[name].uniform_(-bound, bound, generator=generator)
    return found


@dataclass(frozen=True)
class GraphFit:
    """A fit, see `training.passes`, of a network to a whole graph: each pass is a step of Adam (Kingma & Ba 2015).

    network: (D) -> a module with an `encoder`, a GNN, whose `forward(nodes, generator)` is the loss.
    rate: of Adam; with `cosine` it falls to 0 over the passes. weight_decay: times a weight, added to its gradient.
    patience: passes without a smaller loss after which it ends; kept are then the weights of the smallest. None: it
    never ends early, and the last weights are kept.
    """

    network: Callable[[int], nn.Module]
    passes: int
    rate: float
    weight_decay: float = 0.0
    patience: int | None = None
    cosine: bool = False

    @cached_property
    def _made(self) -> dict[int, nn.Module]:
        return {}

    def module(self, width: int) -> nn.Module:
        """Of features of this width, to be called with the weights of a state."""
        return self._made.setdefault(width, self.network(width))

    def begin(self, examples: Nodes, generator: torch.Generator) -> dict[str, Tensor]:
        device = examples.values.device
        weights = {name: x.to(device) for name, x in start(self.module(examples.width), generator).items()}
        zeros = {f"{kind}.{name}": torch.zeros_like(x) for kind in ("mean", "square") for name, x in weights.items()}
        state = {f"model.{name}": x for name, x in weights.items()} | zeros
        state |= {"done": torch.zeros((), dtype=torch.int64), "waited": torch.zeros((), dtype=torch.int64)}
        if self.patience is not None:
            state |= {"smallest": torch.tensor(torch.finfo(torch.float32).max)}
            state |= {f"best.{name}": x.clone() for name, x in weights.items() if name.startswith("encoder.")}
        return state

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return self.patience is not None and int(state["waited"]) >= self.patience

    def go_on(self, state: dict[str, Tensor], examples: Nodes, generator: torch.Generator) -> dict[str, float]:
        weights = {name: state[f"model.{name}"].requires_grad_() for name, _ in self._names(examples)}
        on_device = torch.Generator(examples.values.device).manual_seed(
            int(torch.randint(2**62, (), generator=generator))
        )
        loss = functional_call(self.module(examples.width), weights, (examples, on_device))
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for weight in weights.values():
            weight.requires_grad_(False)
        if self.patience is not None:
            self._remember(state, loss.detach())
        rate = self.rate * (0.5 * (1 + np.cos(np.pi * int(state["done"]) / self.passes)) if self.cosine else 1.0)
        state["done"] += 1
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            self._step(state, name, weight, gradient, float(rate))
        return {"loss": float(loss.detach()), "learning_rate": float(rate)}

    def _names(self, examples: Nodes):
        return self.module(examples.width).named_parameters()

    def _remember(self, state: dict[str, Tensor], loss: Tensor) -> None:
        """The encoder's weights that this is the loss of, if there was none smaller."""
        smaller = bool(loss < state["smallest"])
        state["waited"] = torch.zeros_like(state["waited"]) if smaller else state["waited"] + 1
        if smaller:
            state["smallest"] = loss.cpu().clone()
            for name in [name for name in state if name.startswith("best.")]:
                state[name].copy_(state["model." + name.removeprefix("best.")])

    def _step(self, state: dict[str, Tensor], name: str, weight: Tensor, gradient: Tensor, rate: float) -> None:
        """Of Adam, with its usual 0.9, 0.999 and 1e-8."""
        gradient = gradient + self.weight_decay * weight if self.weight_decay else gradient
        mean, square, done = state[f"mean.{name}"], state[f"square.{name}"], int(state["done"])
        mean.lerp_(gradient, 0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        length = (square / (1 - 0.999**done)).sqrt_().add_(1e-8)
        weight.addcdiv_(mean, length, value=-rate / (1 - 0.9**done))

    def seen(self, examples: Nodes, state: dict[str, Tensor]) -> int:
        """Nodes of all steps."""
        return examples.count * int(state["done"])

    def parameters(self, state: dict[str, Tensor]) -> int:
        """Of the network that is kept."""
        return sum(x.numel() for name, x in state.items() if name.startswith("model.encoder."))

    def encoder(self, state: dict[str, Tensor]) -> GNN:
        """The network that is kept, with its weights."""
        kind = "model" if self.patience is None else "best"
        weights = {
            name.removeprefix(f"{kind}.encoder."): x.cpu()
            for name, x in state.items()
            if name.startswith(f"{kind}.encoder.")
        }
        network = self.module(weights["convs.0.lin.weight"].shape[1]).encoder
        network.load_state_dict(weights)
        return network

    @torch.no_grad()
    def loss(self, state: dict[str, Tensor], examples: Nodes, *, seeds: Iterable[int]) -> float:
        """Of the last weights, the mean over so many draws of what is hidden or shuffled."""
        weights = {name: state[f"model.{name}"] for name, _ in self._names(examples)}
        made, device = self.module(examples.width), examples.values.device
        drawn = (torch.Generator(device).manual_seed(seed) for seed in seeds)
        return float(np.mean([float(functional_call(made, weights, (examples, of))) for of in drawn]))

    @torch.no_grad()
    def vectors(self, state: dict[str, Tensor], examples: Nodes) -> Tensor:
        """Of all nodes: (N, F)."""
        kind = "model" if self.patience is None else "best"
        prefix = f"{kind}.encoder."
        weights = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
        return functional_call(self.module(examples.width).encoder, weights, (examples,)).cpu()
