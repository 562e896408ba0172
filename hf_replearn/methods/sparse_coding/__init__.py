"""Sparse codes (Olshausen & Field 1996) over dictionaries that are learnt (Mairal et al. 2009)."""

from hf_replearn.methods.fitted import register

from .configuration_sparse_coding import SparseCodingConfig
from .fitting_sparse_coding import GivenDictionary, LearntDictionary
from .modeling_sparse_coding import SparseCodingModel

register(SparseCodingConfig, SparseCodingModel)

__all__ = ["GivenDictionary", "LearntDictionary", "SparseCodingConfig", "SparseCodingModel"]
