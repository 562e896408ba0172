"""CPC on sounds (van den Oord et al. 2018, arXiv:1807.03748, section 3.1): from what was heard, which of all frames of
the batch is the one so many steps on?

B sounds, T samples, F frames of `hop` samples, D channels of a frame, C of a context, K steps ahead
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from .configuration_cpc_audio import CPCAudioConfig


class CausalConvolution(nn.Module):
    """A convolution in strides, each of whose outputs ends with its stride: it sees nothing that comes later. Each
    frame is normalised by itself over its channels (Rivière et al. 2020): batch normalisation would tell of others."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride)
        self.norm = nn.LayerNorm(outputs)
        self.before = kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T) -> (B, outputs, T // stride)"""
        return relu(self.norm(self.conv(pad(x, (self.before, 0))).mT).mT.contiguous())  # faster than on the view


class CPCAudioPreTrainedModel(PreTrainedModel):
    config: CPCAudioConfig
    config_class = CPCAudioConfig
    base_model_prefix = "model"
    main_input_name = "input_values"
    input_modalities = ("audio",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            for weight in module.parameters():
                init.uniform_(weight, -(module.hidden_size**-0.5), module.hidden_size**-0.5)  # as PyTorch's own
        elif isinstance(module, nn.Linear):  # predictions: the loss begins at that of chance
            init.normal_(module.weight, std=0.1 * module.in_features**-0.5)


class CPCAudioModel(CPCAudioPreTrainedModel):
    """f, convolutions that make a frame z of each `hop` samples, and a recurrent network that makes a context c of all
    frames up to one."""

    _keys_to_ignore_on_load_unexpected = (r"^predict\.",)

    def __init__(self, config: CPCAudioConfig):
        super().__init__(config)
        widths = [1, *[config.channels] * len(config.kernels)]
        self.frames = nn.Sequential(*map(CausalConvolution, widths, widths[1:], config.kernels, config.strides))
        self.context = nn.GRU(config.channels, config.context_dim, batch_first=True)
        self.post_init()

    def forward(
        self, input_values: Tensor, attention_mask: Tensor | None = None, output_hidden_states: bool = False
    ) -> BaseModelOutputWithPooling:
        """input_values: (B, T), samples in -1...1 at the sampling rate of the configuration. attention_mask: (B, T), 1
        where the sound is, 0 behind its end, as the feature extractor pads.

        last_hidden_state: contexts (B, F, C), F = T // hop; none sees a later sample. pooler_output: (B, C), the mean.
        hidden_states: frames (B, F, D) and contexts.
        """
        frames = self.frames(input_values[:, None]).mT
        contexts = self.context(frames)[0]
        if attention_mask is None:
            pooled = contexts.mean(1)
        else:
            count = attention_mask.sum(1, keepdim=True) // self.config.hop
            there = torch.arange(contexts.shape[1], device=contexts.device) < count
            pooled = (contexts * there[:, :, None]).sum(1) / count.clamp(min=1)
        states = (frames, contexts) if output_hidden_states else None
        return BaseModelOutputWithPooling(last_hidden_state=contexts, pooler_output=pooled, hidden_states=states)


@dataclass
class CPCAudioOutput(ModelOutput):
    """loss: () in nats, absent with `return_loss=False`. pooler_output: (B, C). losses: (K,), of each step ahead."""

    loss: Tensor | None = None
    pooler_output: Tensor | None = None
    losses: Tensor | None = None


def info_nce(predictions: Tensor, frames: Tensor, steps: int) -> Tensor:
    """Cross entropy in nats (equation 4) of telling the frame that lies `steps` after each context from all frames of
    all sounds; ln(B F) at chance.

    predictions: (B, F, D), made of the contexts at F places. frames: (B, F, D).
    """
    numbers = torch.arange(frames.shape[0] * frames.shape[1], device=frames.device).view(frames.shape[:2])
    told, candidates = predictions[:, :-steps].flatten(0, 1).float(), frames.flatten(0, 1).float()
    return cross_entropy(told @ candidates.T, numbers[:, steps:].flatten())


class CPCAudioForPreTraining(CPCAudioPreTrainedModel):
    """The encoder, and a linear map W_k of the context for each step ahead (equation 3), thrown away after it."""

    accepts_loss_kwargs = False  # the loss is a mean over this batch: Trainer has no item count to pass

    def __init__(self, config: CPCAudioConfig):
        super().__init__(config)
        self.model = CPCAudioModel(config)
        self.predict = nn.ModuleList(
            nn.Linear(config.context_dim, config.channels, bias=False) for _ in range(config.steps_ahead)
        )
        self.post_init()

    def forward(self, input_values: Tensor, return_loss: bool = True) -> CPCAudioOutput:
        """input_values: (B, T), windows of sounds of more than `steps_ahead` frames."""
        found = self.model(input_values, output_hidden_states=True)
        if not return_loss:
            return CPCAudioOutput(pooler_output=found.pooler_output)
        frames, contexts = found.hidden_states
        # The (B F)² products of a step are not kept for the gradient but made again.
        losses = [
            checkpoint(info_nce, predict(contexts), frames, steps, use_reentrant=False)
            for steps, predict in enumerate(self.predict, start=1)
        ]
        losses = torch.stack(losses)
        return CPCAudioOutput(loss=losses.mean(), pooler_output=found.pooler_output, losses=losses.detach())


__all__ = ["CPCAudioForPreTraining", "CPCAudioModel"]
