"""Configuration of a dual encoder under CLIP's or SigLIP's loss (arXiv:2103.00020, arXiv:2303.15343)."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class CLIPPreTrainingConfig(PreTrainedConfig):
    """What rebuilds both towers and what joins them.

    image:       {"architecture", "arguments"} of timm, or {"config": that of a transformers network}.
    text:        the configuration of a transformers network.
    description: of `DualEncoder`: how each tower is pooled, and the width of the projections.
    held_by:     the class of transformers that both towers are exported as; None: two folders and what joins them.
    loss:        "clip" or "siglip".
    locked:      "none", "image", "text": the tower that is not trained, but for its projection (LiT, arXiv:2111.07991).
    image_size, mean, std, crop_pct: of the images as the tower gets them.
    """

    model_type = "replearn-clip"

    image: dict | None = None
    text: dict | None = None
    description: dict | None = None
    held_by: str | None = None
    loss: str = "clip"
    locked: str = "none"
    image_size: int = 224
    mean: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    std: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    crop_pct: float = 1.0


__all__ = ["CLIPPreTrainingConfig"]
