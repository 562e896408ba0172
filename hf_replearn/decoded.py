"""Images from numbers, and on the way from one image to another, by the decoder of a run: `hr.decode` and
`hr.interpolate`.

N codes, K numbers of a code, H x W pixels
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hf_replearn.encoders.codes import Coding, code_of
from hf_replearn.encoders.encoder import Encoder, find_encoder
from hf_replearn.encoding import as_rows
from hf_replearn.errors import InputError

TOGETHER = 256  # images in one pass
MOST = 1000  # images of an interpolation


def decode(run: str | os.PathLike, codes: Any) -> np.ndarray:
    """The images that the decoder of a run makes of codes: (N, K) -> (N, H, W) uint8 of grey images, else
    (N, H, W, C).

    run:   the folder of a run of `autoencoder`, `vae` or `gan`, of which `pretraining/` has the decoder.
    codes: numbers (N, K): arrays, lists, tensors. Of a VAE the mean image of each is made; draws of a standard normal
           are images that are made up, as are those of a GAN.
    Raises InputError for a run without a decoder, other widths than K, and numbers that are not finite.
    """
    _, model = _open(run)
    return _images(model, _numbers(codes, width_of(model)))


def interpolate(run: str | os.PathLike, first: Any, last: Any, *, steps: int = 9) -> np.ndarray:
    """Images on the way from one to another, in equal steps between their codes, both included: (steps, H, W) uint8 of
    grey images, else (steps, H, W, C).

    run: as for `decode`. first, last: images: PIL, or arrays (H, W) or (H, W, C), as `hf_replearn.encode` takes them.
    Raises InputError for a run without a decoder, for what is no image, and for fewer than two steps.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= MOST:
        raise InputError(f"steps={steps!r}: give a whole number from 2, the two ends, to {MOST}")
    coder, model = _open(run)
    with torch.no_grad():
        ends = coder.network(coder.preprocess([dict(row) for row in _rows([first, last])])).float()
    share = torch.linspace(0, 1, steps)[:, None]
    return _images(model, torch.lerp(ends[:1], ends[1:], share))


def width_of(model: nn.Module) -> int:
    """K, of the decoder's first layer."""
    config = model.config
    return getattr(config, "latents", None) or config.code


def _open(run: str | os.PathLike) -> tuple[Encoder, nn.Module]:
    """What gives the codes of images, and the model that has the decoder."""
    folder = Path(run)
    if not folder.is_dir():
        raise InputError(
            f"{str(run)!r:.80} is no folder: give that of a run of `hf-replearn autoencoder`, `vae` or `gan`"
        )
    coder = code_of(find_encoder(str(folder), modality="image", named=str(folder)))
    if coder is None or not isinstance(coder.network, Coding) or not hasattr(coder.network.model, "decode"):
        raise InputError(
            f"{folder} has no decoder of a code in pretraining/: give a run of `hf-replearn autoencoder`, `vae` or "
            "`gan`"
        )
    return coder, coder.network.model


def _rows(images: Sequence[Any]) -> Sequence[dict]:
    rows = as_rows(list(images), None)
    if "text" in rows[0]:
        raise InputError(f"{images[0]!r:.60} is a text: give two images, PIL or arrays")
    return [rows[number] for number in range(len(rows))]


def _numbers(codes: Any, width: int) -> Tensor:
    """(N, K) float32. Raises InputError."""
    try:
        numbers = codes.detach().cpu() if isinstance(codes, Tensor) else np.asarray(codes, dtype=np.float32)
        numbers = torch.as_tensor(numbers, dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"codes must be numbers in rows of {width}: {' '.join(str(error).split())[:80]}") from error
    if numbers.ndim != 2 or numbers.shape[1] != width or not len(numbers):
        raise InputError(f"codes of shape {tuple(numbers.shape)}: this decoder takes (N, {width}), a row an image")
    if not numbers.isfinite().all():
        raise InputError(f"{int((~numbers.isfinite()).any(1).sum())} of {len(numbers)} codes are NaN or infinite")
    return numbers


@torch.no_grad()
def _images(model: nn.Module, codes: Tensor) -> np.ndarray:
    levels = torch.cat([model.decode(part) for part in codes.split(TOGETHER)])
    images = (levels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return images[..., 0] if images.shape[-1] == 1 else images
