"""Image GPT (Chen et al. 2020): the colour of each pixel is told from those before it, row by row; or those of a few
hidden pixels from all others.

B images, S x S pixels, T = S S positions, n of them hidden, K colours, L blocks, D features
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, ImageGPTConfig, ImageGPTForCausalImageModeling, PreTrainedModel
from transformers.utils import ModelOutput

from hf_replearn.losses import chunked_cross_entropy

from .configuration_image_gpt import ImageGPTPretrainingConfig

AT_ONCE = 2**15  # pixels whose distances to all colours are held


@dataclass
class ImageGPTOutput(ModelOutput):
    """loss: (), in nats per pixel, absent with `return_loss=False`. pooler_output: (B, D), of the middle layer."""

    loss: Tensor | None = None
    pooler_output: Tensor | None = None


class FusedAttention(nn.Module):
    """What transformers' attention of image GPT computes, with its weights under their names, by PyTorch's fused
    function: the (T, T) probabilities are never held, and no host waits for a GPU."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.c_attn, self.c_proj = attention.c_attn, attention.c_proj
        self.heads, self.layer = attention.num_heads, attention.layer_idx
        self.attn_dropout, self.resid_dropout = attention.attn_dropout, attention.resid_dropout

    def forward(self, hidden_states: Tensor, layer_past=None, **_) -> tuple[Tensor, None]:
        """(B, T, D) -> (B, T, D). layer_past: keys and values of earlier positions, to which those of one further
        position are added, or of all at first."""
        made = self.c_attn(hidden_states).unflatten(-1, (3, self.heads, -1)).transpose(1, 3)  # (B, heads, 3, T, d)
        query, key, value = made.unbind(2)
        if layer_past is not None:
            key, value = layer_past.update(key, value, self.layer)
        dropout = self.attn_dropout.p if self.training else 0.0
        alone = query.shape[2] == 1  # and sees all that came before
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=not alone)
        return self.resid_dropout(self.c_proj(mixed.transpose(1, 2).flatten(2))), None


class PixelEncoder(nn.Module):
    """The native model `network`, and the palette (K, 3) by which images become its tokens; token K is no colour.

    The features of an image are the mean over positions of the layer in the middle, where they are best (section 4.2).
    """

    def __init__(self, network: PreTrainedModel):
        super().__init__()
        self.network = network
        self.register_buffer("palette", torch.zeros(network.config.vocab_size - 1, 3))

    @property
    def encoder(self) -> nn.Module:
        """f: as other methods have it beside what else they need."""
        return self

    @property
    def features(self) -> int:
        return self.network.config.hidden_size

    @property
    def middle(self) -> int:
        """The number of the layer whose features are taken, of 0 (embeddings) to L."""
        return self.network.config.num_hidden_layers // 2

    @torch.no_grad()
    def tokens(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S), black at -1 and white at 1 -> the numbers (B, T) of the nearest colours, row by row."""
        with torch.autocast(pixel_values.device.type, enabled=False):  # bfloat16 would mix up colours that are near
            pixels = pixel_values.float().permute(0, 2, 3, 1).reshape(-1, 3)
            lengths, palette = self.palette.square().sum(1), self.palette.T
            nearest = [
                (part.square().sum(1, keepdim=True) - 2 * (part @ palette) + lengths).argmin(1)
                for part in pixels.split(AT_ONCE)
            ]
        return torch.cat(nearest).view(len(pixel_values), -1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D)"""
        return self.states(self.tokens(pixel_values))[self.middle].mean(1)

    def colours(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, 3, S, S) in 0...1."""
        side = round(tokens.shape[1] ** 0.5)
        return (self.palette[tokens].unflatten(1, (side, side)).permute(0, 3, 1, 2) / 2 + 0.5).clamp(0, 1)


class ImageGPTEncoder(PixelEncoder):
    """Each position sees those before it; the token that starts an image is K."""

    def __init__(self, config: ImageGPTConfig):
        super().__init__(ImageGPTForCausalImageModeling(config))
        for block in self.network.transformer.h:
            block.attn = FusedAttention(block.attn)

    def started(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T): what each position sees last, from the token that starts an image on."""
        return nn.functional.pad(tokens[:, :-1], (1, 0), value=len(self.palette))

    def states(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """The embeddings and what each block makes of them, L + 1 times (B, T, D), the last one normalised."""
        return self.network.transformer(self.started(tokens), use_cache=False, output_hidden_states=True).hidden_states

    def asked(self, tokens: Tensor, hidden: None) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """The states of tokens (B, T); of each pixel what the head gets (B T, D), and its colour (B T,)."""
        states = self.states(tokens)
        return states, states[-1].flatten(0, 1), tokens.flatten()


class MaskedPixelEncoder(PixelEncoder):
    """Each position sees all others; a hidden pixel is token K."""

    def __init__(self, config: BertConfig):
        super().__init__(BertForMaskedLM(config))

    def states(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """The embeddings and what each block makes of them, L + 1 times (B, T, D)."""
        return self.network.bert(tokens, output_hidden_states=True).hidden_states

    def asked(self, tokens: Tensor, hidden: Tensor) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """The states of tokens (B, T) of which those at hidden (B, n) are not seen; of each hidden pixel what the head
        gets (B n, D), and its colour (B n,)."""
        states = self.states(tokens.scatter(1, hidden, len(self.palette)))
        last = states[-1].gather(1, hidden[..., None].expand(-1, -1, self.features))
        return states, self.network.cls.predictions.transform(last).flatten(0, 1), tokens.gather(1, hidden).flatten()


ENCODERS = {"imagegpt": ImageGPTEncoder, "bert": MaskedPixelEncoder}


class Layers(nn.Module):
    """All layers of an encoder beside one another, each the mean over positions: (B, 3, S, S) -> (B, (L + 1) D)."""

    def __init__(self, encoder: PixelEncoder):
        super().__init__()
        self.encoder = encoder
        self.widths = [encoder.features] * (encoder.network.config.num_hidden_layers + 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return torch.cat([state.mean(1) for state in self.encoder.states(self.encoder.tokens(pixel_values))], dim=1)


class ImageGPTForPreTraining(PreTrainedModel):
    """`model`, under the cross entropy of each pixel's colour given those before it (equation 1), or of those of
    hidden pixels given all others (equation 2)."""

    config: ImageGPTPretrainingConfig
    config_class = ImageGPTPretrainingConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    accepts_loss_kwargs = False  # the loss is a mean over this batch: Trainer has no item count to pass

    def __init__(self, config: ImageGPTPretrainingConfig):
        super().__init__(config)
        self.model = ENCODERS[config.decoder.model_type](config.decoder)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        self.model.network._init_weights(module)

    def forward(self, pixel_values: Tensor, hidden: Tensor | None = None, return_loss: bool = True) -> ImageGPTOutput:
        """pixel_values: (B, 3, S, S), black at -1 and white at 1. hidden: (B, n), the positions that are not seen, of
        the objective that hides some."""
        tokens = self.model.tokens(pixel_values)
        if not return_loss:
            return ImageGPTOutput(pooler_output=self.model.states(tokens)[self.model.middle].mean(1))
        states, asked, colours = self.model.asked(tokens, hidden)
        head, count = self.model.network.get_output_embeddings(), len(self.model.palette)
        bias = None if head.bias is None else head.bias[:count]
        loss = chunked_cross_entropy(asked, head.weight[:count], colours, bias=bias) / colours.numel()
        return ImageGPTOutput(loss=loss, pooler_output=states[self.model.middle].mean(1))


__all__ = ["ImageGPTEncoder", "ImageGPTForPreTraining", "Layers", "MaskedPixelEncoder"]
