"""Vectors of the nodes of a graph: by which a node tells those that are near it (DeepWalk, node2vec, LINE), or which a
network makes of the features of a node and those around it (DGI, GraphMAE).

    hf-replearn graph --dataset toy --walks 20 --output_dir out/toy
    hf-replearn graph --dataset cora.npz --method dgi --output_dir out/dgi
    hf-replearn graph --dataset cora.npz --method dgi --link_split 0 --output_dir out/links
    hf-replearn graph --dataset edges.csv --method deepwalk --output_dir out/nodes
    hf-replearn graph --dataset cora.npz --method node2vec --p 1 --q 0.5 --output_dir out/node2vec
    hf-replearn graph --dataset edges.parquet --nodes nodes.parquet --method line --output_dir out/line
    python recipes/graph.py --config recipes/configs/graph/cora.yaml --dataset cora.npz --output_dir out/cora

The walks are texts and the nodes words: skip-gram with negative sampling, as `hf-replearn word2vec` has it (Perozzi et
al. used hierarchical softmax). LINE learns from edges instead, half of each vector by each of its two orders. The
result is embeddings.safetensors, with the ids in its metadata, and nodes.txt in word2vec's text format:

    hf_replearn.nearest("out/nodes", "person-007")

DGI and GraphMAE are fitted to the whole graph at once, and leave their network too: a GCN or GAT in model.safetensors,
which torch_geometric loads. Vectors are judged at the end, beside what is known without learning, by classes of nodes
where they are known, and with --link_split by edges that are held out.

On one CPU core 20 million steps of uniform walks are drawn in a second, and some 300,000 nodes of them learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import GraphMethod, GraphSettings, Method, later, run, setting
from hf_replearn.settings import MOST_WORKERS

WALKS = {"deepwalk": (80, 40), "node2vec": (10, 80)}  # from each node, and nodes of each, as in the papers
OF_WALKS = ("walks", "walk_length", "window")
OF_SKIPGRAM = ("dim", "negatives", "learning_rate", "workers")
OF_NETWORKS = ("dim", "steps", "learning_rate")
DIM, RATE, STEPS = {"dgi": 512, "graphmae": 512}, {"dgi": 0.001, "graphmae": 0.001}, {"dgi": 10_000, "graphmae": 1500}


@dataclass(kw_only=True)
class GraphRunSettings(GraphSettings):
    method: Literal["deepwalk", "node2vec", "line", "dgi", "graphmae"] = setting(
        "deepwalk",
        "deepwalk: uniform walks; node2vec: walks that --p and --q bias; line: edges; of nodes with features dgi: a "
        "network tells the graph's nodes from those with shuffled features; graphmae: it tells hidden features",
        section="model",
    )
    dim: int | None = setting(
        None,
        "numbers of a vector; none: 128, of dgi and graphmae 512",
        section="model",
        at_least=2,
        at_most=65_536,
    )
    heads: int = setting(4, "graphmae: of a layer's attention", section="model", at_least=1, at_most=1024)
    layers: int = setting(2, "graphmae: of the network", section="model", at_least=1, at_most=16)
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
    learning_rate: float | None = setting(
        None,
        "at the start; none: 0.025, which falls in a straight line; 0.001 of dgi, where it stays, and of graphmae, "
        "where it falls along a cosine",
        section="training",
        above=0,
        at_most=10,
    )
    steps: int | None = setting(
        None,
        "dgi, graphmae: over the whole graph; none: 1,500 of graphmae, 10,000 of dgi, which --patience ends before",
        section="training",
        at_least=1,
    )
    patience: int = setting(
        20, "dgi: steps without a smaller loss, after which it ends", section="training", at_least=1
    )
    mask: float = setting(
        0.5, "graphmae: share of the nodes whose features are hidden", section="training", above=0, at_most=1
    )
    replaced: float = setting(
        0.05,
        "graphmae: share of these that get another node's features instead",
        section="training",
        at_least=0,
        at_most=1,
    )
    gamma: float = setting(
        3.0, "graphmae: power of the loss: the larger, the less counts what is told well", section="training",
        at_least=1, at_most=100,
    )  # fmt: skip
    weight_decay: float = setting(
        2e-4, "graphmae: of Adam, times a weight, added to its gradient", section="training", at_least=0, at_most=10
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

    if graph.directed:
        raise InputError("--directed: line learns from both ends of an edge alike; leave it out, or take deepwalk")
    if dim_of(settings) % 2:
        raise InputError(
            f"--dim {settings.dim}: half of a vector of line is of each of its orders: give an even number"
        )
    return Edges(graph.edges, len(graph), settings.edge_passes, settings.seed)


def fit_walks(settings: GraphRunSettings, examples):
    from hf_replearn.methods.walks import WalkFit

    return WalkFit(
        dim_of(settings),
        settings.window,
        settings.negatives,
        epochs=1,
        stretches=len(examples),
        rate=rate_of(settings),
        subsample=0,
        shared=64,  # a tile of a walk lies in one part of the graph: with fewer, negatives are as good as left out
        workers=settings.workers,
    )


def fit_line(settings: GraphRunSettings, examples):
    from hf_replearn.methods.walks import LineFit

    return LineFit(dim_of(settings), settings.negatives, len(examples), rate_of(settings), settings.workers)


def dim_of(settings: GraphRunSettings) -> int:
    return settings.dim or DIM.get(settings.method, 128)


def rate_of(settings: GraphRunSettings) -> float:
    return settings.learning_rate or RATE.get(settings.method, 0.025)


def fit_dgi(settings: GraphRunSettings, examples):
    from hf_replearn.methods.dgi import DGI
    from hf_replearn.methods.gnn import GraphFit

    return GraphFit(
        lambda inputs: DGI(inputs, dim_of(settings)),
        settings.steps or STEPS["dgi"],
        rate_of(settings),
        patience=settings.patience,
    )


def fit_graphmae(settings: GraphRunSettings, examples):
    from hf_replearn.methods.gnn import GraphFit
    from hf_replearn.methods.graphmae import GraphMAE

    if dim_of(settings) % settings.heads:
        raise InputError(f"--heads {settings.heads} share the {dim_of(settings)} numbers of --dim: give one that does")

    def network(inputs: int):
        given = {name: getattr(settings, name) for name in ("layers", "heads", "mask", "replaced")}
        return GraphMAE(inputs, dim_of(settings), power=settings.gamma, **given)

    return GraphFit(
        network,
        settings.steps or STEPS["graphmae"],
        rate_of(settings),
        weight_decay=settings.weight_decay,
        cosine=True,
    )


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


def by_network(facts: Method, *, own: tuple[str, ...], fit, told: str, architecture: str) -> GraphMethod:
    return GraphMethod(
        facts=facts,
        own=OF_NETWORKS + own,
        examples=later("hf_replearn.pretraining.gnn.nodes_of"),
        fit=fit,
        own_task=later("hf_replearn.pretraining.gnn.losses"),
        told=told,
        smaller=("loss",),
        write=later("hf_replearn.pretraining.gnn.write"),
        architecture=architecture,
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
    "dgi": by_network(
        own=("patience",),
        fit=fit_dgi,
        told="Cross entropy (nats) of telling nodes from those of shuffled features, over 10 orders; 0.693 is chance.",
        architecture="GCN",
        facts=Method(
            name="DGI",
            summary="A summary of the whole graph tells the vectors of its nodes, which a network makes of their "
            "features and those around them, from those of a graph whose features are shuffled; no labels are used.",
            paper="Deep Graph Infomax",
            arxiv="1809.10341",
            bibtex="""\
@inproceedings{velickovic2019deep,
  title     = {Deep Graph Infomax},
  author    = {Veličković, Petar and Fedus, William and Hamilton, William L. and Liò, Pietro and
               Bengio, Yoshua and Hjelm, R Devon},
  booktitle = {International Conference on Learning Representations},
  year      = {2019}
}""",
            model_class="hf_replearn.methods.dgi.DGI",
        ),
    ),
    "graphmae": by_network(
        own=("heads", "layers", "mask", "replaced", "gamma", "weight_decay"),
        fit=fit_graphmae,
        told="Scaled cosine error of features that are hidden, over 10 choices of nodes; 0 is perfect.",
        architecture="GAT",
        facts=Method(
            name="GraphMAE",
            summary="The features of some nodes are hidden, and told by the vectors that a network makes of those "
            "around them; no labels are used.",
            paper="GraphMAE: Self-Supervised Masked Graph Autoencoders",
            arxiv="2205.10803",
            bibtex="""\
@inproceedings{hou2022graphmae,
  title     = {{GraphMAE}: Self-Supervised Masked Graph Autoencoders},
  author    = {Hou, Zhenyu and Liu, Xiao and Cen, Yukuo and Dong, Yuxiao and Yang, Hongxia and Wang, Chunjie and
               Tang, Jie},
  booktitle = {Proceedings of the 28th ACM SIGKDD Conference on Knowledge Discovery and Data Mining},
  year      = {2022}
}""",
            model_class="hf_replearn.methods.graphmae.GraphMAE",
        ),
    ),
}
METHOD = METHODS["deepwalk"]  # of a checkpoint: its circumstances say which of them it is of


def main(settings: GraphRunSettings, **given):
    """Vectors of the nodes of a graph, by which a node tells those that are near it, or made of their features."""
    from hf_replearn.pretraining.graphs import learn_nodes

    return learn_nodes(settings, METHODS, **given)


if __name__ == "__main__":
    run(main, GraphRunSettings, prog="graph")
