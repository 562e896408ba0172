"""Prototypical networks: Prototypical Networks for Few-shot Learning (arXiv:1703.05175)."""

from hf_replearn.methods.trunk import register

from .configuration_protonet import ProtoNetConfig
from .modeling_protonet import ProtoNetForPreTraining, ProtoNetModel, prototype_logits

register(ProtoNetConfig, ProtoNetModel, ProtoNetForPreTraining)

__all__ = ["ProtoNetConfig", "ProtoNetForPreTraining", "ProtoNetModel", "prototype_logits"]
