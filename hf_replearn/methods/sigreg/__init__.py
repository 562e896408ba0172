"""LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics (arXiv:2511.08544)."""

from hf_replearn.methods.trunk import register

from .configuration_sigreg import SIGRegConfig
from .modeling_sigreg import SIGRegForPreTraining, SIGRegModel, draw_slices, lejepa, sigreg

register(SIGRegConfig, SIGRegModel, SIGRegForPreTraining)

__all__ = ["SIGRegConfig", "SIGRegForPreTraining", "SIGRegModel", "draw_slices", "lejepa", "sigreg"]
