"""CLIP (arXiv:2103.00020) and SigLIP (arXiv:2303.15343)."""

from .configuration_clip import CLIPPreTrainingConfig
from .modeling_clip import CLIPForPreTraining, clip_loss, siglip_loss

__all__ = ["CLIPForPreTraining", "CLIPPreTrainingConfig", "clip_loss", "siglip_loss"]
