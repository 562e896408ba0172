"""Deep Graph Infomax (Veličković et al. 2019, arXiv:1809.10341)."""

import torch
from torch import Tensor, nn

from hf_replearn.methods.gnn import GNN, Nodes, glorot


def deep_graph_infomax(real: Tensor, shuffled: Tensor, bilinear: Tensor) -> Tensor:
    """How badly a summary of the whole graph tells its nodes from those of a graph whose features are shuffled: binary
    cross entropy (equations 1, 3 and 4), the mean over all nodes of both.

    real, shuffled: vectors of the nodes (N, F). bilinear: W (F, F); a node h belongs with the probability σ(hᵀ W s).
    """
    summary = real.mean(0).sigmoid()
    direction = bilinear @ summary
    softplus = nn.functional.softplus
    return (softplus(-(real @ direction)).mean() + softplus(shuffled @ direction).mean()) / 2


class DGI(nn.Module):
    """A GCN of one layer, as an encoder f, and what tells nodes by their graph, as a head g."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.encoder = GNN("GCN", inputs, outputs)
        self.weight = glorot(outputs, outputs)

    def forward(self, nodes: Nodes, generator: torch.Generator) -> Tensor:
        """The loss ()."""
        projected = self.encoder.project(nodes)  # of shuffled features it is the same, shuffled
        order = torch.randperm(nodes.count, generator=generator, device=projected.device)
        shuffled = self.encoder(nodes, projected.index_select(0, order))
        return deep_graph_infomax(self.encoder(nodes, projected), shuffled, self.weight)
