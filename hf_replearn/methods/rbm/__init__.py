"""Restricted Boltzmann machines, one on top of another (Smolensky 1986; Hinton 2002; Hinton, Osindero & Teh 2006)."""

from hf_replearn.methods.fitted import register

from .configuration_rbm import RBMConfig
from .fitting_rbm import BoltzmannMachines
from .modeling_rbm import RBMModel

register(RBMConfig, RBMModel)

__all__ = ["BoltzmannMachines", "RBMConfig", "RBMModel"]
