"""Words a second of word2vec, ours and gensim's, on the same text with the same subsampling.

    pip install -e '.[bench]'
    python -m benchmarks.word2vec --dataset path/to/text                 # one thread each, CPU time
    python -m benchmarks.word2vec --dataset path/to/text --workers 2     # two each, wall clock
    python -m benchmarks.word2vec --dataset path/to/text --subwords 3-6  # with parts of words, and gensim's FastText

Both train on numbers or lists of words that are in memory, with vocabulary and tables made before; a piece of the text
at a time, by turns, so that what else the machine does falls on both. Printed are raw words, before subsampling.

Tried of several workers: PyTorch's own threads in each operation (20 times slower where others use the cores too, for
each operation waits for all threads); the parts of a block put together by one thread, which others wait for (a sixth
of the CPU time); threads that write their parts into one place, the first of them the caller (kept); of the rows that
move half to each thread, and not a table to each, which are of unequal size (a fifth slower: more small operations).
Tables that all change without waiting, as gensim's are, would give other bits in each run.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="as of hf-replearn word2vec")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--subsample", type=float, default=1e-4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--subwords", help="as of hf-replearn word2vec")
    parser.add_argument("--turns", type=int, default=8, help="stretches of the text, of a million words each")
    asked = parser.parse_args()
    try:
        from gensim.models import FastText, Word2Vec
    except ImportError:
        sys.exit("gensim is not installed: pip install -e '.[bench]'")
    ours, theirs = contestants(asked, FastText if asked.subwords else Word2Vec)
    rates: dict[str, list[float]] = {"hf_replearn": [], "gensim": []}
    for turn in range(asked.turns):
        for name, run in (("hf_replearn", ours), ("gensim", theirs))[:: 1 if turn % 2 else -1]:
            begun, wall = cpu_seconds(), time.perf_counter()
            words = run(turn)
            used, passed = cpu_seconds() - begun, time.perf_counter() - wall
            rates[name].append(words / (used if asked.workers == 1 else passed))
            print(f"turn {turn}: {name:12} {words / used:12,.0f} words a CPU second {words / passed:12,.0f} a second")
    middle = {name: median(found[1:] or found) for name, found in rates.items()}  # the first turn warms up
    unit = "CPU second" if asked.workers == 1 else "second"
    for name, rate in middle.items():
        print(f"{name:12} {rate:12,.0f} words a {unit}, the median of turns; best {max(rates[name]):12,.0f}")
    ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
    ratio = middle["hf_replearn"] / middle["gensim"]
    print(f"ratio of medians {ratio:.2f}; of single turns {min(ratios):.2f} to {max(ratios):.2f}")


def cpu_seconds() -> float:
    """Of this process and all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def contestants(asked, peer):
    """Two functions that train on a stretch and return its number of raw words."""
    import numpy as np
    import torch

    from hf_replearn.data.text import load_corpora
    from hf_replearn.data.words import batches, number
    from hf_replearn.encoders.subwords import Subwords, cut_words
    from hf_replearn.encoders.words import learn_words, words_of
    from hf_replearn.methods.skipgram import NeighbourFit, Parts, Stretches
    from hf_replearn.recipes.word2vec import BLOCK

    corpus = load_corpora((asked.dataset,))
    texts = (text for some in batches(corpus.train) for text in some)
    tokenizer = learn_words(texts, lowercase=True, min_count=5, most=None)
    words = words_of(tokenizer)
    ids = number(corpus.train, tokenizer, tempfile.gettempdir())
    counts = np.bincount(ids[ids >= 0], minlength=len(words))
    size = min(2**20, len(ids))
    examples = Stretches(ids, counts, size=2**18)
    per_turn = max(1, size // examples.size)
    print(f"{counts.sum():,} words, {len(words):,} different ones")
    parts, more = None, {}
    if asked.subwords:
        subwords = Subwords.of(asked.subwords, None)
        cut = cut_words(words, subwords)
        parts = Parts(cut.pointers, cut.rows, len(words) + len(cut.buckets))
        more = {"min_n": subwords.shortest, "max_n": subwords.longest, "bucket": subwords.buckets}
    fit = NeighbourFit(
        asked.dim,
        asked.window,
        asked.negatives,
        epochs=5,
        stretches=len(examples),
        rate=0.025,
        subsample=asked.subsample,
        block=BLOCK,
        workers=asked.workers,
        parts=parts,
    )
    state = fit.begin(examples, torch.Generator().manual_seed(0))

    def ours(turn: int) -> int:
        seen = 0
        for place in range(per_turn):
            seen += len(examples.stretch(int(state["done"]) % len(examples))[0])
            fit.go_on(state, examples, torch.Generator().manual_seed(turn * per_turn + place))
        return seen

    theirs = peer(
        vector_size=asked.dim,
        window=asked.window,
        negative=asked.negatives,
        sample=asked.subsample,
        sg=1,
        min_count=5,
        workers=asked.workers,
        seed=0,
        **more,
    )
    theirs.build_vocab_from_freq(dict(zip(words, counts.tolist(), strict=True)), corpus_count=len(corpus.train))
    stretches = {}

    def lists(turn: int) -> list[list[str]]:
        place = turn % max(1, len(ids) // size)
        part = np.asarray(ids[place * size : (place + 1) * size])
        ends = np.flatnonzero(part < 0)
        return [[words[word] for word in some if word >= 0] for some in np.split(part, ends + 1)]

    for turn in range(asked.turns):
        stretches[turn] = [some for some in lists(turn) if some]

    def gensims(turn: int) -> int:
        seen = sum(map(len, stretches[turn]))
        theirs.train(stretches[turn], total_words=seen, epochs=1, start_alpha=0.025, end_alpha=0.02)
        return seen

    return ours, gensims


if __name__ == "__main__":
    main()
