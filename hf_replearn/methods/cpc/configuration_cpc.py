"""Configuration of CPC (van den Oord et al. 2018, arXiv:1807.03748; Hénaff et al. 2020, arXiv:1905.09272)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class CPCConfig(ImageMethodConfig):
    """patch_size, stride: pixels of a patch, and from one to the next (paper: 64 and 32, of 256).
    farthest:       rows ahead that are told, at most; the nearest is the first that shares no pixel (paper: 5).
    directions:     of prediction: "one", downwards; "two", also upwards; "four", also left and right (version 2).
    context_layers: residual blocks of a context network, each of which sees one row more (version 2: 5).
    context_hidden: width inside of them (256). projection_dim: width in which patches are compared (64).
    """

    model_type = "cpc"

    patch_size: int = 64
    stride: int = 32
    farthest: int = 5
    directions: str = "four"
    context_layers: int = 5
    context_hidden: int = 256
    projection_dim: int = 64

    @property
    def nearest(self) -> int:
        """Rows ahead from which on a patch shares no pixel with what the context saw."""
        return -(-self.patch_size // self.stride)


__all__ = ["CPCConfig"]
