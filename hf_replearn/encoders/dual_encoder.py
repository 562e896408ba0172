"""Two towers and what joins them: an encoder of images, one of texts, and a projection of each to vectors whose cosine
says how well the two fit.

This file lies beside the weights as well, where no class of transformers holds both towers, and needs nothing of
hf_replearn:

    from dual_encoder import DualEncoder
    from transformers import AutoImageProcessor, AutoTokenizer

    model = DualEncoder.from_folder(folder)
    image = AutoImageProcessor.from_pretrained(f"{folder}/image_encoder")(pictures, return_tensors="pt")["pixel_values"]
    text = AutoTokenizer.from_pretrained(f"{folder}/text_encoder")(captions, padding=True, return_tensors="pt")
    logits = model.logits(model.image(image), model.text(text["input_ids"], text["attention_mask"]))

B images or texts, T tokens, D features of a tower, P numbers of a projection
"""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.layers import AttentionPool2d
from torch import Tensor, nn
from transformers import AutoModel

DESCRIPTION, WEIGHTS = "dual_encoder.json", "dual_encoder.safetensors"
IMAGE, TEXT = "image_encoder", "text_encoder"  # folders, each in its library's own format
ALWAYS_FULL = ("siglip_text_model", "siglip2_text_model")  # learnt on texts padded to the full length, without a mask


class ImageTower(nn.Module):
    """pixel_values (B, C, H, W) -> (B, P), of length 1.

    network: of timm, or of transformers. features: D.
    pooling: "own", the network's; "cls" or "mean" of its last states, the first or all of them; or "attention", of
             timm's feature maps (B, D, h, w): the query is their mean, and positions are known (Radford et al. 2021,
             section 2.4). places: (h, w).
    """

    def __init__(self, network: nn.Module, features: int, width: int, *, pooling: str, places: list[int] | None = None):
        super().__init__()
        self.network, self.pooling = network, pooling
        heads = max(1, features // 64)
        self.projection = (
            AttentionPool2d(features, tuple(places), out_features=width, num_heads=heads, head_dim=None)
            if pooling == "attention"
            else nn.Linear(features, width, bias=False)
        )
        without_pooler(network, pooling)

    def pooled(self, pixel_values: Tensor) -> Tensor:
        """(B, D), or the maps (B, D, h, w) that are pooled by attention."""
        found = self.network(pixel_values)
        if isinstance(found, Tensor):
            return found
        if self.pooling == "cls":
            return found.last_hidden_state[:, 0]
        pooled = found.last_hidden_state if self.pooling == "mean" else found.pooler_output
        return pooled.mean(1) if pooled.ndim == 3 else pooled.flatten(2).mean(2) if pooled.ndim == 4 else pooled

    def forward(self, pixel_values: Tensor) -> Tensor:
        return nn.functional.normalize(self.projection(self.pooled(pixel_values)).float(), dim=-1)


def without_pooler(network: nn.Module, pooling: str) -> None:
    """Takes a pooler out of a network of transformers that is not pooled by it: nothing would be learnt of it."""
    if pooling != "own" and getattr(network, "pooler", None) is not None:
        network.pooler = None


class TextTower(nn.Module):
    """input_ids and attention_mask (B, T) -> (B, P), of length 1.

    network: of transformers. features: D.
    pooling: "own", its `pooler_output`; or of its last states the "mean" over tokens that are no padding, the first
             ("cls"), or the "last" of these.
    """

    def __init__(self, network: nn.Module, features: int, width: int, *, pooling: str):
        super().__init__()
        self.network, self.pooling = network, pooling
        self.projection = nn.Linear(features, width, bias=False)
        without_pooler(network, pooling)

    def pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, D)."""
        config = self.network.config
        if config.model_type in ALWAYS_FULL:
            missing = config.max_position_embeddings - input_ids.shape[1]
            tokens = input_ids.where(attention_mask.bool(), config.pad_token_id)
            return self.network(nn.functional.pad(tokens, (0, missing), value=config.pad_token_id)).pooler_output
        found = self.network(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "own":
            return found.pooler_output
        states = found.last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last":
            last = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(1)
            return states[torch.arange(len(states), device=states.device), last]
        mask = attention_mask[..., None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return nn.functional.normalize(self.projection(self.pooled(input_ids, attention_mask)).float(), dim=-1)


class DualEncoder(nn.Module):
    """Both towers, and the scale and bias of their cosines: logits = exp(log_scale) * cosine + bias.

    description: projection_dim, and of each tower its `features` and `pooling`, of images maybe `places`.
    log_scale, bias: at the start.
    """

    def __init__(
        self, image: nn.Module, text: nn.Module, description: dict, *, log_scale: float = 0.0, bias: float = 0.0
    ):
        super().__init__()
        self.description, width = description, description["projection_dim"]
        self.image = ImageTower(image, width=width, **description["image"])
        self.text = TextTower(text, width=width, **description["text"])
        self.log_scale = nn.Parameter(torch.tensor(float(log_scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def logits(self, images: Tensor, texts: Tensor) -> Tensor:
        """(B images, B texts), of vectors of length 1."""
        return self.log_scale.exp() * images @ texts.T + self.bias

    @classmethod
    def from_folder(cls, folder: str | Path) -> "DualEncoder":
        """What `image_encoder/`, `text_encoder/`, `dual_encoder.json` and `dual_encoder.safetensors` hold."""
        folder = Path(folder)
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if "architecture" in json.loads((folder / IMAGE / "config.json").read_text(encoding="utf-8")):
            maps = {"global_pool": ""} if description["image"]["pooling"] == "attention" else {}
            image = timm.create_model(f"local-dir:{folder / IMAGE}", pretrained=True, num_classes=0, **maps)
        else:
            image = AutoModel.from_pretrained(folder / IMAGE, trust_remote_code=False)
        text = AutoModel.from_pretrained(folder / TEXT, trust_remote_code=False)
        model = cls(image, text, description)
        found = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        lacking = [name for name in found.missing_keys if ".network." not in name]
        if lacking or found.unexpected_keys:
            raise ValueError(f"{folder / WEIGHTS} does not fit {DESCRIPTION}: {lacking or found.unexpected_keys}")
        return model.eval()

    def joining_weights(self) -> dict[str, Tensor]:
        """All that is in neither of the two networks."""
        weights = self.state_dict()
        return {name: weights[name].detach().cpu().contiguous() for name in weights if ".network." not in name}
