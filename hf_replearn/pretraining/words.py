"""The story of vectors of words: documents, words, folder, fit, the vectors in the formats of other libraries, their
neighbours, report, card, upload."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset
from tokenizers import Tokenizer
from torch import Tensor
from transformers import set_seed

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sources import Source
from hf_replearn.data.text import Corpus, load_corpora
from hf_replearn.data.words import batches, number
from hf_replearn.encoders.subwords import Cut, NgramVectors, Subwords, cut_words
from hf_replearn.encoders.words import WordVectors, learn_words, read_words, words_of, write_words
from hf_replearn.errors import InputError
from hf_replearn.methods.skipgram import NeighbourFit, Parts, Stretches
from hf_replearn.pretraining.recipe import WordMethod, WordSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.passes import Passes, on_cpus

RARE = 0.9  # place of the rare words that are shown, as a share of all, the most frequent first
SHOWN = 6  # words of each kind whose neighbours are shown
MAP, MAPPED = "map.png", 150


@dataclass(frozen=True)
class Words:
    """What is learnt from.

    tokenizer: knows the words; number n + 1 is word n. train, test: the documents as their numbers.
    fingerprint: of these words and numbers.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    train: Stretches
    test: Stretches
    fingerprint: str


def learn_vectors(
    settings: WordSettings, method: WordMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Learns the vectors of `method`, saves, describes and shares them. Arguments as of `pretrain_texts`.

    Raises InputError before anything is learnt for whatever the user has to mend.
    """
    # 1. Data. What can be wrong with the input is found out here.
    out, process, subwords = Path(settings.output_dir), on_cpus(), check_subwords(settings)
    with process.first_alone():
        if process.is_first:
            check_folder(settings)
            repo_id = check_sharing(settings)
        words = open_words(settings, source)
    known = words_of(words.tokenizer)
    cut = None if subwords is None else cut_words(known, subwords)
    given = circumstances(settings, data=words.fingerprint, processes=process.world_size)
    checkpoint = find_checkpoint(settings, given, args=process)
    set_seed(settings.seed)
    parts = None if cut is None else Parts(cut.pointers, cut.rows, len(known) + len(cut.buckets))
    fit = method.fit(settings, len(words.train), processes=process.world_size, parts=parts)
    if process.is_first:
        claim_folder(settings)
        tell(settings, words, cut)

    # 2. Fit, and save
    def vectors(state: dict[str, Tensor]) -> WordVectors:
        ngrams = None if cut is None else NgramVectors(subwords, cut.buckets, state["inputs"][len(known) :].numpy())
        return WordVectors(known, fit.weights(state).numpy(), words.tokenizer, ngrams)

    def write(state: dict[str, Tensor], folder: Path) -> None:
        write_words(vectors(state), folder, recipe=method.command, text=False)

    passes = Passes(
        fit,
        words.train,
        out,
        write,
        given,
        seed=settings.seed,
        save_steps=settings.save_steps,
        keep=settings.save_total_limit,
        device=process.device,
        writes=process.is_first,
    )
    state = passes.run(checkpoint)
    if not process.is_first:
        return Run(out)
    learnt = vectors(state)
    write_words(learnt, out, recipe=method.command)

    # 3. What they are like, and share them
    report = describe(settings, method, words, learnt, passes)
    report.command = command or report.command
    report.save(out)
    show(report, settings, words, learnt, partial(held_out, fit, state, words))
    write_results(report, out, repo_id=repo_id)
    print(f"\n{report.samples}\n\nvectors and card: {out}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


# ---- data


def check_subwords(settings: WordSettings) -> Subwords | None:
    """How words are cut into parts; None: not at all. Raises InputError."""
    if settings.subwords is None:
        if settings.buckets is not None:
            raise InputError(f"--buckets {settings.buckets} is of --subwords, such as 3-6: give both, or neither")
        return None
    return Subwords.of(settings.subwords, settings.buckets)


def open_words(settings: WordSettings, source: Source | None) -> Words:
    """Documents, their words, and the numbers of these. Raises InputError."""
    corpus = load_corpora(
        settings.dataset if source is None else (source,),
        text_column=settings.text_column,
        config=settings.dataset_config,
        streaming=settings.streaming,
        files=settings.files,
    )
    tokenizer = learn_words(
        (text for some in batches(corpus.train) for text in some),
        lowercase=settings.lowercase,
        min_count=settings.min_count,
        most=settings.vocab_size,
    )
    known = tokenizer.get_vocab_size() - 1
    if known < 2:
        raise InputError(
            f"{known} words occur at least {settings.min_count} times, and vectors of words are learnt from one "
            "another: give more text, or lower --min_count"
        )
    digest = hashlib.sha256("\n".join(words_of(tokenizer)).encode())
    train, test = (number(part, tokenizer, settings.output_dir, digest) for part in (corpus.train, corpus.test))
    counts = np.zeros(known, dtype=np.int64)
    for first in range(0, len(train), 2**24):
        part = train[first : first + 2**24]
        counts += np.bincount(part[part >= 0], minlength=known)
    if counts.sum() <= settings.window:
        raise InputError(
            f"the text has {counts.sum()} words that are known, and the window is of {settings.window}: give more "
            "text, or lower --window"
        )
    return Words(corpus, tokenizer, Stretches(train, counts), Stretches(test, counts), digest.hexdigest()[:16])


def tell(settings: WordSettings, words: Words, cut: Cut | None) -> None:
    """What is learnt from, and what was left out of it."""
    write_skipped(Path(settings.output_dir, "skipped_texts.txt"), words.corpus.left_out)
    print(words.corpus.taken)
    counts = words.train.counts
    print(
        f"{counts.sum():,} words, {len(counts):,} different ones that occur at least {settings.min_count} times; log: "
        f"{settings.output_dir}/log.jsonl"
    )
    if cut is not None:
        each = len(cut.rows) / len(counts) - 1
        print(
            f"{len(cut.buckets):,} vectors of parts of words of {settings.subwords} characters, {each:.1f} a word on "
            "average"
        )


# ---- result


def export(method: WordMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the vectors of a checkpoint as a run leaves them."""
    write_words(read_words(checkpoint), out, recipe=method.command)


def describe(
    settings: WordSettings, method: WordMethod, words: Words, learnt: WordVectors, passes: Passes
) -> facts.Report:
    """The facts of this run for its report and card."""
    corpus, streamed = words.corpus, isinstance(words.corpus.train, IterableDataset)
    seen = int(words.train.counts.sum()) * settings.num_train_epochs
    summary = passes.summary(examples=1) | {"examples": seen}
    summary["examples_per_second"] = seen / max(summary["seconds"], 1e-9)
    return facts.Report(
        method=method.facts,
        encoder=facts.Encoder(
            library="sentence-transformers",
            pipeline_tag="sentence-similarity",
            architecture="StaticEmbedding",
            parameters=learnt.vectors.size + (0 if learnt.ngrams is None else learnt.ngrams.vectors.size),
            features=settings.dim,
            input_size=[1],
        ),
        data=facts.Data(
            name=corpus.name,
            hub_id=corpus.hub_id,
            unit="document",
            train=None if streamed else len(corpus.train),
            test=None if streamed else len(corpus.test),
            skipped=0,
            classes=None,
            held_out=corpus.test_source,
        ),
        training=facts.Training(**summary),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


# ---- for show


def show(report: facts.Report, settings: WordSettings, words: Words, learnt: WordVectors, own_task: Any) -> None:
    """Its own task, neighbours and analogies as text, and a map, into the report; each may fail by itself."""
    report.own_task, _ = try_to_show("how well it does its own task", own_task)
    if report.own_task is not None:
        print(f"\n{report.own_task.table()}")
    said, note = try_to_show("neighbours of words", partial(in_words, learnt, words.train.counts, settings.analogies))
    report.samples = note if said is None else said
    if learnt.ngrams is not None:
        said, note = try_to_show("words without a vector of their own", partial(composed, learnt, words.corpus))
        report.samples += "\n" + (note if said is None else said)
    if try_to_show(MAP, partial(draw_map, learnt, Path(settings.output_dir, MAP)))[0]:
        report.figures[MAP] = (
            f"The {min(MAPPED, len(learnt.words))} most frequent words but the 100 before them, by t-SNE of the "
            "directions of their vectors: words that are near lie near; distances across the map say nothing."
        )


def held_out(fit: NeighbourFit, state: dict[str, Tensor], words: Words) -> facts.OwnTask:
    """The loss of a pair in documents held out, beside that of vectors that know nothing."""
    untrained = fit.begin(words.train, torch.Generator().manual_seed(0))
    losses = {
        name: {"loss of a pair (nats)": fit.held_out(found, words.test, torch.Generator().manual_seed(0))}
        for name, found in {"this run": state, "random vectors": untrained}.items()
    }
    told = "On pairs of neighbours in documents held out, each beside its negatives."
    return facts.OwnTask(told=told, rows=losses, smaller=["loss of a pair (nats)"])


def in_words(learnt: WordVectors, counts: np.ndarray, analogies: Iterable[str]) -> str:
    """The neighbours of some frequent and some rare words, and what it makes of analogies, as plain text."""
    frequent = range(min(100, len(counts) // 2), len(counts), max(1, len(counts) // 100))
    rare = range(int(RARE * len(counts)), len(counts), max(1, len(counts) // 100))
    lines = []
    for kind, places in (("frequent", frequent), ("rare", rare)):
        lines.append(f"nearest to {kind} words:")
        for place in islice(places, SHOWN):
            word = learnt.words[place]
            near = ", ".join(f"{other} {cosine:.2f}" for other, cosine in learnt.nearest(word, 8))
            lines.append(f"  {word} ({counts[place]:,} times): {near}")
    told = []
    for asked in analogies:
        terms = [term.strip() for term in asked.split(",")]
        if len(terms) == 3 and all(term.lower() in learnt.places for term in terms):
            a, b, c = terms
            found = ", ".join(f"{word} {cosine:.2f}" for word, cosine in learnt.analogy(a, b, c, 4))
            told.append(f"  {a} : {b} = {c} : {found}")
    return "\n".join([*lines, *(["analogies:", *told] if told else [])])


def composed(learnt: WordVectors, corpus: Corpus) -> str:
    """How many words of the documents held out have a vector by their parts alone, and the neighbours of some."""
    counts = Counter(
        word
        for some in batches(corpus.test)
        for text in some
        for word in learnt.cut(text)
        if learnt.place(word) is None
    )
    found = [word for word, _ in counts.most_common() if learnt.compose(word) is not None]
    lines = [
        f"words of the documents held out without a vector of their own: {len(counts):,} different ones, "
        f"{len(found):,} of which have one by their parts ({learnt.ngrams.subwords} characters)"
    ]
    for word in found[:SHOWN]:
        lines.append(f"  {word}: {', '.join(f'{other} {cosine:.2f}' for other, cosine in learnt.nearest(word, 8))}")
    return "\n".join(lines)


def draw_map(learnt: WordVectors, path: Path) -> bool:
    """Frequent words on a plane, by t-SNE of their directions; returns whether there was one to draw."""
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    first = 100 if len(learnt.words) >= 100 + MAPPED else 0
    shown = learnt.words[first : first + MAPPED]
    if len(shown) < 10:
        return False
    perplexity = min(15.0, (len(shown) - 1) / 3)
    tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0)
    points = tsne.fit_transform(learnt.directions[first : first + MAPPED])
    figure = Figure(figsize=(9, 9))
    axes = figure.add_axes((0.05, 0.02, 0.9, 0.96))
    axes.scatter(*points.T, s=0)
    for word, (x, y) in zip(shown, points, strict=True):
        axes.text(x, y, word.replace("$", r"\$"), fontsize=8, ha="center", va="center")
    axes.set_axis_off()
    figure.savefig(path, dpi=110, format="png")
    return True
