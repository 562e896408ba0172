"""Learning-rate schedules: the factor on the peak rate, as a function of the progress of the run from 0 to 1.

The progress is a share of the steps or, under a time budget, of the minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal


def by_name(name: Literal["stable", "linear", "cosine"], *, warmup: float, decay: float) -> Callable[[float], float]:
    """The schedule of the settings `--schedule`, `--warmup` and, of the stable one, `--decay`."""
    if name == "stable":
        return partial(warmup_stable_decay, warmup=warmup, decay=decay)
    return partial({"linear": linear, "cosine": cosine}[name], warmup=warmup)


def warmup_stable_decay(progress: float, *, warmup: float, decay: float) -> float:
    """Linear warm-up, then constant, then linear to zero over the last share `decay` of the run (Hu et al. 2024)."""
    return min(_warm(progress, warmup), (1 - progress) / decay if decay else 1.0, 1.0)


def linear(progress: float, *, warmup: float) -> float:
    """Linear warm-up, then linear to zero (Devlin et al. 2019)."""
    return min(_warm(progress, warmup), (1 - progress) / max(1 - warmup, 1e-9))


def cosine(progress: float, *, warmup: float) -> float:
    """Linear warm-up, then half a cosine to zero (Radford et al. 2018)."""
    after = max(0.0, progress - warmup) / max(1 - warmup, 1e-9)
    return min(_warm(progress, warmup), 1.0) * (1 + math.cos(math.pi * min(after, 1.0))) / 2


def _warm(progress: float, warmup: float) -> float:
    return progress / warmup if warmup else math.inf
