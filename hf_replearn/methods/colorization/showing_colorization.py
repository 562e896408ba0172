"""How well colours are told, and pictures of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from hf_replearn.data.colours import lab_to_rgb
from hf_replearn.methods.colorization.modeling_colorization import (
    annealed_mean,
    bins,
    colour_cross_entropy,
    rebalancing,
    soft_encode,
)
from hf_replearn.sharing.drawn import draw_columns
from hf_replearn.sharing.report import OwnTask

SHOWN = 8  # images
PICTURE = "colours.png"
LOSS, ERROR = "cross entropy (nats)", "error of a and b (RMS)"


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """Cross entropy and error of the colours, beside who knows only how often each colour is met."""
    collator = batches.collator
    favoured = rebalancing(torch.tensor(collator.prior), collator.share).log()  # a network of weight v tells p v, not p
    prior = torch.tensor(collator.prior).log().clamp(min=-30.0)
    sums, strength, true_strength = {}, 0.0, 0.0
    for views in batches:
        ab, told = views["ab"], model(**views, return_loss=False).told
        constant = prior.to(ab.device).view(1, -1, 1, 1).expand(len(ab), -1, *ab.shape[2:])
        own = soft_encode(ab)[1]
        rows = {"this run": (colour_cross_entropy(told, ab) if model.classes else None, model.colours(told))}
        if model.classes and collator.share < 1:
            plain = told.float() - favoured.to(ab.device).view(1, -1, 1, 1)
            rows["this run, rare colours not favoured"] = (colour_cross_entropy(plain, ab), annealed_mean(plain))
        rows |= {
            "colours as often as in training": (colour_cross_entropy(constant, ab), annealed_mean(constant)),
            "all grey": (None, torch.zeros_like(ab)),
            "the bins themselves": (-(own * own.clamp(min=1e-30).log()).sum(1).mean(), None),
        }
        for name, (loss, colours) in rows.items():
            error = None if colours is None else (colours - ab).square().mean()
            values = torch.tensor([math.nan if value is None else float(value) for value in (loss, error)])
            sums[name] = sums.get(name, 0) + len(ab) * values.double()
        strength += len(ab) * rows["this run"][1].norm(dim=1).mean().item()
        true_strength += len(ab) * ab.norm(dim=1).mean().item()
    found = {name: (total / len(batches)).tolist() for name, total in sums.items()}
    return OwnTask(
        told=f"Which of {len(bins())} colours has each square of {model.config.colour_stride} pixels of a grey image? "
        f"Its colours are {strength / max(true_strength, 1e-9):.2f} times as strong as the true ones.",
        rows={
            name: {LOSS: None if math.isnan(loss) else loss, ERROR: None if math.isnan(error) else error**0.5}
            for name, (loss, error) in found.items()
        },
        smaller=[LOSS, ERROR],
    )


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Grey images, coloured, and as they are."""
    views = batches.few(SHOWN)
    collator = batches.collator
    lightness = 100 * (views["pixel_values"].float() * collator.std[0] + collator.mean[0])
    told = model.colours(model(**views, return_loss=False).told)

    def coloured(ab: Tensor) -> Tensor:
        return lab_to_rgb(torch.cat([lightness, interpolate(ab, lightness.shape[2:], mode="bilinear")], 1))

    columns = {
        "seen": lightness / 100,
        "told": coloured(told),
        "true colours, as coarse": coloured(views["ab"]),
    }
    draw_columns(columns, folder / PICTURE)
    how = "the annealed mean of its distribution, T = 0.38" if model.classes else "the colour of least squared error"
    return {PICTURE: f"Grey images, the colours that the network gave them ({how}), and their own, as coarse."}
