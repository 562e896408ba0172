"""What networks on graphs add to the story of vectors of nodes: the graph as they see it, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_replearn.data.graphs import Graph
from hf_replearn.encoders.gnn import write_network
from hf_replearn.errors import InputError
from hf_replearn.evaluation.graphs import features_of, unordered
from hf_replearn.methods.gnn import GraphFit, Nodes
from hf_replearn.training.passes import alone

DRAWS = 10  # of what is hidden or shuffled, over which the loss is a mean


def nodes_of(settings: Any, graph: Graph) -> Nodes:
    """The graph on the device that it is learnt on. Raises InputError for one whose nodes have no features."""
    features = features_of(graph)
    if features is None or not features.nnz:
        raise InputError(
            f"{graph.name} has no features of its nodes, which --method {settings.method} learns from: give them, in "
            "--nodes or as x, or learn from the edges alone, by --method deepwalk"
        )
    return Nodes.of(unordered(graph), features).to(alone(use_cpu=settings.use_cpu).device)


def write(fit: GraphFit, state: dict[str, Tensor], folder: Path) -> None:
    """The network that is kept, for torch_geometric."""
    network = fit.encoder(state)
    write_network(network.kind, network.arguments, network.state_dict(), folder)


def losses(settings: Any, fit: GraphFit, state: dict[str, Tensor], examples: Nodes) -> dict[str, dict[str, float]]:
    """The loss of this run's network and of one with random weights, over the same draws."""
    untrained = fit.begin(examples, torch.Generator().manual_seed(settings.seed))
    return {
        row: {"loss": fit.loss(of, examples, seeds=range(DRAWS))}
        for row, of in {"this run": state, "random weights": untrained}.items()
    }
