"""How much of what comes next is told from what was heard."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from hf_replearn.sharing.report import OwnTask

TOLD = "told.png"


def measure(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> tuple[list[float], float, float]:
    """The loss (nats) of each step ahead; that of guessing among all frames of a batch; and among those of the right
    sound: means over windows."""
    losses, chance, sound, told = 0.0, 0.0, 0.0, 0
    for batch in batches:
        count, samples = batch["input_values"].shape
        frames = samples // model.config.hop
        losses = losses + count * model(**batch).losses.double().cpu()
        chance, sound = chance + count * math.log(count * frames), sound + count * math.log(frames)
        told += count
    return (losses / told).tolist(), chance / told, sound / told


def own_task(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> OwnTask:
    """The loss beside that of guessing among all frames of a batch, and among those of the right sound."""
    losses, chance, sound = measure(model, batches)
    hop = 1000 * model.config.hop / model.config.sampling_rate
    rows = {
        "this run": sum(losses) / len(losses),
        f"this run, the nearest frame ({hop:.3g} ms on)": losses[0],
        f"this run, the farthest ({len(losses) * hop:.3g} ms on)": losses[-1],
        "who knows the sound, not the place": sound,
        "chance": chance,
    }
    return OwnTask(
        told="Which of all frames of a batch is the one so many steps on? A sound's own frames are among them. What is "
        "told of it in nats is the least that context and frame have in common (mutual information); the nearest "
        "frames share samples with what was heard.",
        rows={name: {"loss (nats)": value, "told (nats)": chance - value} for name, value in rows.items()},
        smaller=["loss (nats)"],
    )


def pictures(model: nn.Module, batches: Iterable[dict[str, Tensor]], folder: Path) -> dict[str, str]:
    """What is told of each step ahead."""
    from matplotlib.figure import Figure

    losses, chance, sound = measure(model, batches)
    hop = 1000 * model.config.hop / model.config.sampling_rate
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    ahead = [hop * step for step in range(1, len(losses) + 1)]
    axes.plot(ahead, [chance - loss for loss in losses], "o-", color="#0b63ce", label="this run")
    axes.axhline(chance - sound, color="#c9470b", ls="--", label="who knows the sound, not the place")
    axes.axhline(0, color="#6e7781", ls=":", label="chance")
    axes.set(xlabel="how far ahead (ms)", ylabel="told of the frame (nats)", xlim=(0, ahead[-1] + hop))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / TOLD, dpi=150)
    return {
        TOLD: "What the context tells of a frame further on, by how far: nats below chance, which is to guess among "
        "all frames of a batch. Above the dashed line it tells more than which of the sounds it is."
    }
