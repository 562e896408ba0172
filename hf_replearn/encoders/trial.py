"""One real batch, twice, before anything is computed for long: does the encoder give one whole vector an example?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hf_replearn.encoders.pooling import Pooling
from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError

# Of the largest feature: what rounding may change, on the same batch and in another one. Padding changes far more.
SAME, ROUNDING, HALF_ROUNDING = 1e-5, 1e-3, 3e-2


@torch.no_grad()
def try_encoder(
    network: nn.Module,
    rows: Any,
    *,
    preprocess: Callable[[Sequence[dict]], Any],
    named: str,
    classifier: bool = False,
    examples: int = 4,
) -> Tensor:
    """The features, or logits, (B, D) of a few examples, from the shortest to the longest where rows are in that order.

    network: a module that takes what `preprocess` makes of examples; it is put into evaluation mode. Where padding
             changes the features of a text, a `Pooling` is set to take texts of one length at a time (`unpadded`).
    classifier: it is trained with padding, as transformers does it: that this changes its logits is only said.
    Raises InputError, which begins with `named`, where the network cannot read them, or gives no vector an example, or
    one that is not finite, or not the same one twice, or another one beside other examples than alone.
    """
    places = torch.linspace(0, len(rows) - 1, min(examples, len(rows))).long().tolist()
    chosen = [rows[place] for place in places]
    network.eval()
    with refusing(f"{named} cannot read these examples"):
        first, second = (_features(network, preprocess(chosen)) for _ in range(2))
        alone = _features(network, preprocess(chosen[:1]))
    if not isinstance(first, Tensor):
        raise InputError(f"{named} gives {type(first).__name__} for {len(chosen)} examples, not one vector an example")
    if first.ndim != 2 or len(first) != len(chosen) or alone.shape != first[:1].shape:
        raise InputError(
            f"{named} gives {list(first.shape)} for {len(chosen)} examples, not one vector an example: it is no "
            "encoder that can be judged"
        )
    if not first.isfinite().all():
        raise InputError(f"{named} gives NaN or infinite numbers: its weights have diverged or are broken")
    scale = first.abs().max()
    if (first - second).abs().max() > SAME * scale:
        raise InputError(f"{named} gives other numbers each time: part of it, or of its preprocessing, is random")
    if (alone - first[:1]).abs().max() <= _rounding(network) * scale:
        return first
    if classifier:
        print(f"{named}: what it says of an example depends a little on its batch, by padding", file=sys.stderr)
        return first
    if isinstance(network, Pooling) and not network.unpadded:
        network.unpadded = True
        print(f"{named} does not ignore padding: texts of one length at a time", file=sys.stderr)
        return try_encoder(network, rows, preprocess=preprocess, named=named, examples=examples)
    raise InputError(f"{named} gives an example other numbers beside other examples than alone")


def _features(network: nn.Module, batch: Any) -> Any:
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    found = network(batch.to(device))
    return found.float().cpu() if isinstance(found, Tensor) else found


def _rounding(network: nn.Module) -> float:
    """What rounding may change, by the precision of the weights."""
    types = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    return ROUNDING if types <= {torch.float32, torch.float64} else HALF_ROUNDING
