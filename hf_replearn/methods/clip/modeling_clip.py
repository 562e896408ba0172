"""CLIP (Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343): an image and its
caption attract, those of other pairs repel.

B pairs of this process, N pairs of all processes, P numbers of a projection
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from hf_replearn.encoders.dual_encoder import DualEncoder
from hf_replearn.methods.trunk import first_row, gather_detached

from .configuration_clip import CLIPPreTrainingConfig

LARGEST = math.log(100)  # of the logarithm of the scale, which training may not pass (CLIP, section 2.5)
START = {"clip": (math.log(1 / 0.07), 0.0), "siglip": (math.log(10), -10.0)}  # of log scale and bias, as the papers


def clip_loss(
    images: Tensor, texts: Tensor, log_scale: Tensor, ids: Tensor | None = None, *, chunk: int = 512
) -> Tensor:
    """Mean of the cross entropies of finding the text of each image, and the image of each text, among all N (Radford
    et al. 2021, figure 3), of logits exp(log_scale) * cosine.

    Pairs with the same image, or the same caption, are right answers for one another, all with the same weight: the
    target of a row is 1 / their number for each (Yang et al. 2022, arXiv:2204.03610, equation 2).

    images, texts: (B, P), the same B in every process; normalised here. ids: (B, 2), numbers of image and caption;
    None: all differ.

    Returns the mean over the rows and columns of this process. Its mean over the processes is the loss of the
    concatenated batch, and so is its gradient once DistributedDataParallel has averaged it. No process holds more than
    `chunk` rows of logits, each of N, so that memory is O(N * chunk); in float32 whatever the autocast.
    """
    images, texts, ids = _checked(images, texts, ids)
    with torch.autocast(images.device.type, enabled=False):
        return _CLIPLoss.apply(images, texts, log_scale.float().exp(), ids, chunk)


def siglip_loss(
    images: Tensor, texts: Tensor, log_scale: Tensor, bias: Tensor, ids: Tensor | None = None, *, chunk: int = 512
) -> Tensor:
    """-sum of log sigmoid(z_ij (exp(log_scale) * cosine_ij + bias)) over all images i and texts j, divided by N, where
    z_ij is 1 for a pair that fits and -1 else (Zhai et al. 2023, equation 1). Pairs with the same image, or the same
    caption, fit. Arguments, result over processes and memory are those of `clip_loss`.
    """
    images, texts, ids = _checked(images, texts, ids)
    with torch.autocast(images.device.type, enabled=False):
        return _SigLIPLoss.apply(images, texts, log_scale.float().exp(), bias.float(), ids, chunk)


def _checked(images: Tensor, texts: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if images.ndim != 2 or images.shape != texts.shape:
        raise ValueError(f"images and texts must both be (B, P), got {tuple(images.shape)} and {tuple(texts.shape)}")
    if ids is None:
        ids = torch.arange(len(images), device=images.device)[:, None].repeat(1, 2) + first_row(images)
    normalize = nn.functional.normalize
    return normalize(images.float(), dim=-1), normalize(texts.float(), dim=-1), ids


class _CLIPLoss(torch.autograd.Function):
    """With p_ij the softmax of logits over texts j, q_ij that over images i, and y_ij the targets of both, the gradient
    of the loss of all N pairs with respect to logit ij is (p_ij + q_ij - y_ij) / 2N. Row i of it needs of other
    processes the sums of the columns alone: each process has its own rows' and columns' gradient without a reduction.
    """

    @staticmethod
    def forward(ctx, images: Tensor, texts: Tensor, scale: Tensor, ids: Tensor, chunk: int) -> Tensor:
        all_images, all_texts, all_ids = map(gather_detached, (images, texts, ids))
        # What is kept is made before the chunks, or it would lie between them and the allocator find no room again.
        sums, told = images.new_empty(2, len(images)), scale.new_zeros(())
        for side, (own, others) in enumerate(((images, all_texts), (texts, all_images))):
            for part, cosines, fit in _chunks(own, others, ids, all_ids, chunk):
                logits = cosines.mul_(scale)
                sums[side, part] = logits.logsumexp(1)  # of the rows, and of the columns, of this process
                told += (logits.mul_(fit).sum(1) / fit.sum(1)).sum()
        ctx.save_for_backward(images, texts, scale, ids, all_images, all_texts, all_ids, sums)
        ctx.chunk = chunk
        return (sums.sum() - told) / sums.numel()

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        images, texts, scale, ids, all_images, all_texts, all_ids, sums = ctx.saved_tensors
        all_sums = gather_detached(sums.T.contiguous()).T  # (2, N)
        counts = images.new_empty(len(images))
        for start in range(0, len(ids), ctx.chunk):
            counts[start : start + ctx.chunk] = _fit(ids[start : start + ctx.chunk], all_ids).sum(1)
        all_counts, of_scale, grads = gather_detached(counts), scale.new_zeros(()), []
        for side, (own, others) in enumerate(((images, all_texts), (texts, all_images))):
            grad = torch.empty_like(own)
            for part, cosines, fit in _chunks(own, others, ids, all_ids, ctx.chunk):
                logits = cosines * scale
                error = (logits - sums[side, part, None]).exp_()
                error += logits.sub_(all_sums[1 - side]).exp_()
                error -= fit * (1 / counts[part, None] + 1 / all_counts)
                grad[part] = error @ others
                if side == 0:  # each logit once
                    of_scale += (error * cosines).sum()
            grads.append(grad * (scale * grad_loss / (2 * len(own))))
        return *grads, of_scale * grad_loss / (2 * len(images)), None, None


class _SigLIPLoss(torch.autograd.Function):
    """The gradient with respect to logit ij is -z_ij sigmoid(-z_ij logit_ij) / N, of that logit alone."""

    @staticmethod
    def forward(ctx, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, ids: Tensor, chunk: int) -> Tensor:
        all_images, all_texts, all_ids = map(gather_detached, (images, texts, ids))
        loss = scale.new_zeros(())
        for _, cosines, fit in _chunks(images, all_texts, ids, all_ids, chunk):
            logits = cosines.mul_(scale).add_(bias)
            loss -= nn.functional.logsigmoid(logits.mul_(2 * fit - 1)).sum()
        ctx.save_for_backward(images, texts, scale, bias, ids, all_images, all_texts, all_ids)
        ctx.chunk = chunk
        return loss / len(images)

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        images, texts, scale, bias, ids, all_images, all_texts, all_ids = ctx.saved_tensors
        of_scale, of_bias, grads = scale.new_zeros(()), scale.new_zeros(()), []
        for side, (own, others) in enumerate(((images, all_texts), (texts, all_images))):
            grad = torch.empty_like(own)
            for part, cosines, fit in _chunks(own, others, ids, all_ids, ctx.chunk):
                signs = 2 * fit - 1
                error = (cosines * scale).add_(bias).mul_(-signs).sigmoid_().mul_(-signs)
                grad[part] = error @ others
                if side == 0:
                    of_scale += (error * cosines).sum()
                    of_bias += error.sum()
            grads.append(grad * (scale * grad_loss / len(own)))
        return *grads, of_scale * grad_loss / len(images), of_bias * grad_loss / len(images), None, None


def _chunks(
    own: Tensor, others: Tensor, ids: Tensor, all_ids: Tensor, chunk: int
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(slice of the rows, their cosines with all others (n, N), which of these fit (n, N), 1 or 0)."""
    for start in range(0, len(own), chunk):
        part = slice(start, min(start + chunk, len(own)))
        yield part, own[part] @ others.T, _fit(ids[part], all_ids)


def _fit(ids: Tensor, others: Tensor) -> Tensor:
    """(n, N): 1 where image or caption is the same, else 0."""
    return ((ids[:, 0, None] == others[:, 0]) | (ids[:, 1, None] == others[:, 1])).float()


@dataclass
class DualEncoderOutput(ModelOutput):
    """loss: (). projections: (B, 2, P + 1), image and text, see `objective`. pooler_output: (B, P), of the images."""

    loss: Tensor | None = None
    projections: Tensor | None = None
    pooler_output: Tensor | None = None


class CLIPForPreTraining(PreTrainedModel):
    """Both towers under CLIP's or SigLIP's loss. Their own weights are random; `start_from` gives them others."""

    config: CLIPPreTrainingConfig
    config_class = CLIPPreTrainingConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")

    def __init__(self, config: CLIPPreTrainingConfig):
        super().__init__(config)
        if config.loss not in START:
            raise ValueError(f"loss must be one of {', '.join(START)}, got {config.loss!r}")
        log_scale, bias = START[config.loss]
        networks = image_network(config), AutoModel.from_config(AutoConfig.for_model(**config.text))
        self.encoder = DualEncoder(*networks, config.description, log_scale=log_scale, bias=bias)
        for tower in (self.encoder.image, self.encoder.text):
            if isinstance(tower.projection, nn.Linear):
                nn.init.normal_(tower.projection.weight, std=tower.projection.in_features**-0.5)
        self.encoder.bias.requires_grad_(config.loss == "siglip")  # nothing of CLIP's loss depends on it
        self.post_init()
        self.train()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Each library has initialised its own network; here are only the buffers that no checkpoint holds."""
        if hasattr(module, "init_non_persistent_buffers"):  # timm's protocol for models made on the meta device
            module.init_non_persistent_buffers()

    @property
    def locked(self) -> nn.Module | None:
        """The network that is not trained."""
        tower = getattr(self.encoder, self.config.locked, None)
        return None if tower is None else tower.network

    def train(self, mode: bool = True):
        super().train(mode)
        if self.locked is not None:
            self.locked.eval().requires_grad_(False)
        return self

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
        return_loss: bool = True,
    ) -> DualEncoderOutput:
        """pixel_values: (B, C, H, W), normalised. input_ids, attention_mask: (B, T). labels: (B, 2), the numbers of
        image and caption, see `clip_loss`."""
        images, texts = self.encoder.image(pixel_values), self.encoder.text(input_ids, attention_mask)
        numbers = torch.stack([self.encoder.log_scale, self.encoder.bias]).float().expand(len(images), 2)
        projections = torch.cat([torch.stack([images, texts], 1), numbers[..., None]], 2)
        loss = self.objective(projections, labels) if return_loss else None
        return DualEncoderOutput(loss=loss, projections=projections, pooler_output=images)

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss of a whole batch.

        projections: (B, 2, P + 1): of each pair the projections of image and text, and behind these the logarithm of
        the scale and the bias, so that gradients which are cached batch by batch reach both. labels: (B, 2).
        """
        (images, texts), (log_scale, bias) = projections[..., :-1].unbind(1), projections[0, :, -1].unbind()
        if self.config.loss == "clip":
            return clip_loss(images, texts, log_scale, labels)
        return siglip_loss(images, texts, log_scale, bias, labels)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Keeps the scale at 100 or below."""
        self.encoder.log_scale.clamp_(max=LARGEST)


def image_network(config: CLIPPreTrainingConfig) -> nn.Module:
    """That of the configuration, with random weights."""
    if "config" in config.image:
        return AutoModel.from_config(AutoConfig.for_model(**config.image["config"]))
    maps = {"global_pool": ""} if config.description["image"]["pooling"] == "attention" else {}
    return timm.create_model(config.image["architecture"], num_classes=0, **config.image["arguments"], **maps)


__all__ = ["CLIPForPreTraining", "clip_loss", "siglip_loss"]
