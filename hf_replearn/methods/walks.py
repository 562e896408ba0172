"""Random walks on a graph as rows of ids for `methods.skipgram`, and pairs of its edges as such: DeepWalk (Perozzi,
Al-Rfou & Skiena 2014), node2vec (Grover & Leskovec 2016) and LINE (Tang et al. 2015).

All walkers of a stretch take a step at once. A biased step depends on the edge before it: of a small graph it is looked
up in a table of all edges, of a large one it is proposed uniformly, then accepted or not. No walk is kept: a stretch is
drawn when it is learnt from, always the same by its number.

Symbols: N nodes, K walkers, L nodes of a walk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_replearn.methods.skipgram import NeighbourFit

STRETCH = 2**16  # nodes of a stretch, about
TABLE = 2**22  # numbers of a table of second steps, at most


@dataclass(frozen=True)
class SecondSteps:
    """The steps from v to each x after one from u to v, for all E edges from u to v, in the order of a `Neighbours`.

    next:  the edges from v to x, by their places: first that to x = u, then those to neighbours of u, then the others.
    first: (E,) where the steps after an edge begin in it. back, near: (E,) how many of them, 0 or 1 and 0 or more, lead
           to u, and to neighbours of u.
    """

    next: np.ndarray
    first: np.ndarray
    back: np.ndarray
    near: np.ndarray


@dataclass(frozen=True)
class Neighbours:
    """The nodes that edges lead to, as of a sparse matrix (csr).

    pointers: (N + 1,) int64. others: (M,) int64, of node n from pointers[n] to pointers[n + 1], ascending.
    directed: whether there may be an edge from one node to another, and none back.
    """

    pointers: np.ndarray
    others: np.ndarray
    directed: bool = False

    def __len__(self) -> int:
        """N"""
        return len(self.pointers) - 1

    @cached_property
    def degrees(self) -> np.ndarray:
        """(N,) int64"""
        return np.diff(self.pointers)

    @cached_property
    def halvings(self) -> int:
        """After which the longest list has one place left."""
        return int(self.degrees.max()).bit_length()

    @cached_property
    def second_steps(self) -> SecondSteps | None:
        """None where there are more than `TABLE`."""
        counts = self.degrees.take(self.others)
        if counts.sum() > TABLE:
            return None
        edges = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum(counts) - counts
        steps = np.arange(len(edges)) + np.repeat(self.pointers.take(self.others) - first, counts)
        came, to = np.repeat(np.arange(len(self)), self.degrees).take(edges), self.others.take(steps)
        kind = np.where(to == came, 0, 2 - self.has(came, to))
        back, near = (np.bincount(edges[kind == number], minlength=len(counts)) for number in (0, 1))
        return SecondSteps(steps[np.argsort(3 * edges + kind, kind="stable")], first, back, near)

    def draw(self, nodes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An edge from each node, by its place, all as likely; each has to have one."""
        places = (rng.random(len(nodes)) * self.degrees.take(nodes)).astype(np.int64)
        places += self.pointers.take(nodes)
        return places

    def has(self, nodes: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Whether an edge leads from each node to the other one, by bisection of the lists, all at once."""
        low, high = self.pointers.take(nodes), self.pointers.take(nodes + 1)
        last = high - 1
        for _ in range(self.halvings):
            middle = (low + high) >> 1
            is_below = (self.others.take(middle, mode="clip") < others) & (low < high)
            low, high = np.where(is_below, middle + 1, low), np.where(is_below, high, middle)
        return (low <= last) & (self.others.take(low, mode="clip") == others)


def walk(
    graph: Neighbours, starts: np.ndarray, length: int, rng: np.random.Generator, *, p: float = 1.0, q: float = 1.0
) -> np.ndarray:
    """Walks (K, length) from starts (K,), -1 after the last node of one that comes to a node without neighbours.

    p, q: a step from v, to which one came from u, goes to x with a weight of 1 / p where x is u, 1 where an edge leads
    from u to x, else 1 / q (Grover & Leskovec 2016, section 3.2.2); at p = q = 1 every neighbour is as likely.
    """
    rows = np.full((length, len(starts)), -1, dtype=np.int32)
    rows[0] = starts
    here, alive, before, edges = np.asarray(starts, dtype=np.int64), None, None, None  # alive: None stands for all
    table = None if p == q == 1 else graph.second_steps
    for step in range(1, length):
        can_go = graph.degrees.take(here) > 0
        if not can_go.all():
            alive = np.flatnonzero(can_go) if alive is None else alive[can_go]
            here, before, edges = (None if some is None else some[can_go] for some in (here, before, edges))
        if not len(here):
            break
        if before is not None and table is None and not p == q == 1:
            before, here = here, _biased(graph, before, here, rng, p=p, q=q)
        else:
            edges = graph.draw(here, rng) if edges is None or table is None else _second(graph, table, edges, rng, p, q)
            before, here = here, graph.others.take(edges)
        rows[step, slice(None) if alive is None else alive] = here
    return rows.T


def _second(
    graph: Neighbours, table: SecondSteps, edges: np.ndarray, rng: np.random.Generator, p: float, q: float
) -> np.ndarray:
    """The edge after each edge (K,). A number below the sum of all weights tells the kind of the step, and which of its
    kind it is, for all of a kind have one weight."""
    near, back = table.near.take(edges), table.back.take(edges)
    count = graph.degrees.take(graph.others.take(edges))
    drawn = rng.random(len(edges)) * ((count - near - back) / q + near + back / p) - back / p  # below 0: back
    places = np.maximum(drawn, 0) + (q - 1) * np.maximum(drawn - near, 0) + back * (drawn >= 0)
    return table.next.take(table.first.take(edges) + np.minimum(places.astype(np.int64), count - 1))


def _biased(
    graph: Neighbours, before: np.ndarray, here: np.ndarray, rng: np.random.Generator, *, p: float, q: float
) -> np.ndarray:
    """A step of each walker by rejection: what is proposed uniformly is taken with its weight over `most`.

    A weight of going back that is larger is proposed apart: else nearly all other proposals would be refused where p
    is small (Yang et al. 2019, "KnightKing", section 4). Whether there is an edge is looked up only where it decides.
    The fewer walkers are left, the more steps are proposed to each at once.
    """
    most = max(1.0, 1 / q)
    apart = max(0.0, 1 / p - most)
    found, left = np.empty_like(here), np.arange(len(here))
    back_is_there = graph.has(here, before) if graph.directed and apart else True
    chance = np.where(back_is_there, apart / (apart + most * graph.degrees.take(here)), 0.0)
    while len(left):
        tries = min(32, max(1, len(here) // len(left)))
        asked = np.repeat(left, tries)
        came, to = before.take(asked), graph.others.take(graph.draw(here.take(asked), rng))
        bar = rng.random(len(asked)) * most
        taken = bar < np.where(to == came, 1 / p, min(1.0, 1 / q))
        open_ = np.flatnonzero(~taken & (to != came))
        if len(open_) and q != 1:  # between the weights of a node that is near and of one that is not
            taken[open_] = graph.has(came[open_], to[open_]) == (q > 1)
        if apart:
            goes_back = rng.random(len(asked)) < chance.take(asked)
            to[goes_back], taken[goes_back] = came[goes_back], True
        taken = taken.reshape(-1, tries)
        first, any_ = taken.argmax(1), taken.any(1)
        found[left[any_]] = to.reshape(-1, tries)[np.flatnonzero(any_), first[any_]]
        left = left[~any_]
    return found


@lru_cache(maxsize=2)
def _order(count: int, seed: int, number: int) -> np.ndarray:
    """The order in which pass `number` goes over `count` things."""
    return np.random.default_rng([seed, number, 0]).permutation(count)


def _in_order(first: int, last: int, *, count: int, seed: int) -> np.ndarray:
    """Things first ... last - 1 of endless passes over `count` things, each pass in another order."""
    places = np.arange(first, last)
    return np.concatenate(
        [_order(count, seed, number)[places[places // count == number] % count]
         for number in range(first // count, (last - 1) // count + 1)]
    )  # fmt: skip


@dataclass(frozen=True)
class Walks:
    """Walks from every node that has a neighbour, in so many passes, as `NeighbourFit` learns from them.

    passes: walks from each node. length: nodes of a walk. size: walks of a stretch.
    """

    graph: Neighbours
    passes: int
    length: int
    seed: int
    p: float = 1.0
    q: float = 1.0

    @property
    def size(self) -> int:
        return max(1, STRETCH // self.length)

    @cached_property
    def starts(self) -> np.ndarray:
        return np.flatnonzero(self.graph.degrees > 0)

    def __len__(self) -> int:
        """Stretches of all walks."""
        return -(-len(self.starts) * self.passes // self.size)

    @cached_property
    def counts(self) -> np.ndarray:
        """(N,) how often each node is in the walks of one pass."""
        once, total = replace(self, passes=1), np.zeros(len(self.graph), dtype=np.int64)
        for number in range(len(once)):
            found = once.rows(number)
            total += np.bincount(found[found >= 0], minlength=len(total))
        return total

    def rows(self, number: int) -> np.ndarray:
        """(K, L) the walks of a stretch, -1 where one has ended."""
        last = min((number + 1) * self.size, len(self.starts) * self.passes)
        order = _in_order(number * self.size, last, count=len(self.starts), seed=self.seed)
        rng = np.random.default_rng([self.seed, number, 1])
        return walk(self.graph, self.starts[order], self.length, rng, p=self.p, q=self.q)

    def stretch(self, number: int) -> tuple[Tensor, Tensor]:
        """The nodes of a stretch, walk after walk, and the walk of each, from 0 on."""
        return _flat(self.rows(number))


@dataclass(frozen=True)
class Edges:
    """The edges of a graph in so many passes, each a row of two nodes, as `NeighbourFit` learns from them.

    edges: (M, 2). count: N.
    """

    edges: np.ndarray
    count: int
    passes: int
    seed: int

    @property
    def size(self) -> int:
        return STRETCH // 2

    def __len__(self) -> int:
        return -(-len(self.edges) * self.passes // self.size)

    @cached_property
    def counts(self) -> np.ndarray:
        """(N,) the degrees."""
        return np.bincount(self.edges.ravel(), minlength=self.count)

    def stretch(self, number: int) -> tuple[Tensor, Tensor]:
        last = min((number + 1) * self.size, len(self.edges) * self.passes)
        return _flat(self.edges[_in_order(number * self.size, last, count=len(self.edges), seed=self.seed)])


def _flat(rows: np.ndarray) -> tuple[Tensor, Tensor]:
    there = rows >= 0
    ids = torch.from_numpy(rows[there].astype(np.int64))
    return ids, torch.from_numpy(np.repeat(np.arange(len(rows)), there.sum(1)))


class WalkFit(NeighbourFit):
    """Skip-gram on walks. A node that no walk comes to has the vector 0, for nothing is known of it."""

    def vectors(self, state: dict[str, Tensor], examples: Walks) -> Tensor:
        """(N, D)"""
        return _known(self.weights(state), examples.counts)

    def seen(self, examples: Walks, state: dict[str, Tensor]) -> int:
        """Nodes of all walks."""
        return int(examples.counts.sum()) * examples.passes

    def parameters(self, state: dict[str, Tensor]) -> int:
        """Of the table that is kept."""
        return self.weights(state).numel()


@dataclass(frozen=True)
class LineFit:
    """LINE: half of a vector is learnt from first-order proximity, where a node's vector meets those of its neighbours
    in the same table, half from second-order proximity, where it meets theirs as contexts, in another one; each at
    length 1, one after the other (Tang et al. 2015, sections 4.1 and 4.2)."""

    dim: int
    negatives: int
    stretches: int
    rate: float
    workers: int = 1

    @property
    def passes(self) -> int:
        return self.stretches

    @cached_property
    def halves(self) -> dict[str, NeighbourFit]:
        """One table is changed by one thread at a time, so that a run gives the same bits again."""
        one = NeighbourFit(self.dim // 2, 1, self.negatives, 1, self.stretches, self.rate, subsample=0)
        return {"first": one, "second": replace(one, workers=self.workers)}

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return False

    def begin(self, examples: Edges, generator: torch.Generator) -> dict[str, Tensor]:
        first, second = (half.begin(examples, generator) for half in self.halves.values())
        return {
            "first": first["inputs"],
            "inputs": second["inputs"],
            "outputs": second["outputs"],
            "done": second["done"],
        }

    def parts(self, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The tables as each half has them."""
        done = state["done"]
        return {
            "first": {"inputs": state["first"], "outputs": state["first"], "done": done.clone()},
            "second": {"inputs": state["inputs"], "outputs": state["outputs"], "done": done},
        }

    def go_on(self, state: dict[str, Tensor], examples: Edges, generator: torch.Generator) -> dict[str, float]:
        measured = {
            name: self.halves[name].go_on(part, examples, generator) for name, part in self.parts(state).items()
        }
        losses = {f"loss_{name}_order": found["loss"] for name, found in measured.items() if "loss" in found}
        return {"loss": sum(losses.values()), **losses, "learning_rate": measured["second"]["learning_rate"]}

    def held_out(self, state: dict[str, Tensor], examples: Edges, generator: torch.Generator) -> float:
        """The sum of both halves' losses of a pair."""
        parts = self.parts(state)
        return sum(half.held_out(parts[name], examples, generator) for name, half in self.halves.items())

    def vectors(self, state: dict[str, Tensor], examples: Edges) -> Tensor:
        """(N, D)"""
        return _known(torch.cat([normalize(state["first"]), normalize(state["inputs"])], dim=1), examples.counts)

    def seen(self, examples: Edges, state: dict[str, Tensor]) -> int:
        """Nodes of all edges, in all passes."""
        return int(examples.counts.sum()) * examples.passes

    def parameters(self, state: dict[str, Tensor]) -> int:
        """Of the two tables that are kept."""
        return state["first"].numel() + state["inputs"].numel()


def _known(table: Tensor, counts: np.ndarray) -> Tensor:
    return table * torch.from_numpy(counts > 0)[:, None]
