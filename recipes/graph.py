"""Vectors of the nodes of a graph: DeepWalk, node2vec and LINE, by which a node tells those that are near it.

    hf-replearn graph --dataset toy --walks 20 --output_dir out/toy
    hf-replearn graph --dataset edges.csv --method deepwalk --output_dir out/nodes
    hf-replearn graph --dataset cora.npz --method node2vec --p 1 --q 0.5 --output_dir out/node2vec
    hf-replearn graph --dataset edges.parquet --nodes nodes.parquet --method line --output_dir out/line
    python recipes/graph.py --config recipes/configs/graph/cora.yaml --dataset cora.npz --output_dir out/cora

The walks are texts and the nodes words: skip-gram with negative sampling, as `hf-replearn word2vec` has it (Perozzi et
al. used hierarchical softmax). LINE learns from edges instead, half of each vector by each of its two orders. The
result is embeddings.safetensors, with the ids in its metadata, and nodes.txt in word2vec's text format:

    hf_replearn.nearest("out/nodes", "person-007")

On one CPU core 30 million steps of uniform walks are drawn in a second, and about half a million nodes learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import GraphMethod, GraphSettings, Method, run, setting
from hf_replearn.settings import MOST_WORKERS

WALKS = {"deepwalk": (80, 40), "node2vec": (10, 80)}  # from each node, and nodes of each, as in the papers
OF_WALKS = ("walks", "walk_length", "window")
OF_SKIPGRAM = ("dim", "negatives", "learning_rate", "workers")


@dataclass(kw_only=True)
class GraphRunSettings(GraphSettings):
    method: Literal["deepwalk", "node2vec", "line"] = setting(
        "deepwalk",
        "deepwalk: uniform walks; node2vec: walks that --p and --q bias; line: edges",
        section="model",
    )
    dim: int = setting(128, "numbers of a vector", section="model", at_least=2, at_most=65_536)
    walks: int | None = setting(
        None, "walks from each node; none: 80 of deepwalk, 10 of node2vec", section="training", at_least=1
    )
    walk_length: int | None = setting(
        None, "nodes of a walk; none: 40 of deepwalk, 80 of node2vec", section="training", at_least=2, at_most=10_000
    )
    window: int = setting(
        10, "nodes before and after one in a walk, at most, that it tells", section="training", at_least=1, at_most=1000
    )
    p: float = setting(
        1.0, "node2vec: the larger, the less a walk goes back at once", section="training", above=0, at_most=1e6
    )
    q: float = setting(
        0.5, "node2vec: below 1 a walk goes far, above it stays near", section="training", above=0, at_most=1e6
    )
    edge_passes: int = setting(200, "line: passes over all edges", section="training", at_least=1)
    negatives: int = setting(
        5, "nodes that each neighbour is told apart from", section="training", at_least=1, at_most=10_000
    )
    learning_rate: float = setting(
        0.025, "at the start; it falls in a straight line", section="training", above=0, at_most=10
    )
    workers: int = setting(1, "threads that share the work", section="training", at_least=1, at_most=MOST_WORKERS)


# ---- what each learns from, and how


def neighbours(graph):
    import numpy as np

    from hf_replearn.methods.walks import Neighbours

    lists = graph.adjacency
    return Neighbours(lists.indptr.astype(np.int64), lists.indices.astype(np.int64), directed=graph.directed)


def walks(settings: GraphRunSettings, graph):
    from hf_replearn.methods.walks import Walks

    usual = WALKS[settings.method]
    passes, length = settings.walks or usual[0], settings.walk_length or usual[1]
    bias = {"p": settings.p, "q": settings.q} if settings.method == "node2vec" else {}
    return Walks(neighbours(graph), passes, length, settings.seed, **bias)


def edges(settings: GraphRunSettings, graph):
    from hf_replearn.methods.walks import Edges

    return Edges(graph.edges, len(graph), settings.edge_passes, settings.seed)


def fit_walks(settings: GraphRunSettings, examples):
    from hf_replearn.methods.walks import WalkFit

    return WalkFit(
        settings.dim,
        settings.window,
        settings.negatives,
        epochs=1,
        stretches=len(examples),
        rate=settings.learning_rate,
        subsample=0,
        workers=settings.workers,
    )


def fit_line(settings: GraphRunSettings, examples):
    from hf_replearn.methods.walks import LineFit

    return LineFit(settings.dim, settings.negatives, len(examples), settings.learning_rate, settings.workers)


def loss_of_pairs(settings: GraphRunSettings, fit, state, examples) -> dict[str, dict[str, float]]:
    """On other walks or another order of the edges, beside vectors that know nothing."""
    from dataclasses import replace

    import torch

    others = replace(examples, seed=settings.seed + 1)
    untrained = fit.begin(examples, torch.Generator().manual_seed(0))
    return {
        name: {"loss of a pair (nats)": fit.held_out(found, others, torch.Generator().manual_seed(0))}
        for name, found in {"this run": state, "random vectors": untrained}.items()
    }


def by_skipgram(facts: Method, *, own: tuple[str, ...], examples=walks, fit=fit_walks) -> GraphMethod:
    return GraphMethod(
        facts=facts,
        own=OF_SKIPGRAM + own,
        examples=examples,
        fit=fit,
        own_task=loss_of_pairs,
        told="On pairs of the same graph, drawn anew, each beside its negatives.",
        smaller=("loss of a pair (nats)",),
        on_cpu=True,
    )


# ---- a --method hands over its facts, its own settings, what it learns from and its fit: see GraphMethod

METHODS = {
    "deepwalk": by_skipgram(
        own=OF_WALKS,
        facts=Method(
            name="DeepWalk",
            summary="A node tells the nodes around it in random walks from among others that are drawn at random, by "
            "its vector; no features and no labels are used.",
            paper="DeepWalk: Online Learning of Social Representations",
            arxiv="1403.6652",
            bibtex="""\
@inproceedings{perozzi2014deepwalk,
  title     = {{DeepWalk}: Online Learning of Social Representations},
  author    = {Perozzi, Bryan and Al-Rfou, Rami and Skiena, Steven},
  booktitle = {Proceedings of the 20th ACM SIGKDD International Conference on Knowledge Discovery and Data Mining},
  year      = {2014}
}""",
            model_class="hf_replearn.encoders.graphs.NodeVectors",
        ),
    ),
    "node2vec": by_skipgram(
        own=(*OF_WALKS, "p", "q"),
        facts=Method(
            name="node2vec",
            summary="A node tells the nodes around it in random walks, which two parameters keep near or send far, "
            "from among others that are drawn at random, by its vector; no features and no labels are used.",
            paper="node2vec: Scalable Feature Learning for Networks",
            arxiv="1607.00653",
            bibtex="""\
@inproceedings{grover2016node2vec,
  title     = {node2vec: Scalable Feature Learning for Networks},
  author    = {Grover, Aditya and Leskovec, Jure},
  booktitle = {Proceedings of the 22nd ACM SIGKDD International Conference on Knowledge Discovery and Data Mining},
  year      = {2016}
}""",
            model_class="hf_replearn.encoders.graphs.NodeVectors",
        ),
    ),
    "line": by_skipgram(
        own=("edge_passes",),
        examples=edges,
        fit=fit_line,
        facts=Method(
            name="LINE",
            summary="A node tells its neighbours from among others that are drawn at random, half of its vector by "
            "their vectors, half by what they are as neighbours; no features and no labels are used.",
            paper="LINE: Large-scale Information Network Embedding",
            arxiv="1503.03578",
            bibtex="""\
@inproceedings{tang2015line,
  title     = {{LINE}: Large-scale Information Network Embedding},
  author    = {Tang, Jian and Qu, Meng and Wang, Mingzhe and Zhang, Ming and Yan, Jun and Mei, Qiaozhu},
  booktitle = {Proceedings of the 24th International Conference on World Wide Web},
  year      = {2015}
}""",
            model_class="hf_replearn.encoders.graphs.NodeVectors",
        ),
    ),
}
METHOD = METHODS["deepwalk"]  # of a checkpoint: its circumstances say which of them it is of


def main(settings: GraphRunSettings, **given):
    """Vectors of the nodes of a graph, by which a node tells those that are near it."""
    from hf_replearn.pretraining.graphs import learn_nodes

    return learn_nodes(settings, METHODS, **given)


if __name__ == "__main__":
    run(main, GraphRunSettings, prog="graph")
