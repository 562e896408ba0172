"""Vectors by their neighbours: pairs and weights by hand, gradients by loops and autograd, draws by frequencies."""

import itertools
import math

import forked
import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from hf_replearn.encoders.subwords import NgramVectors, Subwords, cut_words
from hf_replearn.encoders.words import WordVectors
from hf_replearn.methods.skipgram import (
    CAP,
    SHARED,
    TILE,
    Block,
    NeighbourFit,
    Parts,
    Stretches,
    cbow,
    draw,
    loss,
    other_threads,
    skipgram,
    update,
)

GRADIENTS = {False: skipgram, True: cbow}


def block_of(documents: list[list[int]], *, window: int, reach: int | None = None, negatives=None) -> Block:
    """Documents one after the other, filled up to whole tiles."""
    ids = [word for document in documents for word in document]
    rows = [number for number, document in enumerate(documents) for _ in document]
    length = -(-len(ids) // TILE) * TILE
    more = length - len(ids)
    if negatives is None:
        negatives = torch.randint(0, max(ids) + 1, (length // TILE, SHARED))
    return Block(
        torch.tensor([0] * window + ids + [0] * (more + window)),
        torch.tensor([*range(-window, 0), *rows, *range(-window - more - window, -window)], dtype=torch.float32),
        negatives,
        window,
        None if reach is None else torch.full((length,), reach),
    )


def pairs(block: Block) -> dict[tuple[int, int], float]:
    """(place of the centre, place of its neighbour) -> weight."""
    found = {}
    for tile, centre, other in block.weights.nonzero().tolist():
        place = (tile * TILE + centre, tile * TILE + other - block.window)
        found[place] = float(block.weights[tile, centre, other])
    return found


def test_the_pairs_of_the_quick_brown_fox():
    """The figure of the lecture: a window of two words on each side, all of it."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    found = pairs(block_of([list(range(9))], window=2, reach=2))
    assert set(found.values()) == {1.0}
    told = [(words[centre], words[other]) for centre, other in sorted(found) if centre < 4]
    assert told == [
        ("the", "quick"), ("the", "brown"),
        ("quick", "the"), ("quick", "brown"), ("quick", "fox"),
        ("brown", "the"), ("brown", "quick"), ("brown", "fox"), ("brown", "jumps"),
        ("fox", "quick"), ("fox", "brown"), ("fox", "jumps"), ("fox", "over"),
    ]  # fmt: skip


def test_pairs_weigh_as_often_as_word2vec_draws_them():
    """word2vec.c draws how far the window of each word goes; over 20,000 draws that is the weight."""
    length, window = 70, 4
    drawn = np.zeros((length, length))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        for centre, reach in enumerate(rng.integers(1, window + 1, length)):
            drawn[centre, max(0, centre - reach) : centre + reach + 1] += 1 / 2000
    np.fill_diagonal(drawn, 0)
    found = np.zeros((length, length))
    for place, weight in pairs(block_of([list(range(length))], window=window)).items():
        found[place] = weight
    assert set(np.unique(found).round(6)) == {0, 0.25, 0.5, 0.75, 1}
    np.testing.assert_allclose(found, drawn, atol=0.06)


def test_no_pair_goes_across_documents_and_none_is_of_filling():
    documents = [[1], [2, 3], list(range(40)), [5, 6, 7]]
    rows = [number for number, document in enumerate(documents) for _ in document]
    found = pairs(block_of(documents, window=5))
    assert found and all(max(place) < len(rows) and rows[place[0]] == rows[place[1]] for place in found)
    assert not any(0 in place for place in found)  # a document of one word has no neighbour


def test_a_block_in_parts_is_the_same_block():
    block = block_of([list(range(100))], window=3, reach=2)
    whole = pairs(block)
    parts = block.parts(3)
    assert [len(part.negatives) for part in parts] == [1, 2, 1]
    shifted, first = {}, 0
    for part in parts:
        shifted |= {(a + first, b + first): weight for (a, b), weight in pairs(part).items()}
        first += len(part.negatives) * TILE
    assert shifted == whole


def by_loops(inputs, outputs, block, *, negatives, mean):
    """The loss, pair by pair. A negative that is the neighbour, or with CBOW the word itself, is left out."""
    total, ids = 0.0, block.centres.tolist()
    around = {place: [] for place in range(len(ids))}
    for (centre, other), weight in pairs(block).items():
        around[centre].append((ids[other], weight))
    for place, found in around.items():
        others = block.negatives[place // TILE].tolist()
        if mean and found:
            found = [(ids[place], 1.0)]
            told = torch.stack([inputs[ids[b]] for a, b in pairs(block) if a == place]).mean(0)
        else:
            told = inputs[ids[place]]
        for target, weight in found:
            total = total - weight * logsigmoid(told @ outputs[target])
            for other in others:
                if other != target:
                    total = total - weight * negatives / SHARED * logsigmoid(-told @ outputs[other])
    return total


@pytest.mark.parametrize("mean", [False, True], ids=["skipgram", "cbow"])
def test_the_gradient_is_that_of_the_loss(mean):
    """Against autograd through loops over pairs, in float64, on words that occur several times."""
    vocabulary, width, negatives = 50, 8, 5
    inputs, outputs = (torch.randn(vocabulary, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    documents = [torch.randint(0, vocabulary, (length,)).tolist() for length in (40, 1, 17, 30)]
    block = block_of(documents, window=3, reach=2 if mean else None)
    wanted = by_loops(inputs, outputs, block, negatives=negatives, mean=mean)
    told = loss(inputs, outputs, block, negatives=negatives, mean=mean)
    torch.testing.assert_close(told, wanted, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(wanted, (inputs, outputs))
    found = GRADIENTS[mean](inputs.detach().float(), outputs.detach().float(), block, negatives=negatives)
    for (ids, gradient), right in zip((found.inputs, found.outputs), wanted, strict=True):
        summed = torch.zeros(vocabulary, width).index_add_(0, ids, gradient)
        torch.testing.assert_close(summed, -right.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_threads_that_share_a_block_find_its_gradient(mean, workers):
    """Also where there are fewer tiles than threads."""
    inputs, outputs = (torch.randn(50, 8) for _ in range(2))
    documents = [torch.randint(0, 50, (length,)).tolist() for length in (40, 1, 17, 70)]
    block = block_of(documents, window=3, reach=2 if mean else None)
    fit = NeighbourFit(8, 3, 5, epochs=1, stretches=1, rate=0.025, mean=mean, workers=workers)
    with other_threads(workers - 1) as pool:
        found = fit.gradient(inputs, outputs, block, pool)
    wanted = GRADIENTS[mean](inputs, outputs, block, negatives=5)
    for few, many in ((wanted.inputs, found.inputs), (wanted.outputs, found.outputs)):
        one, other = (torch.zeros(50, 8).index_add_(0, *some) for some in (few, many))
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_negative_that_is_the_neighbour_is_left_out():
    """All negatives are word 1: from the pair (0, 1) nothing is told apart, from (1, 0) word 1 is."""
    block = block_of([[0, 1]], window=1, negatives=torch.ones(1, SHARED, dtype=torch.int64))
    inputs, outputs = torch.eye(2), torch.zeros(2, 2)
    found = skipgram(inputs, outputs, block, negatives=5)
    step = torch.zeros(2, 2).index_add_(0, *found.outputs)
    # word 0 is told from 1: + 1/2; word 1 from 0: + 1/2, and apart from word 1 five times: - 5/2
    torch.testing.assert_close(step, torch.tensor([[0.0, 0.5], [0.5, -2.5]]))


def test_a_row_moves_by_the_sum_of_its_gradients_but_not_far():
    table = torch.zeros(4, 2)
    gradient = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [100.0, 0.0]])
    update(table, torch.tensor([2, 0, 2, 3]), gradient, rate=0.01)
    torch.testing.assert_close(table, torch.tensor([[0.0, 0.02], [0, 0], [0.04, 0], [CAP, 0]]))


def corpus(*, words: int = 60, length: int = 20_000, seed: int = 0) -> Stretches:
    """Documents of words by Zipf's law, each of even words alone or of odd ones."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, words // 2 + 1)
    found = []
    for document in range(length // 25):
        found += [*(2 * rng.choice(words // 2, 25, p=chance / chance.sum()) + document % 2), -1]
    ids = np.array(found, dtype=np.int32)
    return Stretches(ids, np.bincount(ids[ids >= 0], minlength=words), size=8192)


def fit(examples: Stretches, **more) -> NeighbourFit:
    about = {"epochs": 2, "stretches": len(examples), "rate": 0.05, "subsample": 0.0, "block": 256} | more
    return NeighbourFit(16, 4, 5, **about)


def learnt(examples: Stretches, **more) -> dict[str, torch.Tensor]:
    made = fit(examples, **more)
    state = made.begin(examples, torch.Generator().manual_seed(0))
    for number in range(made.passes):
        measured = made.go_on(state, examples, torch.Generator().manual_seed(number))
        assert math.isfinite(measured["loss"])
    return state


@pytest.mark.parametrize("mean", [False, True], ids=["skipgram", "cbow"])
def test_words_with_the_same_neighbours_come_to_lie_near(mean):
    examples = corpus()
    state = learnt(examples, mean=mean)
    unit = torch.nn.functional.normalize(state["inputs"][:40], dim=1)
    similar, same = unit @ unit.T, torch.arange(40)[:, None] % 2 == torch.arange(40) % 2
    inside = similar[same & ~torch.eye(40, dtype=torch.bool)].mean()
    assert inside > similar[~same].mean() + 0.1
    begun = fit(examples, mean=mean).begin(examples, torch.Generator().manual_seed(0))
    held_out = [fit(examples, mean=mean).held_out(s, corpus(seed=1), torch.Generator()) for s in (state, begun)]
    assert held_out[0] < held_out[1] - 0.2 and abs(held_out[1] - 6 * math.log(2)) < 0.25


def test_two_threads_learn_what_one_does():
    examples = corpus(length=4000)
    one, two = (learnt(examples, workers=workers) for workers in (1, 2))
    for name in ("inputs", "outputs"):
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)


def test_nothing_diverges_in_large_blocks():
    """Where a row has hundreds of gradients at once: without the cap this is not finite."""
    state = learnt(corpus(words=10), block=4096, rate=0.5)
    assert all(table.isfinite().all() for table in state.values())


def test_frequent_words_are_left_out_as_in_word2vec():
    """A word of share f stays with (sqrt(f / t) + 1) t / f, by hand of f = 0.8, 0.16 and 0.04, with t = 0.01."""
    counts = np.array([80_000, 16_000, 4_000])
    keep = fit(corpus(), subsample=0.01).keep(counts)
    np.testing.assert_allclose(keep, [0.111803 + 0.0125, 0.25 + 0.0625, 0.5 + 0.25], rtol=1e-5)
    ids = torch.from_numpy(np.repeat(np.arange(3), counts))
    made = fit(corpus(), subsample=0.01)
    blocks = made.blocks(ids, torch.zeros_like(ids), counts, torch.Generator().manual_seed(0))
    kept = sum(torch.bincount(block.centres[block.rows[4:-4] >= 0], minlength=3) for block in blocks)
    np.testing.assert_allclose(kept / torch.from_numpy(counts), keep, rtol=0.05)


def test_negatives_are_drawn_by_frequency_to_three_quarters():
    from scipy.stats import chisquare

    counts = np.array([1000, 500, 100, 10, 1])
    ids = torch.zeros(100_000, dtype=torch.int64)
    blocks = fit(corpus()).blocks(ids, ids, counts, torch.Generator().manual_seed(0))
    drawn = np.bincount(torch.cat([block.negatives.flatten() for block in blocks]).numpy(), minlength=5)
    chance = counts**0.75
    assert chisquare(drawn, drawn.sum() * chance / chance.sum()).pvalue > 0.01


def test_ids_that_have_no_place_in_the_table_are_drawn_as_often_as_others():
    """Of a million ids those of one count each, and an eighth that occur 16 times: 2^(3/4 * 4) = 8 times as likely."""
    counts = np.ones(1_000_000, dtype=np.int64)
    counts[::8] = 16
    counts[1] = 0
    drawn = draw(counts, np.random.default_rng(0).random((40, 5000)))
    assert drawn.shape == (40, 5000) and drawn.min() >= 0 and drawn.max() < len(counts) and not (drawn == 1).any()
    frequent = (drawn % 8 == 0).mean()
    assert abs(frequent - 8 / 15) < 4 * (8 / 15 * 7 / 15 / drawn.size) ** 0.5
    for some in (drawn[drawn % 8 == 0], drawn[drawn % 8 > 0]):  # and all over them
        assert abs(np.bincount(some // 100_000, minlength=10) / len(some) - 0.1).max() < 0.01


def test_every_word_of_a_corpus_is_in_one_stretch():
    ids = np.array([*range(10), -1, *range(7), -1, -1, 3, 4, -1], dtype=np.int32)
    examples = Stretches(ids, np.bincount(ids[ids >= 0]), size=4)
    found = [examples.stretch(number) for number in range(len(examples))]
    assert list(itertools.chain(*(some.tolist() for some, _ in found))) == ids[ids >= 0].tolist()
    assert found[2][1].tolist() == [0, 0, 1]  # 8, 9, end, 0


def test_a_stretch_of_empty_documents_is_no_fault():
    examples = Stretches(np.array([-1, -1], dtype=np.int32), np.array([3, 4]), size=4)
    made = fit(examples)
    state = made.begin(examples, torch.Generator().manual_seed(0))
    made.go_on(state, examples, torch.Generator().manual_seed(1))
    assert state["outputs"].abs().max() == 0 and state["inputs"].isfinite().all()


@pytest.mark.parametrize("mean", [False, True], ids=["skip-gram", "cbow"])
def test_negatives_count_as_many_as_are_told_apart_however_many_a_tile_shares(mean):
    """Four times the same negatives are these once: the same loss, the same gradient."""
    torch.manual_seed(0)
    once = torch.randint(0, 20, (2, SHARED))
    inputs, outputs = torch.randn(20, 6), torch.randn(20, 6)
    found = []
    for negatives in (once, once.repeat(1, 4)):
        block = block_of([torch.randint(0, 20, (40,), generator=torch.Generator().manual_seed(1)).tolist()],
                         window=3, negatives=negatives)  # fmt: skip
        gradient = GRADIENTS[mean](inputs, outputs, block, negatives=5)
        sums = [torch.zeros(20, 6).index_add_(0, *pair) for pair in (gradient.inputs, gradient.outputs)]
        found.append([loss(inputs, outputs, block, negatives=5, mean=mean), *sums])
    for one, four in zip(*found, strict=True):
        torch.testing.assert_close(one, four, rtol=1e-5, atol=1e-5)


# ---- vectors that are composed of rows


def parts_of(vocabulary: int, shared: int, *, seed: int = 0) -> Parts:
    """Each id has its own row and up to four of those that ids share, one maybe twice."""
    rng = np.random.default_rng(seed)
    rows = [[number, *(vocabulary + rng.integers(0, shared, rng.integers(0, 5)))] for number in range(vocabulary)]
    pointers = np.concatenate([[0], np.cumsum([len(some) for some in rows])])
    return Parts(pointers, np.concatenate(rows).astype(np.int64), vocabulary + shared)


@pytest.mark.parametrize("mean", [False, True], ids=["skipgram", "cbow"])
def test_the_gradient_of_composed_vectors_is_that_of_the_loss(mean):
    """Of a block against autograd through sums over rows in float64, each by the root of their number."""
    vocabulary, width, rate = 30, 8, 1e-4
    parts = parts_of(vocabulary, 12)
    table = torch.randn(parts.count, width, dtype=torch.float64, requires_grad=True)
    outputs = torch.randn(vocabulary, width, dtype=torch.float64)
    block = block_of([torch.randint(0, vocabulary, (length,)).tolist() for length in (40, 1, 17)], window=3,
                     reach=2 if mean else None)  # fmt: skip
    edges = parts.pointers.tolist()
    rows = [parts.rows[first:last] for first, last in zip(edges[:-1], edges[1:], strict=True)]
    composed = torch.stack([table[some].sum(0) / len(some) ** 0.5 for some in rows])
    (wanted,) = torch.autograd.grad(loss(composed, outputs, block, negatives=5, mean=mean), table)
    single, every = table.detach().float(), np.arange(vocabulary)
    vectors = parts.vectors(single, every)
    torch.testing.assert_close(vectors, composed.detach().float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        parts.means(single, every), torch.stack([single[some].mean(0) for some in rows]), rtol=1e-5, atol=1e-6
    )
    found = GRADIENTS[mean](vectors, outputs.float(), block, negatives=5)
    moved = torch.zeros_like(single)
    parts.update(moved, *found.inputs, rate=rate)
    assert moved.abs().max() < CAP / 2
    torch.testing.assert_close(moved / rate, -wanted.float(), rtol=1e-5, atol=1e-5)


def test_ids_of_one_row_each_learn_what_they_do_without_parts():
    """Composed of nothing but themselves, they go the same way."""
    examples = corpus(length=4000)
    plain, composed = learnt(examples), learnt(examples, parts=Parts(np.arange(61), np.arange(60), 60))
    torch.testing.assert_close(plain["inputs"], composed["inputs"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mean", [False, True], ids=["skipgram", "cbow"])
def test_a_word_that_was_never_met_lies_near_its_stem(mean):
    """Planted: words of two topics, stems with endings; `stem` + `ing` are met for all stems but one of each topic."""
    rng = np.random.default_rng(0)
    stems = {topic: ["".join(rng.choice(list("bdfgklmnprst"), 6)) for _ in range(8)] for topic in (0, 1)}
    words = [f"{stem}{end}" for topic in stems for stem in stems[topic] for end in ("", "s", "ed", "ing")]
    unseen = [f"{stems[topic][0]}ing" for topic in stems]
    vocabulary = [word for word in words if word not in unseen]
    of_topic = {topic: [n for n, word in enumerate(vocabulary) if any(word.startswith(s) for s in stems[topic])]
                for topic in stems}  # fmt: skip
    documents = [np.append(rng.choice(of_topic[number % 2], 25), -1) for number in range(600)]
    ids = np.concatenate(documents).astype(np.int32)
    examples = Stretches(ids, np.bincount(ids[ids >= 0], minlength=len(vocabulary)), size=8192)
    subwords = Subwords(3, 6)
    cut = cut_words(vocabulary, subwords)
    parts = Parts(cut.pointers, cut.rows, len(vocabulary) + len(cut.buckets))
    shares = {}
    for name, epochs in {"learnt": 6, "at random": 0}.items():
        made = fit(examples, parts=parts, mean=mean, epochs=max(epochs, 1), rate=0.2 if mean else 0.05)
        state = made.begin(examples, torch.Generator().manual_seed(0))
        for number in range(epochs * len(examples)):
            made.go_on(state, examples, torch.Generator().manual_seed(number))
        ngrams = NgramVectors(subwords, cut.buckets, state["inputs"][len(vocabulary) :].numpy())
        found = WordVectors(vocabulary, made.weights(state).numpy(), None, ngrams)
        centred = found.vectors - found.vectors.mean(0)
        own = []
        for topic, word in enumerate(unseen):
            composed = found.compose(word) - found.vectors.mean(0)
            cosines = centred @ composed / np.linalg.norm(centred, axis=1) / np.linalg.norm(composed)
            stem = np.array([word[:6] in other for other in vocabulary])
            assert cosines[stem].mean() > cosines[~stem].mean() + 0.3  # learnt or not: they share its parts
            same = np.array([n in of_topic[topic] for n in range(len(vocabulary))])
            own.append(cosines[same & ~stem].mean() - cosines[~same].mean())
        shares[name] = min(own)
    assert shares["learnt"] > 0.6 > 0.4 > abs(shares["at random"])  # and it has learnt of which topic they are


# ---- several processes


def test_two_processes_learn_the_bits_of_two_threads(tmp_path):
    """And so what one learns: skip-gram, and CBOW of composed vectors by two threads each, with one tile too few."""
    examples = corpus(length=2000)
    ways = {"skipgram": {}, "cbow": {"mean": True, "parts": parts_of(60, 20), "workers": 2, "block": 96}}

    def together() -> None:
        torch.distributed.init_process_group("gloo")
        for name, more in ways.items():
            state = learnt(examples, processes=2, **more)
            torch.save(state, tmp_path / f"{name} {torch.distributed.get_rank()}.pt")
        torch.distributed.destroy_process_group()

    processes = forked.start(together, tmp_path / "log", processes=2)
    assert processes.wait(60) == [0, 0], processes.printed()
    for name, more in ways.items():
        one = learnt(examples, **more | {"workers": 2 * more.get("workers", 1)})
        for rank in range(2):
            found = torch.load(tmp_path / f"{name} {rank}.pt")
            assert all(torch.equal(found[table], one[table]) for table in ("inputs", "outputs"))
