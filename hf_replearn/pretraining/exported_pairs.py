"""An encoder of images and texts in the format of others: one class of transformers where it can hold both towers, else
two folders, each in its library's own format, and a small file that joins them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from hf_replearn.encoders import dual_encoder
from hf_replearn.encoders.dual_encoder import DESCRIPTION, IMAGE, TEXT, WEIGHTS, DualEncoder
from hf_replearn.sharing.export import export_timm, save_native

PROCESSORS = {"CLIPModel": CLIPProcessor, "VisionTextDualEncoderModel": VisionTextDualEncoderProcessor}


def export_pairs(
    encoder: DualEncoder, folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel | None:
    """Writes both towers; returns the model of transformers that holds them, None where it is two folders.

    config: of `CLIPForPreTraining`: `held_by`, `image`, `image_size`, `mean`, `std`, `crop_pct`.
    """
    processor = image_processor(config)
    if config.held_by is not None:
        model = as_one(encoder, config.held_by)
        save_native(model, folder)
        PROCESSORS[config.held_by](image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)
        return model
    places = folder / IMAGE, folder / TEXT
    if isinstance(encoder.image.network, PreTrainedModel):
        save_native(encoder.image.network, places[0])
        processor.save_pretrained(places[0])
    else:
        about = {"mean": tuple(config.mean), "std": tuple(config.std), "crop_pct": config.crop_pct}
        export_timm(encoder.image.network, places[0], image_size=config.image_size, **config.image, **about)
    save_native(encoder.text.network, places[1])
    tokenizer.save_pretrained(places[1])
    save_file(encoder.joining_weights(), folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod((places[0] / "config.json").stat().st_mode)
    (folder / DESCRIPTION).write_text(json.dumps(encoder.description, indent=2) + "\n", encoding="utf-8")
    code = Path(dual_encoder.__file__)
    (folder / code.name).write_text(code.read_text(encoding="utf-8"), encoding="utf-8")
    return None


def image_processor(config: Any) -> CLIPImageProcessor:
    """Shorter side to the size of training, bilinear, then the centre; normalised."""
    edge = int(config.image_size / config.crop_pct)
    return CLIPImageProcessor(
        size={"shortest_edge": edge},
        crop_size={"height": config.image_size, "width": config.image_size},
        resample=2,  # bilinear
        image_mean=list(config.mean),
        image_std=list(config.std),
    )


@torch.no_grad()
def as_one(encoder: DualEncoder, held_by: str) -> PreTrainedModel:
    """Both towers as a model of transformers. Its logits have no bias, which changes no ranking."""
    image, text = encoder.image.network, encoder.text.network
    about = {"projection_dim": encoder.description["projection_dim"]}
    if held_by == "CLIPModel":
        config = CLIPConfig(text_config=text.config.to_dict(), vision_config=image.config.to_dict(), **about)
        model = CLIPModel(config)
    else:
        model = VisionTextDualEncoderModel(
            VisionTextDualEncoderConfig.from_vision_text_configs(image.config, text.config, **about)
        )
    parts: tuple[tuple[nn.Module, nn.Module], ...] = (
        (model.vision_model, image),
        (model.text_model, text),
        (model.visual_projection, encoder.image.projection),
        (model.text_projection, encoder.text.projection),
    )
    for part, trained in parts:
        part.load_state_dict(trained.state_dict())
    model.logit_scale.copy_(encoder.log_scale)
    return model.eval()
