"""Image GPT: Generative Pretraining from Pixels (Chen et al. 2020)."""

from .configuration_image_gpt import ImageGPTPretrainingConfig
from .modeling_image_gpt import ImageGPTEncoder, ImageGPTForPreTraining, Layers, MaskedPixelEncoder
from .palette import fit_palette

__all__ = [
    "ImageGPTEncoder", "ImageGPTForPreTraining", "ImageGPTPretrainingConfig", "Layers", "MaskedPixelEncoder",
    "fit_palette",
]  # fmt: skip
