"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (arXiv:2002.05709)."""

from transformers import AutoConfig, AutoModel, AutoModelForPreTraining

from .collating_simclr import DataCollatorForSimCLR
from .configuration_simclr import SimCLRConfig
from .modeling_simclr import SimCLRForPreTraining, SimCLRModel, nt_xent

AutoConfig.register(SimCLRConfig.model_type, SimCLRConfig, exist_ok=True)
AutoModel.register(SimCLRConfig, SimCLRModel, exist_ok=True)
AutoModelForPreTraining.register(SimCLRConfig, SimCLRForPreTraining, exist_ok=True)
for model, auto in (SimCLRModel, "AutoModel"), (SimCLRForPreTraining, "AutoModelForPreTraining"):
    model.register_for_auto_class(auto)  # save_pretrained copies the code beside the weights
SimCLRConfig.register_for_auto_class()

__all__ = ["DataCollatorForSimCLR", "SimCLRConfig", "SimCLRForPreTraining", "SimCLRModel", "nt_xent"]
