"""Deep Graph Infomax (arXiv:1809.10341)."""

from .modeling_dgi import DGI, deep_graph_infomax

__all__ = ["DGI", "deep_graph_infomax"]
