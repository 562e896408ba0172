"""What an autoencoder's code keeps of an image, beside principal components of the same number, and pictures of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.evaluation.reconstruction import Components, principal_components
from hf_replearn.methods.codes import Codes
from hf_replearn.methods.showing_codes import SHOWN, draw_between, draw_map, look, trained_on
from hf_replearn.sharing.drawn import draw_lines
from hf_replearn.sharing.report import OwnTask

PICTURE, BETWEEN, MAP = "reconstructions.png", "interpolation.png", "codes.png"
ERROR, SHARE = "squared error", "share of variance"
EXCESS, ANGLE, OFF = "excess over PCA", "largest angle (degrees)", "largest error of 1 - l2 / variance"


def codes(model: nn.Module) -> dict[str, nn.Module]:
    """The code as a row of the report, unless it is the features."""
    return {} if model.config.linear else {f"its code ({model.config.code})": Codes(model)}


def own_task(model: nn.Module, batches) -> OwnTask:
    """Mean squared error of levels from 0 to 1 of images held out, and the share of their variance that is kept, beside
    the principal components of the training images, as many as the code has numbers, and their mean."""
    noisy = bool(batches.collator.noise)
    known = principal_components(trained_on(batches), model.config.code)
    errors: dict[str, float] = {}
    numbers = 0
    for views in batches:
        levels = views["levels"].float().cpu()
        seen = look(views["pixel_values"], batches.collator)
        ways = {
            "this run": model(**views, return_loss=False).told.float().cpu().clamp(0, 1),
            f"PCA ({model.config.code})": known.rebuilt(seen).clamp(0, 1),
            **({"the noisy image": seen.clamp(0, 1)} if noisy else {}),
            "mean image": known.mean.view(1, *levels.shape[1:]).float().expand_as(levels),
        }
        for name, told in ways.items():
            errors[name] = errors.get(name, 0.0) + (told - levels).square().double().sum().item()
        numbers += levels.numel()
    rows = {name: {ERROR: total / numbers, SHARE: 1 - total / errors["mean image"]} for name, total in errors.items()}
    told = f"How near to the image is what the decoder makes of {model.config.code} numbers? Mean squared error of "
    told += "levels from 0 to 1, and the share of the variance around the mean training image that is kept"
    told += "; the encoder sees a noisy image, and the clean one is to be made." * noisy + "." * (not noisy)
    if model.config.linear and not noisy:
        rows["this run"] |= beside_pca(model, known)
        told += (
            f" On the training images a linear autoencoder can at best reach PCA's error: {EXCESS} is relative, and "
            "the angle is the largest between what the decoder and the components span."
        )
        if model.config.l2:
            told += (
                f" With --l2 {model.config.l2:g}, the squared singular values of the decoder are 1 - l2 / variance of "
                "the components (Kunin et al. 2019); what explains less than --l2 is left out."
            )
    return OwnTask(told=told, rows=rows, smaller=[ERROR, EXCESS, ANGLE, OFF])


def beside_pca(model: nn.Module, known: Components) -> dict[str, float]:
    """Of a linear autoencoder of levels from 0 to 1, on the training images: how much more it leaves than PCA does,
    relative; the largest angle, in degrees, between what both keep; and with `l2` how far the squared singular values
    of its decoder are from 1 - l2 / variance (Kunin et al. 2019, theorem 2), at most."""
    encoder, decoder = (matrix.detach().double().cpu() for matrix in model.matrices)
    kept = decoder @ encoder  # (D, D)
    left = known.left_by(kept, offset=offset_of(model, decoder))
    found = {EXCESS: left / known.left - 1, ANGLE: known.largest_angle(decoder)}
    if model.config.l2:
        singular = torch.linalg.svdvals(decoder).square()
        due = (1 - model.config.l2 / known.variances).clamp(min=0)
        found[OFF] = (singular - due).abs().max().item()
    return found


def offset_of(model: nn.Module, decoder: Tensor) -> Tensor:
    """What a linear autoencoder makes of an image of zeros: (D,)."""
    bias = model.model.encoder.layers[1].bias.detach().double().cpu()
    own = model.decoder.bias if model.config.tied else model.decoder[0].bias
    return decoder @ bias + own.detach().double().cpu()


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Images and what is made of their codes; and what lies between two images."""
    few, numbers = batches.few(SHOWN), model.config.code
    levels, code = few["levels"].float().cpu(), model.codes(few["pixel_values"])
    known = principal_components(trained_on(batches, most=10_000), numbers)
    seen = look(few["pixel_values"], batches.collator)
    lines = [("image", levels), ("seen", seen)] if batches.collator.noise else [("image", levels)]
    lines += [(f"from {numbers} numbers", model.decode(code)), (f"PCA ({numbers})", known.rebuilt(seen))]
    draw_lines(lines, folder / PICTURE)
    noisy = ", what the encoder saw of them" * bool(batches.collator.noise)
    return {
        PICTURE: f"Images{noisy}, what the decoder makes of their {numbers} numbers, and what as many principal "
        "components make of them.",
        BETWEEN: draw_between(model.decode, levels, code, folder / BETWEEN),
    } | draw_map(Codes(model), batches, folder / MAP, what="the codes")
