"""What is asked of a representation: what an evaluation found, and what of a run is known besides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_replearn.encoders.codes import code_of
from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.errors import InputError
from hf_replearn.evaluation.contestants import Asked, Contestant
from hf_replearn.evaluation.desiderata import NEAREST, PAIRS, Found, desiderata, gain_of_codes
from hf_replearn.evaluation.examples import Examples
from hf_replearn.evaluation.steps import alone
from hf_replearn.representation import extract
from hf_replearn.sharing.report import FILE, Evaluation, Report, load

OF_FACTORS = ("true factors", "rotated factors")  # rows that are no encoders


def asked_of(
    report: Evaluation, contestants: Mapping[str, Contestant], asked: Asked, examples: Examples, *, seed: int
) -> list[dict[str, Any]]:
    """The lines of the table, of the encoders that were asked for. What cannot be had is a dash."""
    rows = [row for row in report.rows if contestants[row].asked]
    found = Found(report.rows, report.properties, report.layers, {}, {})
    for row in rows:
        given = asked.given[row]
        if isinstance(given, str) and Path(given, FILE).is_file():
            found.disentanglement |= known_factors(given, row)
        if examples.images and isinstance(given, str) and Path(given, "pretraining").is_dir():
            measure = partial(interpolated, given, *examples.parts, seed=seed)
            told, missing = alone(measure, metrics=["interpolation"], what=f"interpolation of {row}")
            found.interpolation[row] = told.get("interpolation")
            report.missing[row] |= missing
    return desiderata(found, asked=rows)


def known_factors(folder: str, row: str) -> dict[str, float | None]:
    """The mutual information gap of a run, as `row`, and of its baselines, where its report has one."""
    try:
        report = load(folder)
    except InputError:  # what else lies there says nothing of the encoder
        return {}
    if not isinstance(report, Report):
        return {}
    metric = next((name for name in report.metrics if name.startswith("mig_")), None)
    scores = {other: found.get(metric) for other, found in report.rows.items() if other not in OF_FACTORS}
    return (
        {row if place == 0 else other: value for place, (other, value) in enumerate(scores.items())} if metric else {}
    )


def interpolated(folder: str, train: Dataset, test: Dataset, *, seed: int) -> dict[str, float]:
    """`gain_of_codes` of a run with a decoder; nothing of others."""
    encoder = code_of(find_encoder(folder, modality="image"))
    if encoder is None:
        return {}
    model = encoder.network.model
    parts = train.select(range(min(NEAREST, len(train)))), test.select(range(min(2 * PAIRS, len(test))))
    codes = [extract(encoder.network, part, preprocess=encoder.preprocess).x for part in parts]
    device = next(model.parameters()).device
    return {"interpolation": gain_of_codes(*codes, lambda some: model.decode(some.to(device)), seed=seed)}
