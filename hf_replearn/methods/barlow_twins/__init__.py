"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction (arXiv:2103.03230)."""

from hf_replearn.methods.trunk import register

from .configuration_barlow_twins import BarlowTwinsConfig
from .modeling_barlow_twins import BarlowTwinsForPreTraining, BarlowTwinsModel, barlow_twins

register(BarlowTwinsConfig, BarlowTwinsModel, BarlowTwinsForPreTraining)

__all__ = ["BarlowTwinsConfig", "BarlowTwinsForPreTraining", "BarlowTwinsModel", "barlow_twins"]
