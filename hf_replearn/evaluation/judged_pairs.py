"""Several encoders of images and texts on the same pairs, beside what must be beaten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from datasets import Dataset
from PIL import Image
from torch import Tensor, nn

from hf_replearn.data.decoding import picture_of
from hf_replearn.encoders.pair_encoder import PairEncoder
from hf_replearn.evaluation.pairs import (
    PROTOCOLS,
    SIDE,
    SWAPPED,
    TEXT_OF_IMAGE,
    PairTask,
    chance,
    embed_images,
    judge_retrieval,
    judge_swapped,
    linear_map,
)
from hf_replearn.evaluation.repetitions import INTERVAL
from hf_replearn.evaluation.steps import reason
from hf_replearn.representation import ImagePreprocessor, extract

CHANCE, LINEAR = "chance", "linear map of pixels to words"


@dataclass
class JudgedPairs:
    """rows, missing, protocols: as of a report. found: row -> metric -> (Q,), how well each query did."""

    rows: dict[str, dict[str, float | None]] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)
    found: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """What one encoder finds among some pairs, for a picture: vectors of length 1 of the images and captions."""

    task: PairTask
    images: Tensor
    texts: Tensor

    def picture(self, image: int) -> Image.Image:
        """The image of that number, to look at."""
        return picture_of(self.task.rows[image])


def judge_pairs(
    encoders: dict[str, PairEncoder],
    parts: dict[str, Dataset],
    *,
    sources: dict[str, str],
    train: Dataset | None = None,
    seed: int = 0,
    workers: int = 0,
) -> tuple[JudgedPairs, Shown]:
    """The scores of each encoder, of a linear map that is fitted on `train` where there is some, and of chance; and
    what the first encoder finds in the first part.

    parts: what the names of its scores end with -> rows as of `PairData`. sources: the same -> where they are from.
    """
    judged, shown = JudgedPairs(), None
    tasks = {end: PairTask.of(rows) for end, rows in parts.items()}
    for row, encoder in encoders.items():
        judged.rows[row] = {}
        for end, task in tasks.items():
            images = embed_images(encoder, task.rows, workers=workers, told=row)
            texts = encoder.texts(task.texts)
            shown = shown or Shown(task, images, texts)
            add(judged, row, end, task, images, texts, embed=encoder.texts, seed=seed)
    if train is not None:
        add_linear_map(judged, tasks, train, seed=seed, workers=workers)
    judged.rows[CHANCE] = {}
    for end, task in tasks.items():
        judged.rows[CHANCE] |= {named(metric, end): value for metric, value in chance(task).items()}
        if any(named(SWAPPED, end) in scores for scores in judged.rows.values()):
            judged.rows[CHANCE][named(SWAPPED, end)] = 0.5
        about = {"images": f"{len(task.rows):,}", "texts": f"{len(task.texts):,}", "pairs": f"{len(task.right):,}"}
        for protocol, sentence in PROTOCOLS.items():
            if any(metric.split("@")[0] == protocol + end for scores in judged.rows.values() for metric in scores):
                judged.protocols[protocol + end] = sentence.format(source=sources[end], **about)
    return judged, shown


def named(metric: str, end: str) -> str:
    """text_of_image_unseen@5 of text_of_image@5."""
    protocol, at, k = metric.partition("@")
    return f"{protocol}{end}{at}{k}" if at or not protocol.endswith(INTERVAL) else (
        f"{protocol.removesuffix(INTERVAL)}{end}{INTERVAL}"
    )  # fmt: skip


def add(
    judged: JudgedPairs,
    row: str,
    end: str,
    task: PairTask,
    images: Tensor,
    texts: Tensor,
    *,
    embed: Callable[[list[str]], Tensor],
    seed: int,
) -> None:
    """The scores of one encoder on one part."""
    outcomes = [judge_retrieval(images, texts, task.right, seed=seed), judge_swapped(images, task, embed, seed=seed)]
    for outcome in outcomes:
        if outcome is not None:
            judged.rows.setdefault(row, {}).update({named(name, end): value for name, value in outcome.scores.items()})
            judged.found.setdefault(row, {}).update({named(name, end): value for name, value in outcome.found.items()})


def add_linear_map(judged: JudgedPairs, tasks: dict[str, PairTask], train: Dataset, *, seed: int, workers: int) -> None:
    """The scores of what a linear map tells; of captions without words, why there are none."""
    try:
        of_images, of_texts = linear_map(train, partial(pixels, workers=workers), seed=seed)
    except ValueError as error:
        judged.rows[LINEAR] = {f"{TEXT_OF_IMAGE}@1": None}
        judged.missing[LINEAR] = {f"{TEXT_OF_IMAGE}@1": reason(error)}
        return
    for end, task in tasks.items():
        add(judged, LINEAR, end, task, of_images(task.rows), of_texts(task.texts), embed=of_texts, seed=seed)


def pixels(rows: Dataset, *, workers: int = 0) -> Tensor:
    """(n, D): few pixels, of each colour."""
    preprocess = ImagePreprocessor(SIDE, (0.5,), (0.5,))
    return extract(nn.Flatten(), rows.select_columns("image"), preprocess=preprocess, num_workers=workers).x
