"""Principal components (Pearson 1901, Hotelling 1933) and independent ones (Comon 1994, Hyvärinen 1999)."""

from hf_replearn.methods.fitted import register

from .configuration_components import ComponentsConfig
from .fitting_components import IndependentComponents, PrincipalComponents
from .modeling_components import ComponentsModel

register(ComponentsConfig, ComponentsModel)

__all__ = ["ComponentsConfig", "ComponentsModel", "IndependentComponents", "PrincipalComponents"]
