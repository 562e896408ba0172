"""Masked autoencoders (He et al. 2022, arXiv:2111.06377): most patches of an image are hidden, and their pixels told
from the others.

B images of this process, C channels, N patches of p x p pixels, K of them kept, M = N - K hidden, n = C p² numbers in a
patch, T tokens before the patches (class token), D features
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from timm.layers import LayerNorm
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from transformers.utils import ModelOutput

from hf_replearn.methods.trunk import ImageEncoder, ImageForPreTraining

from .configuration_mae import MAEConfig


def masked_error(predictions: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error of the hidden patches, in float32. Both: (B, M, n)."""
    return (predictions.float() - wanted.float()).square().mean()


def targets(patches: Tensor, *, normalized: bool) -> Tensor:
    """What is to be told of patches (…, n): their pixels; normalized: each patch less its mean, divided by its
    deviation (section 3, "Reconstruction target"). A prediction of zeros then costs (n - 1) / n, for the variance is
    the unbiased one, as in the authors' code."""
    if not normalized:
        return patches
    variance, mean = torch.var_mean(patches.float(), dim=-1, keepdim=True)
    return (patches - mean) * (variance + 1e-6).rsqrt()


def patches_of(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, N, n), row by row, of each patch the channels of its first pixel first."""
    rows = images.unflatten(2, (-1, size)).unflatten(4, (-1, size))  # (B, C, h, p, w, p)
    return rows.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def chosen(tokens: Tensor, places: Tensor) -> Tensor:
    """Of tokens (B, N, D) or (1, N, D) those at places (B, K): (B, K, D)."""
    return tokens.expand(len(places), -1, -1).gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def sin_cos(grid: tuple[int, int], width: int) -> Tensor:
    """Positions of a grid of h x w patches, fixed sines and cosines: (h w, width), a half for columns, then rows."""
    rates = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    row, column = (torch.arange(count, dtype=torch.float64, device="cpu") for count in grid)
    turns = torch.stack(torch.meshgrid(row, column, indexing="ij")[::-1]).flatten(1)[..., None] * rates  # (2, h w, ·)
    return torch.cat([turns.sin(), turns.cos()], -1).transpose(0, 1).flatten(1).float()


def check_encoder(encoder: nn.Module) -> None:
    """Raises ValueError for what is no plain Vision Transformer of timm."""
    if not isinstance(encoder, VisionTransformer) or encoder.pos_embed is None:
        raise ValueError(
            "MAE hides patches from a Vision Transformer of timm with positions, such as vit_tiny_patch16_224"
        )
    if not isinstance(encoder.patch_drop, nn.Identity):
        raise ValueError("its patch_drop_rate hides patches too: leave it out")
    if encoder.attn_pool is not None:
        raise ValueError(f"MAE would not train its pooling, {encoder.global_pool!r}: say global_pool 'token' or 'avg'")
    if encoder.embed_dim % 4:
        raise ValueError(f"sines and cosines of rows and columns need a width that 4 divides, not {encoder.embed_dim}")


@contextmanager
def keeping(encoder: VisionTransformer, places: Tensor):
    """Inside, the encoder sees the patches at places (B, K) alone: all others go where timm itself drops patches, after
    positions were added and before the first block."""
    before = encoder.num_prefix_tokens

    def drop(_, inputs, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :before], chosen(tokens[:, before:], places)], 1)

    hook = encoder.patch_drop.register_forward_hook(drop)
    try:
        yield
    finally:
        hook.remove()


@dataclass
class MAEOutput(ModelOutput):
    """loss: (), absent with `return_loss=False`. predictions: (B, M, n), of the hidden patches, at the places `hidden`
    (B, M). pooler_output: (B, D), of the patches seen."""

    loss: Tensor | None = None
    predictions: Tensor | None = None
    hidden: Tensor | None = None
    pooler_output: Tensor | None = None


class MAEModel(ImageEncoder):
    config_class = MAEConfig


class MAEForPreTraining(ImageForPreTraining):
    """Encoder f of the patches that are seen, and a decoder g of these and a token for each that is hidden. Both know
    places by fixed sines and cosines. Of linear layers the first weights are Xavier's (appendix A.1)."""

    config_class = MAEConfig

    def __init__(self, config: MAEConfig):
        super().__init__(config)
        vit, width = self.model.encoder, config.decoder_hidden_size
        check_encoder(vit)
        self.patch_size = vit.patch_embed.patch_size[0]
        blocks = [
            Block(width, config.decoder_num_attention_heads, qkv_bias=True, norm_layer=LayerNorm)
            for _ in range(config.decoder_num_hidden_layers)
        ]
        self.decoder_embed = nn.Linear(vit.embed_dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(sin_cos(vit.patch_embed.grid_size, width)[None], requires_grad=False)
        self.decoder_blocks = nn.Sequential(*blocks)
        self.decoder_norm = LayerNorm(width)
        self.decoder_pred = nn.Linear(width, vit.patch_embed.proj.in_channels * self.patch_size**2)
        self._first_weights()
        self.post_init()

    @torch.no_grad()
    def _first_weights(self) -> None:
        vit = self.model.encoder
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(vit.patch_embed.proj.weight.flatten(1))
        for token in (self.mask_token, vit.cls_token, vit.reg_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        grid = vit.patch_embed.grid_size
        vit.pos_embed.zero_()[:, -grid[0] * grid[1] :] = sin_cos(grid, vit.embed_dim)
        self.train()

    def train(self, mode: bool = True):
        super().train(mode)
        self.model.encoder.pos_embed.requires_grad_(False)  # which loading weights makes trainable
        self.decoder_pos_embed.requires_grad_(False)
        return self

    def encode(self, pixel_values: Tensor, kept: Tensor) -> Tensor:
        """(B, T + K, D) of images (B, C, H, W), of which the patches at kept (B, K) are seen."""
        vit = self.model.encoder
        with keeping(vit, kept):
            return vit.forward_features(pixel_values)

    def decode(self, tokens: Tensor, kept: Tensor, hidden: Tensor) -> Tensor:
        """(B, M, n), of the patches at hidden (B, M), from tokens (B, T + K, D) of those kept. A transformer does not
        mind their order: the hidden ones come last, and none is put back into its place."""
        tokens, places = self.decoder_embed(tokens), self.decoder_pos_embed
        before = tokens.shape[1] - kept.shape[1]
        seen = tokens[:, before:] + chosen(places, kept)
        told = self.mask_token + chosen(places, hidden)
        tokens = self.decoder_blocks(torch.cat([tokens[:, :before], seen, told.to(seen.dtype)], 1))
        return self.decoder_pred(self.decoder_norm(tokens[:, -hidden.shape[1] :]))

    def forward(self, pixel_values: Tensor, noise: Tensor, return_loss: bool = True) -> MAEOutput:
        """pixel_values: (B, C, H, W), normalised. noise: (B, N), of which the patches with the least are kept."""
        vit = self.model.encoder
        count = int(noise.shape[1] * (1 - self.config.mask_ratio))
        kept, hidden = noise.argsort(1).tensor_split([count], 1)
        tokens = self.encode(pixel_values, kept)
        predictions = self.decode(vit.fc_norm(tokens), kept, hidden)
        loss = None
        if return_loss:
            patches = chosen(patches_of(pixel_values, self.patch_size), hidden)
            loss = masked_error(predictions, targets(patches, normalized=self.config.norm_pix_loss))
        pooled = vit.forward_head(tokens, pre_logits=True)
        return MAEOutput(loss=loss, predictions=predictions, hidden=hidden, pooler_output=pooled)


__all__ = ["MAEForPreTraining", "MAEModel", "masked_error", "targets"]
