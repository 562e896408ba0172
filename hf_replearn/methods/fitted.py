"""What encoders share that are fitted in passes over the data and not trained by gradients through a deep network: an
image, its patches, or a vector -> numbers of one scale -> codes -> one vector.

It travels with the weights: saving a model copies this file beside the files of its method (`save_pretrained`).

B images, P patches of an image, N inputs (patches, whole images, or vectors), D numbers of an input, K components,
F numbers of a code, R regions a side
"""

from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

AT_ONCE = 2**10  # patches whose codes are held at a time: they stay in the cache of a CPU


@strict
class FittedConfig(PreTrainedConfig):
    """What rebuilds an encoder; a method adds its own. `model_type` is the name of its folder and files.

    recipe:       the command that fitted it, with underscores.
    inputs:       D. components: K.
    image_size:   pixels S a side of the images; None: vectors (B, D) are read, such as features of another encoder.
    num_channels: C of the images.
    patch_size:   pixels a side of the patches that are coded; None: the whole image, or vector, is coded. stride:
                  pixels between two patches. regions: R a side, over whose patches codes are summed.
    contrast:     added to the variance of an input, in squared units of its numbers, before its mean is taken off and
                  it is divided by its standard deviation; None: it is left as it is.
    whitened:     whether a matrix, fitted to the data, takes the inputs to unit covariance.
    trained_at:   size and crop of the images before the image processor.
    """

    recipe: str = ""
    inputs: int = 192
    components: int = 16
    image_size: int | None = None
    num_channels: int = 3
    patch_size: int | None = None
    stride: int = 1
    regions: int = 2
    contrast: float | None = None
    whitened: bool = False
    trained_at: dict | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        name, stem = type(self).__name__.removesuffix("Config"), self.model_type
        self.auto_map = {
            "AutoConfig": f"configuration_{stem}.{name}Config",
            "AutoModel": f"modeling_{stem}.{name}Model",
        }


class FittedModel(PreTrainedModel):
    """f: images (B, C, S, S) in 0...1, or vectors (B, D), to features (B, F), or (B, R R F) where patches are coded.

    A method defines `code`, and makes `self.shift` and what else it has before `post_init`; `signed` says whether codes
    may be negative. Those of patches are then split into what is above and below 0, (F,) -> (2 F,), before they are
    summed: opposite contrasts would cancel.
    """

    config: FittedConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    signed = False

    def __init__(self, config: FittedConfig):
        super().__init__(config)
        self.shift = nn.Parameter(torch.zeros(config.inputs))
        if config.whitened:
            self.whitener = nn.Parameter(torch.eye(config.inputs))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Random components of length 1 on the average, and no whitening: what a fit is to be compared with."""
        for name, weight in module.named_parameters(recurse=False):
            if name == "whitener":
                init.copy_(weight, torch.eye(len(weight)))
            elif weight.ndim == 2:
                init.normal_(weight, std=weight.shape[1] ** -0.5)
            else:
                init.zeros_(weight)

    def save_pretrained(self, save_directory, **kwargs):
        """As transformers', which copies the files of the method; and this file, which they import."""
        super().save_pretrained(save_directory, **kwargs)
        here, package = Path(__file__), "from hf_replearn.methods.fitted import"
        for path in Path(save_directory).glob(f"*_{self.config.model_type}.py"):
            path.write_text(path.read_text(encoding="utf-8").replace(package, "from .fitted import"), encoding="utf-8")
            path.with_name(here.name).write_text(here.read_text(encoding="utf-8"), encoding="utf-8")

    def code(self, inputs: Tensor) -> Tensor:
        """Inputs (N, D), normalised -> codes (N, F)."""
        raise NotImplementedError

    def coder(self) -> Callable[[Tensor], Tensor]:
        """`code`, with what is of the weights alone computed once for many calls."""
        return self.code

    def normalised(self, inputs: Tensor) -> Tensor:
        """Inputs (N, D) as `code` takes them: each by its own mean and deviation, then whitened or centred."""
        x = normalise(inputs, self.config.contrast)
        x = x - self.shift
        return x @ self.whitener if self.config.whitened else x

    def undone(self, x: Tensor) -> Tensor:
        """The inverse of `normalised`, up to the mean and deviation of each input: (N, D) -> (N, D)."""
        x = torch.linalg.solve(self.whitener, x, left=False) if self.config.whitened else x
        return x + self.shift

    def filters(self) -> Tensor:
        """(K, D): what each number of a code is of, as a picture shows it."""
        return self.components

    def patches(self, pixel_values: Tensor) -> Tensor:
        """(B, C, S, S) -> (B P, D), line by line; what stands next to each other in memory are the patches, of which
        long pieces are then copied, and not the few numbers of a line of a patch."""
        size, stride = self.config.patch_size, self.config.stride
        windows = pixel_values.unfold(2, size, stride).unfold(3, size, stride)  # (B, C, lines, columns, size, size)
        return windows.permute(1, 4, 5, 0, 2, 3).reshape(self.config.inputs, -1).T

    def forward(self, pixel_values: Tensor, output_hidden_states: bool = False) -> BaseModelOutputWithPooling:
        """pixel_values: (B, C, S, S) in 0...1, or vectors (B, D).

        last_hidden_state: (B, R R, F), of each region, or (B, 1, F). pooler_output: the same as one vector.
        """
        pixel_values = pixel_values.to(self.shift.dtype)
        if self.config.patch_size is None:
            found = self.code(self.normalised(pixel_values.flatten(1)))[:, None]
        else:
            code, of_patch = self.coder(), self._region_of_patch()
            some = max(1, AT_ONCE // of_patch.shape[1])
            found = torch.cat([self._regions(part, code, of_patch) for part in pixel_values.split(some)])
        states = (found,) if output_hidden_states else None
        return BaseModelOutputWithPooling(last_hidden_state=found, pooler_output=found.flatten(1), hidden_states=states)

    def _region_of_patch(self) -> Tensor:
        """(R R, P): 1 where a patch is of a region."""
        places = (self.config.image_size - self.config.patch_size) // self.config.stride + 1
        which = (
            torch.arange(places, device=self.shift.device) * self.config.regions // places
        )  # the region of each line
        of_line = nn.functional.one_hot(which, self.config.regions).to(self.shift)  # (places, R)
        return torch.einsum("yr,xs->rsyx", of_line, of_line).flatten(2).flatten(0, 1)

    def _regions(self, pixel_values: Tensor, code: Callable[[Tensor], Tensor], of_patch: Tensor) -> Tensor:
        """Codes of all patches, summed over regions: (B, C, S, S) -> (B, R R, F)."""
        codes = code(self.normalised(self.patches(pixel_values)))
        if self.signed:
            codes = torch.cat([codes.clamp(min=0), (-codes).clamp(min=0)], dim=1)
        return of_patch @ codes.unflatten(0, (len(pixel_values), -1))


def normalise(inputs: Tensor, contrast: float | None) -> Tensor:
    """Inputs (N, D), each less its mean and divided by the root of its variance + contrast; as they are without."""
    if contrast is None:
        return inputs
    centred = inputs - inputs.mean(1, keepdim=True)
    # torch.var_mean takes several times as long on a CPU.
    return centred.mul_((centred.square().mean(1, keepdim=True) + contrast).rsqrt_())


def register(config: type, encoder: type) -> None:
    """Makes the classes of a method known to AutoConfig and AutoModel; `save_pretrained` then copies their files beside
    the weights, for `trust_remote_code`."""
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(config, encoder, exist_ok=True)
    config.register_for_auto_class()
    encoder.register_for_auto_class("AutoModel")


__all__ = ["FittedConfig", "FittedModel", "normalise", "register"]
