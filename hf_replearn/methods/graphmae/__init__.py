"""GraphMAE (arXiv:2205.10803)."""

from .modeling_graphmae import GraphMAE, scaled_cosine_error

__all__ = ["GraphMAE", "scaled_cosine_error"]
