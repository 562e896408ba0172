"""What `--report_to` shows after training: scores and pictures beside the losses, which the Trainer has sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hf_replearn.sharing.report import INTERVAL, Report, finite
from hf_replearn.sharing.show import try_to_show

if TYPE_CHECKING:
    from transformers import Trainer

Scores = dict[str, float]
Pictures = dict[str, tuple[Path, str]]  # name -> file, and what it shows


def tell_trackers(report: Report, folder: str | Path, trainer: Trainer) -> None:
    """Sends the scores and pictures of a run to those of its trackers that are known here; each may fail, with a word.

    folder: where the pictures of the report lie.
    """
    scores, pictures = scores_of(report), pictures_of(report, folder)
    for name in trainer.args.report_to:
        if name in TELL:
            tell = partial(TELL[name], trainer, scores, pictures, step=report.training.steps)
            try_to_show(f"scores and pictures in {name}", tell)


def scores_of(report: Report) -> Scores:
    """{"scores/SimCLR/knn@20": 0.9, "held_out_loss/this model": 3.5}: without intervals and what was not measured."""
    found = {
        f"scores/{row}/{metric}": finite(value)
        for row, scores in report.rows.items()
        for metric, value in scores.items()
        if not metric.endswith(INTERVAL)
    }
    found |= {f"held_out_loss/{row}": finite(loss) for row, loss in report.training.held_out.items()}
    return {name: value for name, value in found.items() if value is not None}


def pictures_of(report: Report, folder: str | Path) -> Pictures:
    """{"augmentations": (file, what it shows)} of those that are there."""
    files = {Path(folder, name): caption for name, caption in report.figures.items()}
    return {path.stem: (path, caption) for path, caption in files.items() if path.is_file()}


def _tensorboard(trainer: Trainer, scores: Scores, pictures: Pictures, *, step: int) -> None:
    """Into the folder of the losses; of a run that had nothing left to train, beside those of earlier ones."""
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    callbacks = trainer.callback_handler.callbacks
    told = [callback.logging_dir for callback in callbacks if isinstance(callback, TensorBoardCallback)]
    folder = next(filter(None, told), str(Path(trainer.args.output_dir, "runs", "results")))
    with SummaryWriter(log_dir=folder) as writer:
        for name, value in scores.items():
            writer.add_scalar(name, value, step)
        for name, (path, caption) in pictures.items():
            with Image.open(path) as image:
                writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")
            writer.add_text(name, caption, step)


def _wandb(trainer: Trainer, scores: Scores, pictures: Pictures, *, step: int) -> None:
    """Into the run of the losses, which stays open after training; scores also into its summary."""
    import wandb

    run = wandb.run or wandb.init(project=trainer.args.project, name=trainer.args.run_name)
    run.log(scores | {name: wandb.Image(str(path), caption=caption) for name, (path, caption) in pictures.items()})
    run.summary.update(scores)


def _trackio(trainer: Trainer, scores: Scores, pictures: Pictures, *, step: int) -> None:
    """Into the run of the losses, which was finished after training and is gone on with."""
    import trackio

    args = trainer.args
    trackio.init(project=args.project, name=args.run_name, space_id=args.trackio_space_id, resume="allow")
    trackio.log(
        scores | {name: trackio.Image(str(path), caption=caption) for name, (path, caption) in pictures.items()}
    )
    trackio.finish()


TELL: dict[str, Callable[..., None]] = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
