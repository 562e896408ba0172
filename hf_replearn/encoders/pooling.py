"""One vector an example, of the last layer of an encoder or of all its layers.

B examples, T tokens, D features
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Trained on texts that are padded to the full length, without a mask; the last position is what they are read by.
ALWAYS_FULL = ("siglip_text_model", "siglip2_text_model")


class Pooling(nn.Module):
    """A transformers encoder with one vector an example: a batch -> (B, D), or all layers beside one another
    (B, D0 + D1 + …), the last one last.

    how: "mean" over positions, of a text those of all tokens that are not padding, special ones included; "cls", the
         first position; "last", the last token that is not padding; or what else `pool` knows. Feature maps are
         averaged, whatever is asked. The last layer of an encoder of images, and of the texts of CLIP and its like, is
         what its own pooling makes of it (`has_own_pooling`); without one, its class token if it has one, which is what
         ViT's classifiers read, in transformers as in timm.
    after: (B, D) -> (B, D'), what the encoder's author has put behind the pooled last layer, if anything.
    After a forward pass `widths` has the D of each layer, and `names` what the layers are: "embeddings" (of sounds
    "frames") and "block 1" to "block N" of networks that keep their width, "stem" and "stage 1" to "stage N" of those
    that make feature maps, and of timm's what timm calls them ("layer4", "blocks.11").
    """

    def __init__(
        self, encoder: nn.Module, *, how: str = "mean", all_layers: bool = False, after: nn.Module | None = None
    ):
        super().__init__()
        self.encoder, self.how, self.all_layers, self.after = encoder, how, all_layers, after
        self.widths: list[int] = []
        self.names: list[str] = []
        self.own = has_own_pooling(encoder)
        self.class_token = self.own and any(hasattr(module, "cls_token") for module in encoder.modules())
        # Whether texts of one length go through the encoder at a time, see `try_encoder`. Sounds always do: frames have
        # no mask of their own, and few networks of sounds pass over silence behind the end.
        self.sounds = getattr(encoder, "main_input_name", "") == "input_values"
        self.unpadded = self.sounds
        self.takes = inspect.signature(encoder.forward).parameters
        self.takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in self.takes.values())

    def forward(self, batch) -> Tensor:
        return torch.cat(self.layers(batch), dim=1)

    def layers(self, batch) -> list[Tensor]:
        """The features of each layer by themselves, (B, Dn); of the last one only, unless all are asked for."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        if self.unpadded and "attention_mask" in inputs:
            return self._by_length(inputs)
        return self._layers(inputs)

    def _by_length(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """As `_layers`, but texts of other lengths do not go together, and nothing is padded."""
        lengths = inputs["attention_mask"].sum(dim=1)
        order, found = [], []
        for length in lengths.unique():
            rows = (lengths == length).nonzero().flatten()
            columns = inputs["attention_mask"][rows[0]].bool()
            found.append(self._layers({name: tensor[rows][:, columns] for name, tensor in inputs.items()}))
            order.append(rows)
        back = torch.cat(order).argsort()
        return [torch.cat(parts)[back] for parts in zip(*found, strict=True)]

    def _layers(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        if getattr(getattr(self.encoder, "config", None), "model_type", None) in ALWAYS_FULL:
            missing = self.encoder.config.max_position_embeddings - inputs["input_ids"].shape[1]
            padding, mask = self.encoder.config.pad_token_id, inputs.get("attention_mask", torch.tensor(1)).bool()
            tokens = inputs["input_ids"].where(mask, padding)
            inputs = {"input_ids": nn.functional.pad(tokens, (0, missing), value=padding)}
        mask = None if self.sounds else inputs.get("attention_mask")
        inputs = {name: tensor for name, tensor in inputs.items() if self.takes_any or name in self.takes}
        options = {"output_hidden_states": True} if self.all_layers else {}
        if "use_cache" in self.takes:
            options["use_cache"] = False
        outputs = self.encoder(**inputs, **options)
        if outputs.get("last_hidden_state") is None:
            raise ValueError(f"it gives no last_hidden_state, only {', '.join(outputs)}")
        states = [outputs["last_hidden_state"]]
        if self.all_layers:  # Swin and its like have their tokens as feature maps too
            states = [*(outputs.get("reshaped_hidden_states") or outputs["hidden_states"])[:-1], *states]
        own = outputs.get("pooler_output") if self.own else None
        if own is None and self.class_token and states[-1].ndim == 3:
            own = states[-1][:, 0]
        pooled = [pool(state, mask, how=self.how) for state in (states if own is None else states[:-1])]
        if own is not None:
            pooled.append(mean_over_positions(own) if own.ndim == 4 else own)  # (B, D, 1, 1) of transformers' ResNet
        if self.after is not None:
            pooled[-1] = self.after(pooled[-1])
        self.names = name_layers(self.encoder, states)
        self.widths = [layer.shape[1] for layer in pooled]
        return pooled


def has_own_pooling(encoder: nn.Module) -> bool:
    """Whether the last layer is pooled as the network does it, where it does: of images, and in a tower of texts."""
    key = getattr(getattr(encoder, "config", None), "base_config_key", "")
    return getattr(encoder, "main_input_name", "") == "pixel_values" or key in ("vision_config", "text_config")


def name_layers(encoder: nn.Module, states: Sequence[Tensor]) -> list[str]:
    """What each of the states, one a layer, is the output of; the last layer alone is "last"."""
    if len(states) == 1:
        return ["last"]
    timms = getattr(getattr(encoder, "timm_model", None), "feature_info", None)
    if getattr(encoder, "main_input_name", "") == "input_values":
        return ["frames", *(f"block {number}" for number in range(1, len(states)))]
    names = [info["module"] for info in (timms if isinstance(timms, list) else [])]
    if len(names) == len(states):
        return names
    first, others = ("stem", "stage") if states[0].ndim == 4 else ("embeddings", "block")
    if timms is not None:  # which gives no state before the first block
        return [f"{others} {number}" for number in range(1, len(states) + 1)]
    return [first, *(f"{others} {number}" for number in range(1, len(states)))]


def pool(states: Tensor, mask: Tensor | None = None, *, how: str = "mean") -> Tensor:
    """(B, T, D), padding where the mask (B, T) is 0, or (B, D, H, W) -> (B, D).

    how: "mean", "cls" or "last", see Pooling; "max", the largest of each feature; "mean_sqrt_len", the sum over the
         square root of their number; "weightedmean", with weights 1, 2, 3 … (Muennighoff 2022, SGPT); several with
         + between stand side by side, (B, 2 D).
    """
    if mask is not None and states.shape[1] != mask.shape[1]:
        raise ValueError(f"{states.shape[1]} positions are not the {mask.shape[1]} tokens of the text")
    if states.ndim == 4 or (mask is None and how == "mean"):
        return mean_over_positions(states)
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
    return torch.cat([_pool(states, mask.to(states.device), mode) for mode in how.split("+")], dim=1)


def _pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    rows = torch.arange(states.shape[0], device=states.device)  # len() would fix the number in an exported graph
    if how == "cls":
        return states[rows, mask.argmax(dim=1)]
    if how == "last":
        return states[rows, mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)]
    if how == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(dim=1)
    if how == "weightedmean":
        return mean_over_positions(states, mask * mask.cumsum(dim=1))
    mean = mean_over_positions(states, mask)
    return mean * mask.sum(dim=1, keepdim=True).sqrt() if how == "mean_sqrt_len" else mean


def mean_over_positions(states: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, T, D), of which only those count that the mask (B, T) marks with 1, or (B, D, H, W) -> (B, D)."""
    if states.ndim == 4:
        return states.mean(dim=(2, 3))
    if mask is None:
        return states.mean(dim=1)
    mask = mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


@torch.no_grad()
def measure_layers(pooling: Pooling, batch) -> list[int]:
    """The width of each layer that it gives."""
    pooling.eval()(batch.to(next(pooling.parameters()).device))
    return pooling.widths
