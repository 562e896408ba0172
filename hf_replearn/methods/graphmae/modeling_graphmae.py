"""GraphMAE (Hou et al. 2022, arXiv:2205.10803)."""

import torch
from torch import Tensor, nn

from hf_replearn.methods.gnn import GNN, GATConv, Lin, Nodes, dropout


def scaled_cosine_error(told: Tensor, real: Tensor, power: float) -> Tensor:
    """Mean of (1 - cosine)^γ over nodes (equation 2).

    told, real: features (n, D). power: γ, at least 1: the larger, the less what is told well counts.
    """
    lengths = torch.linalg.vector_norm(told, dim=1) * torch.linalg.vector_norm(real, dim=1)
    return (1 - (told * real).sum(1) / lengths.clamp(min=1e-12)).pow(power).mean()


class GraphMAE(nn.Module):
    """A GAT, as an encoder f, and a layer of another that tells the features of nodes whose own were hidden, as a head
    g, after the vectors of these nodes were hidden again.

    mask: share of the nodes that are hidden. replaced: share of these that get another node's features in place of
    the mask. power: γ of the loss. dropout, attention_dropout: as of a GNN. The dropout of the mask itself is one for
    all hidden nodes of a step.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        layers: int = 2,
        heads: int = 4,
        mask: float = 0.5,
        replaced: float = 0.05,
        power: float = 3.0,
    ):
        super().__init__()
        self.mask, self.replaced, self.power = mask, replaced, power
        self.encoder = GNN("GAT", inputs, outputs, layers=layers, heads=heads, dropout=0.2, attention_dropout=0.1)
        self.token = nn.Parameter(torch.zeros(1, inputs))
        self.to_decoder = Lin(outputs, outputs)
        self.decoder = GATConv(outputs, inputs, 1, attention_dropout=0.1)

    def hide(self, nodes: Nodes, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The projected features (N, F) as the encoder sees them, and the nodes that are hidden (n,)."""
        device = nodes.values.device
        order = torch.randperm(nodes.count, generator=generator, device=device)
        hidden = order[: max(1, int(self.mask * nodes.count))]
        other = int(self.replaced * len(hidden))
        masked, changed = hidden[other:], hidden[:other]
        taken = torch.randperm(nodes.count, generator=generator, device=device)[:other]
        projected = self.encoder.project(nodes, generator)
        token = dropout(self.token, self.encoder.dropout, generator) @ self.encoder.convs[0].lin.weight.T
        seen = projected.index_copy(0, changed, projected[taken])
        return seen.index_copy(0, masked, token.expand(len(masked), -1)), hidden

    def tell(self, vectors: Tensor, hidden: Tensor, nodes: Nodes, generator: torch.Generator) -> Tensor:
        """What the decoder makes of the vectors (N, F), for the hidden nodes: (n, D).

        A layer of GAT with one head, whose matrix is applied after what a node hears is summed, which is the same and
        takes a part of the time: D is large, and only some nodes are told.
        """
        x = nn.functional.linear(vectors, self.to_decoder.weight)
        x = dropout(x.index_fill(0, hidden, 0.0), self.encoder.dropout, generator)
        matrix = self.decoder.lin.weight
        of_source, of_target = (x @ (of[0, 0] @ matrix)[:, None] for of in (self.decoder.att_src, self.decoder.att_dst))
        attention = self.decoder.attention(of_source, of_target, nodes)
        heard = nodes.messages.times(dropout(attention, self.decoder.attention_dropout, generator)[:, 0], x)
        return nn.functional.linear(heard[hidden], matrix, self.decoder.bias)

    def forward(self, nodes: Nodes, generator: torch.Generator) -> Tensor:
        """The loss () of the hidden nodes."""
        projected, hidden = self.hide(nodes, generator)
        told = self.tell(self.encoder(nodes, projected, generator), hidden, nodes, generator)
        return scaled_cosine_error(told, rows_of(nodes, hidden), self.power)


def rows_of(nodes: Nodes, places: Tensor) -> Tensor:
    """The features of some nodes as they are: (n, D)."""
    pattern = nodes.features
    count = pattern.starts.diff()[places]
    of = torch.repeat_interleave(torch.arange(len(places), device=count.device), count)
    first = torch.repeat_interleave(pattern.starts[places] - (count.cumsum(0) - count), count)
    numbers = first + torch.arange(len(of), device=count.device)
    dense = nodes.values.new_zeros(len(places), nodes.width)
    return dense.index_put((of, pattern.columns[numbers]), nodes.values[numbers])
