"""Anybody's encoder of images and texts together: CLIP and its like by folder or Hub id, or the two folders that a run
leaves which no class of transformers can hold.

B images or texts, P numbers of a projection
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from hf_replearn.encoders.dual_encoder import ALWAYS_FULL, DESCRIPTION, IMAGE, TEXT, DualEncoder
from hf_replearn.encoders.inputs import ProcessorInputs
from hf_replearn.encoders.load import longest_text, reads_images
from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.encoders.weights import load_whole, refusing
from hf_replearn.errors import InputError

TOGETHER = 256  # texts at a time


class ImageProjection(nn.Module):
    """What an image processor makes -> (B, P), of length 1."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Any) -> Tensor:
        if isinstance(self.model, DualEncoder):
            return self.model.image(batch["pixel_values"])
        return _unit(self.model.get_image_features(pixel_values=batch["pixel_values"]))


@dataclass(frozen=True)
class PairEncoder:
    """Images and texts -> vectors of length 1, whose cosine says how well they fit.

    named:      what messages begin with. source: the folder or Hub id.
    images:     what `preprocess` makes of rows with an `image` -> (B, P).
    max_length: tokens kept of a text. padded: to this length always, as SigLIP's are, or to the longest of a batch.
    """

    named: str
    source: str
    model: nn.Module
    images: ImageProjection
    preprocess: ProcessorInputs
    tokenizer: Any
    max_length: int
    padded: bool = False

    @torch.no_grad()
    def texts(self, texts: list[str]) -> Tensor:
        """(B, P), on the CPU. Raises InputError for what is not finite."""
        found, device = [], next(self.model.parameters()).device
        for start in range(0, len(texts), TOGETHER):
            tokens = self.tokenizer(
                texts[start : start + TOGETHER],
                truncation=True,
                max_length=self.max_length,
                padding="max_length" if self.padded else True,
                return_tensors="pt",
            ).to(device)
            if isinstance(self.model, DualEncoder):
                found.append(self.model.text(tokens["input_ids"], tokens["attention_mask"]))
            elif self.padded:
                found.append(_unit(self.model.get_text_features(input_ids=tokens["input_ids"])))
            else:
                mask = tokens["attention_mask"]
                found.append(_unit(self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=mask)))
        vectors = torch.cat(found).float().cpu()
        self.check(vectors, "texts")
        return vectors

    def check(self, vectors: Tensor, what: str) -> None:
        """Raises InputError where the vectors of so many `what` are not finite: every rank among them would be 1."""
        if bad := int((~vectors.isfinite()).any(1).sum()):
            raise InputError(f"{self.named} gives NaN or infinite numbers for {bad:,} of {len(vectors):,} {what}")

    def untrained(self) -> PairEncoder:
        """The same from random weights, under the same preprocessing."""
        if isinstance(self.model, DualEncoder):
            image, text = (untrained(Path(self.source, folder)) for folder in (IMAGE, TEXT))
            if self.model.description["image"]["pooling"] == "attention":
                image.reset_classifier(0, global_pool="")
            model = DualEncoder(image, text, self.model.description)
        else:
            model = AutoModel.from_config(self.model.config, trust_remote_code=False)
        model = model.to(next(self.model.parameters()).device).eval()
        return replace(self, named=f"{self.source} from random weights", model=model, images=ImageProjection(model))


def untrained(folder: Path) -> nn.Module:
    """The network of a folder of timm's or transformers' format, from random weights."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "architecture" in config:
        return timm.create_model(config["architecture"], num_classes=0, **config.get("model_args", {}))
    return AutoModel.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False), trust_remote_code=False)


def _unit(found: Any) -> Tensor:
    """Of length 1; newer transformers give an output, older ones its `pooler_output` alone."""
    found = found if isinstance(found, Tensor) else found.pooler_output
    return nn.functional.normalize(found.float(), dim=-1)


def is_joined(name: str) -> bool:
    """Whether a folder holds two encoders and what joins them."""
    return Path(name, DESCRIPTION).is_file()


def read_pair_encoder(name: str) -> PairEncoder:
    """The encoder in a folder or Hub id, in evaluation mode. Raises InputError where that reads not both images and
    texts, or does not load."""
    named = f"--model {name}"
    if is_joined(name):
        with refusing(f"{named} could not be loaded"):
            model = DualEncoder.from_folder(name)
            image_processor = AutoImageProcessor.from_pretrained(Path(name, IMAGE), trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(Path(name, TEXT), trust_remote_code=False)
        text_config = model.text.network.config
    else:
        refuse_checkpoint(name)
        with refusing(f"{named} is no encoder of images and texts"):
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
            if reads_images(config) is not None:
                raise InputError(
                    f"{named} reads {'images' if reads_images(config) else 'texts'} alone: give an encoder of both, "
                    "such as CLIP, or what `hf-replearn clip` leaves"
                )
            model = load_whole(AutoModel, name).eval()
            image_processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise InputError(
                f"{named} is a {type(model).__name__}, which gives no vectors of images and texts to compare"
            )
        text_config = config.text_config
    padded = not is_joined(name) and text_config.model_type in ALWAYS_FULL
    length = min(longest_text(text_config) or 77, tokenizer.model_max_length)
    inputs = ProcessorInputs(image_processor)
    return PairEncoder(named, name, model.eval(), ImageProjection(model), inputs, tokenizer, length, padded)
