"""What PyTorch cannot do in bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn


@contextmanager
def undefined_gradients(model: nn.Module) -> Iterator[list[str]]:
    """Names of the layers, called inside, whose gradient in bfloat16 on a CPU is not defined.

    Of a convolution on maps narrower than its stride, of a kernel wider than one pixel, oneDNN reads memory for it that
    nobody has written: NaN, or numbers that look like a gradient (PyTorch 2.11 to 2.14).
    """
    found: list[str] = []
    convolutions = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(partial(_look, found, name)) for name, layer in convolutions]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _look(found: list[str], name: str, layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
    if inputs[0].shape[-1] < layer.stride[-1] and layer.kernel_size[-1] > 1:
        found.append(name)
