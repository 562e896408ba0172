"""The code of a run that has one: what its decoder makes images of, such as the means of a variational autoencoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_PRETRAINING_MAPPING, AutoConfig, AutoModelForPreTraining

from hf_replearn.encoders.encoder import Encoder
from hf_replearn.encoders.ours import register_own
from hf_replearn.encoders.weights import refusing


class Coding(nn.Module):
    """Batches of images -> their codes (B, K), by a model that has `codes`.

    The encoder in the native format of its library may take images whose pixels are repeated (sharing/export.py), which
    the model does not: of these, every so many is taken.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch) -> Tensor:
        pixels = batch["pixel_values"]
        repeated = max(1, pixels.shape[-1] // self.model.config.image_size)
        return self.model.codes(pixels[..., ::repeated, ::repeated])


def code_of(encoder: Encoder, *, pretrained: bool = True) -> Encoder | None:
    """An encoder that gives the code, in the place of one that gives the features, of a run whose `pretraining/` has a
    decoder of a code; None of all others. It has not been tried.

    pretrained: whether its weights are those that were learnt, or else random.
    Raises InputError where they cannot be loaded.
    """
    folder = Path(encoder.source or "", "pretraining")
    if encoder.source is None or not (folder / "config.json").is_file():
        return None
    with refusing(f"{encoder.named}: {folder} cannot be loaded"):
        register_own(str(folder))
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = MODEL_FOR_PRETRAINING_MAPPING.get(type(config), None)
        if not hasattr(kind, "codes"):
            return None
        if pretrained:
            model = AutoModelForPreTraining.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
        else:
            model = kind(config)
    about = {"pooling": "the code", "comparable": False, "layers": [], "widths": []}
    return replace(encoder, network=Coding(model.eval()), **about)
