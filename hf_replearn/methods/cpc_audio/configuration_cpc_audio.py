"""Configuration of CPC on sounds (van den Oord et al. 2018, section 3.1)."""

import math

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class CPCAudioConfig(PreTrainedConfig):
    """The defaults are the paper's.

    sampling_rate:    samples a second of the sounds.
    kernels, strides: of the convolutions of f, in places of their input.
    channels:         of each of them, D. context_dim: width C of the recurrent network that sums up what was heard.
    steps_ahead:      frames that are told from a context, K.
    """

    model_type = "cpc_audio"

    sampling_rate: int = 16_000
    kernels: list[int] | tuple[int, ...] = (10, 8, 4, 4, 4)
    strides: list[int] | tuple[int, ...] = (5, 4, 2, 2, 2)
    channels: int = 512
    context_dim: int = 256
    steps_ahead: int = 12

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        pairs = list(zip(self.kernels, self.strides, strict=False))
        if len(self.kernels) != len(self.strides) or any(kernel < stride for kernel, stride in pairs):
            raise ValueError(
                f"kernels {list(self.kernels)} and strides {list(self.strides)}: each convolution has one of both, and "
                "a stride is no larger than its kernel, or samples would never be heard"
            )
        self.auto_map = {
            "AutoConfig": "configuration_cpc_audio.CPCAudioConfig",
            "AutoModel": "modeling_cpc_audio.CPCAudioModel",
            "AutoModelForPreTraining": "modeling_cpc_audio.CPCAudioForPreTraining",
        }

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return math.prod(self.strides)


__all__ = ["CPCAudioConfig"]
