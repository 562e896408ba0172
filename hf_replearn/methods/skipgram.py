"""What is learnt from neighbours in rows of ids, words of a text or nodes of a walk: skip-gram and CBOW with negative
sampling (Mikolov et al. 2013), computed on blocks of a row by their own gradients.

A row is cut into tiles of 32 ids. All pairs of a tile, and the negatives that its ids share, are a few small dense
products, so that most of the time goes into arithmetic and not into fetching rows of tables from memory.

A vector may be that of an id alone, or composed of several rows (`Parts`). Several processes have the same tables: each
computes the gradients of its tiles, and all make all the steps.

Symbols: V ids, D dimensions, W the window, T ids of a block, N = T / 32 tiles of a block, S negatives of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import embedding_bag, logsigmoid, pad

TILE, SHARED = 32, 16  # ids of a tile, and the negatives that they share where nothing else is said
PLACES = 24  # bits of a place in a block
CAP = 0.25  # the longest step of a row at once: what keeps sums over many occurrences from running away
PLACED = 2**18  # places of the table that negatives are looked up in
POWER = 0.75  # of the frequencies that negatives are drawn by (Mikolov et al. 2013, section 2.2)


@dataclass(frozen=True)
class Block:
    """A stretch of a row of ids, with those around it.

    ids:       (W + T + W,). negatives: (N, S).
    rows:      (W + T + W,) float32: the number of the row, document or walk, of each id, 0 or more: no pair goes across
               rows. Below 0, each another number, where there is no id.
    reach:     (T,) how far the window of each id goes; None: every distance by its expected weight, see `weights`.
    """

    ids: Tensor
    rows: Tensor
    negatives: Tensor
    window: int
    reach: Tensor | None = None

    def parts(self, count: int) -> list[Block]:
        """The same in `count` blocks, or in as many as it has tiles."""
        edges = sorted({round(len(self.negatives) * part / count) for part in range(count + 1)})
        return [
            Block(
                self.ids[first * TILE : last * TILE + 2 * self.window],
                self.rows[first * TILE : last * TILE + 2 * self.window],
                self.negatives[first:last],
                self.window,
                None if self.reach is None else self.reach[first * TILE : last * TILE],
            )
            for first, last in zip(edges[:-1], edges[1:], strict=True)
        ]

    @property
    def centres(self) -> Tensor:
        """(T,)"""
        return self.ids[self.window : -self.window]

    @cached_property
    def others(self) -> Tensor:
        """(W + T + W + N S,): all that the ids of the block are told, or told apart, from."""
        return torch.cat([self.ids, self.negatives.flatten()])

    @cached_property
    def contexts(self) -> Tensor:
        """(N, 32 + 2 W): the ids of a tile and those around them."""
        return self.ids.unfold(0, TILE + 2 * self.window, TILE)

    @cached_property
    def weights(self) -> Tensor:
        """(N, 32, 32 + 2 W): how much the pair of an id of a tile and one around it counts.

        word2vec.c draws for each id how far its window goes, 1 ... W, each as likely: a pair at distance d is used in
        W - d + 1 of W cases, and that is its weight here. With `reach` it is 1 up to there, and 0 beyond.
        """
        window, rows = self.window, self.rows.unfold(0, TILE + 2 * self.window, TILE).contiguous()
        own = self.rows[window:-window].view(-1, TILE, 1)
        distance, expected = _distances(window)
        weights = expected if self.reach is None else (distance > 0) & (distance <= self.reach.view(-1, TILE, 1))
        apart = (own - rows[:, None, :]).abs_().clamp_(max=1)  # 0 in one row, else 1; faster than to compare
        return apart.neg_().add_(1).mul_(weights)


@cache
def _distances(window: int) -> tuple[Tensor, Tensor]:
    """(32, 32 + 2 W): from each id of a tile to those around it, and the expected weight of the pair."""
    distance = (torch.arange(TILE)[:, None] + window - torch.arange(TILE + 2 * window)).abs()
    return distance, torch.where((distance > 0) & (distance <= window), 1 - (distance - 1) / window, 0.0)


@dataclass(frozen=True)
class Gradient:
    """Of rows of the two tables: ids (n,), an id maybe several times, and what each adds (n, D), to be summed."""

    inputs: tuple[Tensor, Tensor]
    outputs: tuple[Tensor, Tensor]


def rows_of(block: Block, *, mean: bool) -> tuple[Tensor, Tensor]:
    """The ids of `Gradient`, of inputs and of outputs, by `skipgram` or, with `mean`, `cbow`."""
    if mean:
        return block.ids, torch.cat([block.centres, block.negatives.flatten()])
    return block.centres, block.others


def skipgram(
    inputs: Tensor, outputs: Tensor, block: Block, *, negatives: int, room: tuple[Tensor, Tensor] | None = None
) -> Gradient:
    """Each id tells those around it: the gradient of `loss` for tables (V, D), downhill.

    negatives: as many as are told apart from each neighbour; the S of a tile stand for them, each with its share.
    room:      where the gradients of inputs and outputs are written; None: into memory of their own.
    """
    (tiles, shared), window, width = block.negatives.shape, block.window, inputs.shape[1]
    weights, length = block.weights, len(block.ids)
    centre = inputs.index_select(0, block.centres).view(tiles, TILE, width)
    fetched = outputs.index_select(0, block.others)  # those around lie in two tiles, and are fetched once
    around = fetched.as_strided((tiles, TILE + 2 * window, width), (TILE * width, width, 1))
    other = fetched[length:].view(tiles, shared, width)
    told = torch.bmm(centre, around.transpose(1, 2)).neg_().sigmoid_().mul_(weights)
    apart = torch.bmm(centre, other.transpose(1, 2)).sigmoid_().mul_(_counted(block, weights)).mul_(-negatives / shared)
    of_centre, of_others = (torch.empty_like(centre), torch.empty_like(fetched)) if room is None else room
    of_centre = of_centre.view(tiles, TILE, width)
    torch.bmm(told, around, out=of_centre).baddbmm_(apart, other)
    _add(torch.bmm(told.transpose(1, 2), centre), window, of_others[:length])
    torch.bmm(apart.transpose(1, 2), centre, out=of_others[length:].view(tiles, shared, width))
    told, others = rows_of(block, mean=False)
    return Gradient((told, of_centre.view(-1, width)), (others, of_others))


def _counted(block: Block, weights: Tensor) -> Tensor:
    """(N, 32, S): the neighbours that a negative is told apart from, by weight. Not from itself: where the two are one,
    it is left out, as in word2vec.c."""
    equal = (block.contexts.int()[:, :, None] == block.negatives.int()[:, None, :]).float()
    return weights.sum(2, keepdim=True) - torch.bmm(weights, equal)


def _add(tiles: Tensor, window: int, total: Tensor) -> None:
    """Tiles (N, 32 + 2 W, D), which overlap by 2 W, into the row (T + 2 W, D): what lies on one place is added."""
    count, _, width = tiles.shape
    total[:window] = 0
    total[-window:] = 0
    total[window:-window].view(count, TILE, width).copy_(tiles[:, window:-window])
    for own, first in ((tiles[:, :window], 0), (tiles[:, -window:], TILE + window)):
        total.as_strided((count, window, width), (TILE * width, width, 1), total.storage_offset() + first * width).add_(
            own
        )


def update(table: Tensor, ids: Tensor, gradient: Tensor, *, rate: float, places: np.ndarray | None = None) -> None:
    """Adds to each row of a table (V, D) the sum of its gradients times the rate, at most `CAP` long.

    ids: (n,). gradient: (n, D); or the gradients that are at `places` (n,) in it.
    """
    packed = np.sort((ids.numpy() << PLACES) | np.arange(len(ids)))  # by id, then by place: faster than argsort
    order, ranked = packed & ((1 << PLACES) - 1), packed >> PLACES
    first = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    order = order if places is None else places[order]
    step = embedding_bag(torch.from_numpy(order), gradient, torch.from_numpy(first), mode="sum")
    length = torch.linalg.vector_norm(step, dim=1, keepdim=True)
    step.mul_(torch.clamp(CAP / length, max=rate))
    table.index_add_(0, torch.from_numpy(ranked[first]), step)


def cbow(
    inputs: Tensor, outputs: Tensor, block: Block, *, negatives: int, room: tuple[Tensor, Tensor] | None = None
) -> Gradient:
    """Those around tell each id, from their mean: the gradient of `loss`, downhill.

    Each of n neighbours gets 1 / n of the gradient of their mean, as it has to; word2vec.c and gensim give each all of
    it (İrsoy, Benton & Stratos 2021). Arguments as of `skipgram`.
    """
    (tiles, shared), window, width = block.negatives.shape, block.window, inputs.shape[1]
    weights, centres = block.weights, block.centres
    count = weights.sum(2, keepdim=True)
    share, known = weights / count.clamp(min=1), (count > 0).float()
    around = inputs.index_select(0, block.ids)
    around = around.as_strided((tiles, TILE + 2 * window, width), (TILE * width, width, 1))
    centre = outputs.index_select(0, centres).view(tiles, TILE, width)
    other = outputs.index_select(0, block.negatives.flatten()).view(tiles, shared, width)
    mean = torch.bmm(share, around)
    told = (mean * centre).sum(2, keepdim=True).neg_().sigmoid_().mul_(known)
    different = (centres.view(tiles, TILE, 1) != block.negatives[:, None, :]).float().mul_(known)
    apart = torch.bmm(mean, other.transpose(1, 2)).sigmoid_().mul_(different).mul_(-negatives / shared)
    of_mean = (told * centre).baddbmm_(apart, other)
    told_ids, others = rows_of(block, mean=True)
    of_around, of_others = room or (around.new_empty(len(ids), width) for ids in (told_ids, others))
    _add(torch.bmm(share.transpose(1, 2), of_mean), window, of_around)
    torch.mul(told, mean, out=of_others[: len(centres)].view(tiles, TILE, width))
    torch.bmm(apart.transpose(1, 2), mean, out=of_others[len(centres) :].view(tiles, shared, width))
    return Gradient((told_ids, of_around), (others, of_others))


def loss(inputs: Tensor, outputs: Tensor, block: Block, *, negatives: int, mean: bool = False) -> Tensor:
    """What `skipgram` (or, with `mean`, `cbow`) lessens: the sum over pairs of -log s(u v), and of -log s(-u v) over
    their negatives, each S of which stand for `negatives`; s is the logistic function."""
    centre, around = block.centres.view(-1, TILE), block.contexts
    if mean:
        count = block.weights.sum(2, keepdim=True)
        told = torch.bmm((block.weights / count.clamp(min=1)).to(inputs.dtype), inputs[around])
        known = (count[..., 0] > 0).to(inputs.dtype)
        right = (logsigmoid((told * outputs[centre]).sum(2)) * known).sum()
        counted = (centre[:, :, None] != block.negatives[:, None, :]).float() * known[..., None]
    else:
        told = inputs[centre]
        right = (logsigmoid(told @ outputs[around].transpose(1, 2)) * block.weights).sum()
        counted = _counted(block, block.weights)
    wrong = logsigmoid(-(told @ outputs[block.negatives].transpose(1, 2)))
    return -right - (wrong * counted).sum() * negatives / block.negatives.shape[1]


@dataclass(frozen=True)
class Parts:
    """Ids whose vectors are composed: of their own row of a table (R, D), and of rows that they share with others.

    pointers: (V + 1,) int64. rows: (n,) int64, of id v from pointers[v] to pointers[v + 1]. count: R.

    As in fastText the vector of an id, of which cosines and means are made, is the mean of its k rows. While it learns,
    others are told from sqrt(k) times this mean, that is sum / sqrt(k), which has the same direction and is as long as
    one row at the start: a step of all k rows, each by its gradient, 1 / sqrt(k) of the vector's, then moves the vector
    as far as one row of its own would have moved. Bojanowski et al. 2017 tell others from the sum; fastText tells them
    from the mean, and moves each row by the whole gradient of the mean, not by 1 / k of it.
    """

    pointers: np.ndarray
    rows: np.ndarray
    count: int

    def of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows (m,) of some ids, one after the other, and where those of each begin (len(ids),)."""
        begin, lengths = self.pointers[ids], self.pointers[ids + 1] - self.pointers[ids]
        first = np.cumsum(lengths) - lengths
        return self.rows[np.arange(lengths.sum()) + np.repeat(begin - first, lengths)], first

    def lengths(self, ids: np.ndarray) -> Tensor:
        """(len(ids), 1) float32: of how many rows each is."""
        return torch.from_numpy((self.pointers[ids + 1] - self.pointers[ids]).astype(np.float32))[:, None]

    def means(self, table: Tensor, ids: np.ndarray) -> Tensor:
        """(len(ids), D)"""
        rows, first = self.of(ids)
        return embedding_bag(torch.from_numpy(rows), table, torch.from_numpy(first), mode="mean")

    def vectors(self, table: Tensor, ids: np.ndarray) -> Tensor:
        """(len(ids), D): what others are told from."""
        return self.means(table, ids).mul_(self.lengths(ids).sqrt_())

    def update(self, table: Tensor, ids: Tensor, gradient: Tensor, *, rate: float) -> None:
        """As the function `update`, by gradients (n, D) of the vectors of ids (n,)."""
        ids, inverse = np.unique(ids.numpy(), return_inverse=True)
        total = torch.zeros(len(ids), gradient.shape[1]).index_add_(0, torch.from_numpy(inverse), gradient)
        total.div_(self.lengths(ids).sqrt_())
        rows, first = self.of(ids)
        owners = np.repeat(np.arange(len(ids)), np.diff(first, append=len(rows)))
        update(table, torch.from_numpy(rows), total, rate=rate, places=owners)


@dataclass(frozen=True)
class Stretches:
    """Rows of ids, one after the other, as they are learnt from: a stretch of them in a pass.

    ids:    (n,) int32, -1 after each row; may be a file that is mapped into memory.
    counts: (V,) how often each id is there. size: numbers of a stretch.
    """

    ids: np.ndarray
    counts: np.ndarray
    size: int = 2**18

    def __len__(self) -> int:
        """Stretches of all rows."""
        return -(-len(self.ids) // self.size)

    def stretch(self, number: int) -> tuple[Tensor, Tensor]:
        """The ids of a stretch, and the row of each, counted from its beginning."""
        ids = np.asarray(self.ids[number * self.size : (number + 1) * self.size], dtype=np.int64)
        rows = np.cumsum(ids < 0)
        return torch.from_numpy(ids[ids >= 0]), torch.from_numpy(rows[ids >= 0])


def shared_room(ids: list[tuple[Tensor, Tensor]], width: int) -> tuple[Gradient, list[tuple[Tensor, Tensor]]]:
    """The gradient of all blocks, not filled in, and where in it that of each is. ids: `rows_of` each block."""
    whole, each = [], []
    for some in ([told for told, _ in ids], [others for _, others in ids]):
        rows = torch.cat(some) if some else torch.empty(0, dtype=torch.int64)
        whole.append((rows, torch.empty(len(rows), width)))
        each.append(whole[-1][1].split([len(of) for of in some]) if some else ())
    return Gradient(*whole), list(zip(*each, strict=True))


def own_share(blocks: list[Block]) -> slice:
    """Which of the parts of a block this process computes, of several that share the work."""
    share = -(-len(blocks) // dist.get_world_size())
    return slice(dist.get_rank() * share, (dist.get_rank() + 1) * share)


def gathered(found: Gradient, blocks: list[Block], *, mean: bool, width: int) -> Gradient:
    """The gradient of all blocks, `found` that of this process's share, in every process. Each knows the ids of all, so
    that numbers alone are sent. The steps are the same bits where the processors are alike."""
    ids = [rows_of(block, mean=mean) for block in blocks]
    share = -(-len(blocks) // dist.get_world_size())
    groups = [ids[first * share : (first + 1) * share] for first in range(dist.get_world_size())]
    sizes = [[sum(map(len, some)) for some in zip(*group, strict=True)] or [0, 0] for group in groups]
    sent = torch.zeros(max(map(sum, sizes)), width)
    numbers = torch.cat([found.inputs[1], found.outputs[1]])
    sent[: len(numbers)] = numbers
    received = [torch.empty_like(sent) for _ in groups]
    dist.all_gather(received, sent)
    parts = zip(*(all_[: sum(size)].split(size) for all_, size in zip(received, sizes, strict=True)), strict=True)
    told, others = ((torch.cat(some), torch.cat(of)) for some, of in zip(zip(*ids, strict=True), parts, strict=True))
    return Gradient(told, others)


def draw(counts: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """An id for each of numbers in [0, 1), as likely as the counts to the power `POWER`.

    Most are looked up in a table of `PLACED` places, of which each id has as many whole ones as are its share; what is
    left of its share is searched for.
    """
    share = counts.astype(np.float64) ** POWER
    share *= PLACED / share.sum()
    whole = share.astype(np.int64)
    table = np.repeat(np.arange(len(counts)), whole)
    places = uniform * PLACED
    found = table.take(places.astype(np.int64), mode="clip") if len(table) else np.empty(places.shape, np.int64)
    left = places >= len(table)
    rest = np.cumsum(share - whole)
    found[left] = np.searchsorted(rest, places[left] - len(table), side="right").clip(max=len(counts) - 1)
    return found


def other_threads(count: int) -> AbstractContextManager[ThreadPoolExecutor | None]:
    """So many beside this one, for as long as the context is open; None of none."""
    return ThreadPoolExecutor(count) if count else nullcontext()


def at_once(tasks: list[Callable[[], object]], pool: ThreadPoolExecutor | None) -> None:
    """Does all of them, the first in this thread, which would wait for the others otherwise; without others all."""
    others = [] if pool is None else [pool.submit(task) for task in tasks[1:]]
    for task in tasks if pool is None else tasks[:1]:
        task()
    for other in others:
        other.result()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Of PyTorch's: its operations here are too small to be shared, and threads would wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class NeighbourFit:
    """A fit, see `training.passes`, of vectors of ids to those around them: each pass is over one stretch.

    dim, window, negatives: as their symbols. mean: CBOW. subsample: share of all ids above which one is left out at
    times, by word2vec.c's formula; 0: never. rate: at the start; it falls in a straight line to a ten-thousandth.
    block: T. shared: S. workers: threads that share a block; processes: that share it too, by `torch.distributed`.
    parts: of ids whose vectors are composed.
    """

    dim: int
    window: int
    negatives: int
    epochs: int
    stretches: int
    rate: float
    mean: bool = False
    subsample: float = 1e-4
    block: int = 1024
    shared: int = SHARED
    workers: int = 1
    processes: int = 1
    parts: Parts | None = None

    @property
    def passes(self) -> int:
        return self.epochs * self.stretches

    @property
    def sharing(self) -> int:
        """All threads of all processes."""
        return self.workers * self.processes

    def has_converged(self, state: dict[str, Tensor]) -> bool:
        return False

    def begin(self, examples: Stretches, generator: torch.Generator) -> dict[str, Tensor]:
        """Inputs in ±1 / 2 D, outputs 0, as in word2vec.c."""
        count = len(examples.counts)
        inputs = torch.rand(count if self.parts is None else self.parts.count, self.dim, generator=generator)
        inputs = (inputs - 0.5) / self.dim
        return {"inputs": inputs, "outputs": torch.zeros(count, self.dim), "done": torch.zeros((), dtype=torch.int64)}

    def weights(self, state: dict[str, Tensor]) -> Tensor:
        """(V, D): the vectors that are kept, of composed ids the means of their rows."""
        if self.parts is None:
            return state["inputs"]
        return self.parts.means(state["inputs"], np.arange(len(state["outputs"])))

    def go_on(self, state: dict[str, Tensor], examples: Stretches, generator: torch.Generator) -> dict[str, float]:
        """One stretch. Returns the loss of a pair, over a block in its middle, and the rate by then."""
        done = int(state["done"])
        blocks = self.blocks(*examples.stretch(done % len(examples)), examples.counts, generator)
        measured, outputs = {}, state["outputs"]
        inputs = state["inputs"] if self.parts is None else torch.zeros_like(outputs)
        with other_threads(self.workers - 1) as pool, one_thread_each():
            for place, block in enumerate(blocks):
                rate = self.rate * max(1e-4, 1 - (done + place / len(blocks)) / self.passes)
                if self.parts is not None:
                    ids = np.unique(block.ids.numpy())
                    inputs[torch.from_numpy(ids)] = self.parts.vectors(state["inputs"], ids)
                if place == len(blocks) // 2:
                    of_pairs = float(loss(inputs, outputs, block, negatives=self.negatives, mean=self.mean))
                    measured = {"loss": of_pairs / max(self.pairs(block), 1.0), "learning_rate": rate}
                self.step(state, self.gradient(inputs, outputs, block, pool), pool, rate=rate)
        state["done"] += 1
        return measured

    def gradient(self, inputs: Tensor, outputs: Tensor, block: Block, pool: ThreadPoolExecutor | None) -> Gradient:
        """Of a block, whose parts threads and processes share."""
        compute = partial(cbow if self.mean else skipgram, inputs, outputs, negatives=self.negatives)
        if self.sharing == 1:
            return compute(block)
        blocks = block.parts(self.sharing)
        own = blocks[own_share(blocks)] if self.processes > 1 else blocks
        found, rooms = shared_room([rows_of(part, mean=self.mean) for part in own], self.dim)
        at_once([partial(compute, part, room=room) for part, room in zip(own, rooms, strict=True)], pool)
        return gathered(found, blocks, mean=self.mean, width=self.dim) if self.processes > 1 else found

    def step(self, state: dict[str, Tensor], found: Gradient, pool: ThreadPoolExecutor | None, *, rate: float) -> None:
        """Moves the rows of both tables."""
        of_inputs = update if self.parts is None else self.parts.update
        steps = [
            partial(of_inputs, state["inputs"], *found.inputs, rate=rate),
            partial(update, state["outputs"], *found.outputs, rate=rate),
        ]
        at_once(steps, pool)

    def held_out(self, state: dict[str, Tensor], examples: Stretches, generator: torch.Generator) -> float:
        """The loss of a pair over the first stretch of rows that are not learnt from."""
        total, pairs, inputs = 0.0, 0.0, state["inputs"]
        if self.parts is not None:
            inputs = self.parts.vectors(inputs, np.arange(len(state["outputs"])))
        for block in self.blocks(*examples.stretch(0), examples.counts, generator):
            of_pairs = loss(inputs, state["outputs"], block, negatives=self.negatives, mean=self.mean)
            total, pairs = total + float(of_pairs), pairs + self.pairs(block)
        return total / max(pairs, 1.0)

    def pairs(self, block: Block) -> float:
        """What `loss` is a sum over: pairs by their weight or, with `mean`, ids that have neighbours."""
        of_each = block.weights.sum(2)
        return float((of_each > 0).sum() if self.mean else of_each.sum())

    def blocks(self, ids: Tensor, rows: Tensor, counts: np.ndarray, generator: torch.Generator) -> list[Block]:
        """A stretch without the frequent ids that are left out, in blocks, the last one filled up with none."""
        kept = torch.rand(len(ids), generator=generator) < torch.from_numpy(self.keep(counts))[ids]
        ids, rows = ids[kept], rows[kept]
        number = max(1, -(-len(ids) // self.block))
        before, after = self.window, number * self.block - len(ids) + self.window
        ids = pad(ids, (before, after))
        rows = torch.cat([-1.0 - torch.arange(before), rows.float(), -1.0 - before - torch.arange(after)])
        drawn = torch.rand(number, self.block // TILE, self.shared, dtype=torch.float64, generator=generator)
        negatives = torch.from_numpy(draw(counts, drawn.numpy()))
        reach = torch.randint(1, self.window + 1, (number, self.block), generator=generator) if self.mean else None
        blocks = []
        for place in range(number):
            part = slice(place * self.block, (place + 1) * self.block + 2 * self.window)
            far = None if reach is None else reach[place]
            blocks.append(Block(ids[part], rows[part], negatives[place], self.window, far))
        return blocks

    def keep(self, counts: np.ndarray) -> np.ndarray:
        """(V,) float32: how likely an occurrence of an id stays, (sqrt(f / t) + 1) t / f of its share f, at most 1."""
        if self.subsample == 0:
            return np.ones(len(counts), dtype=np.float32)
        of_limit = self.subsample * counts.sum() / np.maximum(counts, 1)
        return np.minimum(1, np.sqrt(of_limit) + of_limit).astype(np.float32)
