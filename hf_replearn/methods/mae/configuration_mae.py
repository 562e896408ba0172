"""Configuration of masked autoencoders (He et al. 2022, arXiv:2111.06377)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class MAEConfig(ImageMethodConfig):
    """Encoder f, a Vision Transformer, and a small one as decoder g; names are those of transformers' ViTMAEConfig.

    mask_ratio:    share of the patches that is hidden.
    norm_pix_loss: whether the pixels of each hidden patch are told after its mean is taken off and it is divided by its
                   deviation.
    """

    model_type = "mae"

    mask_ratio: float = 0.75
    norm_pix_loss: bool = True
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16


__all__ = ["MAEConfig"]
